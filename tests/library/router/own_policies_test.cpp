// Policies of one's own: what a router checks of them when it is made, and that nothing but their
// call operators is taken for what they mean.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/multiple_testing.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/null/weighted.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/scaled.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

template <class Action>
std::string refusal(Action&& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "taken";
}

// ---- Critical values and nulls that break their promise

/// Step-up by a table.
struct ByTable {
  std::vector<double> values;

  double critical_value(int k, int) const noexcept { return values[index(k - 1)]; }
  int operator()(std::span<const double> p) const noexcept {
    int count = 0;
    for (int k = 1; k <= static_cast<int>(p.size()); ++k) {
      if (p[index(k - 1)] <= critical_value(k, 0)) count = k;
    }
    return count;
  }
};

/// Says 1 of its critical values, where its call operator is another rule.
struct SaysOtherwise : fd::BenjaminiHochberg {
  int operator()(std::span<const double> p) const noexcept { return static_cast<int>(p.size()); }
};

struct SaysAnotherCount : fd::TopK {
  int operator()(std::span<const double>) const noexcept { return 1; }
};

/// p = 1 below `edge`, `above` from there on.
struct Step {
  double edge;
  double above;

  double operator()(double score) const noexcept { return score < edge ? 0.5 : above; }
};

struct StepOfExpert {
  int bad;

  double operator()(double score, int expert) const noexcept {
    return score < 1.0 ? 0.5 : expert == bad ? 0.75 : 0.25;
  }
};

template <class R, class N>
std::string refusal_of(int experts, const R& rule, const N& null) {
  return refusal([&] { fd::Router(experts, rule, fd::Logit{}, null); });
}

}  // namespace

TEST_CASE("critical values that decrease, or are no numbers, are refused by their k") {
  const auto refused = [](std::vector<double> values) {
    const int experts = static_cast<int>(values.size());
    return refusal_of(experts, ByTable{std::move(values)}, fd::NormalNull{});
  };
  const double nan = std::nan("");
  CHECK(refused({0.01, 0.01, 0.5}) == "taken");
  CHECK(refused({0.5, 0.01}) ==
        "Router: critical values must be numbers and not decrease, got 0.01 at k = 2 after 0.5 at "
        "k = 1");
  CHECK(refused({0.1, 0.2, 0.3, 0.2, 0.1}) ==
        "Router: critical values must be numbers and not decrease, got 0.2 at k = 4 after 0.3 at "
        "k = 3");
  CHECK(refused({nan, 0.2}) ==
        "Router: critical values must be numbers and not decrease, got nan at k = 1");
  CHECK(refused({0.1, nan, 0.2}) ==
        "Router: critical values must be numbers and not decrease, got nan at k = 2 after 0.1 at "
        "k = 1");
  // Without p-values of its own, an expert null's rule is asked the same.
  CHECK(refusal([] {
          fd::Router(2, ByTable{{0.5, 0.01}}, fd::Logit{},
                     fd::PerExpertNull<fd::NormalNull>{{{}, {}}});
        }) != "taken");
}

TEST_CASE("a call operator that counts otherwise than its critical values or count is refused") {
  CHECK(refusal_of(8, fd::BenjaminiHochberg{}, fd::NormalNull{}) == "taken");
  CHECK(refusal_of(8, SaysOtherwise{}, fd::NormalNull{}) ==
        "Router: the rule's call operator counts 8 of 8 p-values from 0 to 1, its "
        "critical_value() 4");
  CHECK(refusal([] { fd::Router(8, fd::TopK{2}); }) == "taken");
  CHECK(refusal([] { fd::Router(8, SaysAnotherCount{{2}}); }) ==
        "Router: the rule's call operator counts 1 p-values of 0, its count() says 2");
}

TEST_CASE("a null distribution that is none is refused, with the score and the p-values") {
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  // Whether the rule reads p-values or critical scores.
  for (const double edge : {-1e30, -64.0, -3.5, 0.0, 0.25, 7.75, 4096.0, 3e38, inf}) {
    CAPTURE(edge);
    const auto refused = [&](double above) {
      const std::string words = refusal_of(8, fd::Hommel{}, Step{edge, above});
      CHECK(refusal_of(8, fd::BenjaminiHochberg{}, Step{edge, above}) == words);
      return words;
    };
    CHECK(refused(0.25) == "taken");
    CHECK(refused(0.5) == "taken");
    CHECK(refused(nan).starts_with(
        "Router: a null distribution's p-values must lie in [0, 1], got nan at score "));
    CHECK(refused(-0.125).starts_with(
        "Router: a null distribution's p-values must lie in [0, 1], got -0.125 at score "));
    CHECK(refused(1.5).starts_with(
        "Router: a null distribution's p-values must lie in [0, 1], got 1.5 at score "));
    CHECK(refused(0.75).starts_with(
        "Router: a null distribution's p-values must not increase, got 0.75 at score "));
  }
  CHECK(
      refusal_of(8, fd::Hommel{}, Step{0.25, 0.75}) ==
      "Router: a null distribution's p-values must not increase, got 0.75 at score 0.25 after 0.5 "
      "at score 0");
  // Rounding is no fault.
  CHECK(refusal_of(8, fd::Hommel{}, Step{0.25, std::nextafter(0.5, 1.0)}) == "taken");
}

TEST_CASE("the nulls of single experts are probed, too") {
  CHECK(refusal_of(3, fd::BenjaminiHochberg{}, StepOfExpert{3}) == "taken");
  CHECK(
      refusal_of(3, fd::BenjaminiHochberg{}, StepOfExpert{2}) ==
      "Router: a null distribution's p-values must not increase, got 0.75 at score 1 after 0.5 at "
      "score 0.75, expert 2");
  CHECK(refusal_of(2, fd::BenjaminiHochberg{},
                   fd::PerExpertNull<Step>{{{0.0, 0.25}, {0.0, 0.75}}}) != "taken");
  CHECK(refusal_of(2, fd::BenjaminiHochberg{}, fd::WeightedNull<Step>{{0.0, 0.75}, {0.5, 1.5}}) !=
        "taken");
}

TEST_CASE("fitted and parametric nulls of any scale pass the probe") {
  for (const double sd : {1e-300, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e300}) {
    for (const double mean : {-1e300, -1e30, -5.0, 0.0, 1e-300, 7.0, 1e300})
      CHECK(refusal_of(8, fd::Hommel{}, fd::NormalNull{mean, sd}) == "taken");
  }
}

// ---- validate()

namespace {

struct Validated {
  int* calls;
  void validate() const { ++*calls; }
};

struct ValidatedRule : Validated {
  int operator()(std::span<const double>) const noexcept { return 1; }
};
struct ValidatedNull : Validated {
  double operator()(double) const noexcept { return 1.0; }
};
struct ValidatedScore : Validated {
  static constexpr std::string_view name = "validated";
  fd::ScoreMap operator()(std::span<const float>) const noexcept { return {}; }
};
struct ValidatedRanking : Validated {
  fd::TieOrder ties = fd::TieOrder::lowest_index;
  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }
};
struct ValidatedWeights : Validated {
  void operator()(std::span<const float>, std::span<const std::int32_t>,
                  std::span<float> weights) const noexcept {
    std::fill(weights.begin(), weights.end(), 1.0F);
  }
};

}  // namespace

TEST_CASE("every policy's validate() is called, with the number of experts or without") {
  int calls = 0;
  const fd::Router router(4, ValidatedRule{{&calls}}, ValidatedScore{{&calls}},
                          ValidatedNull{{&calls}}, ValidatedWeights{{&calls}}, fd::ExpertBounds{},
                          ValidatedRanking{{&calls}});
  CHECK(calls == 5);
  const fd::Router scaled(4, fd::TopK{1}, fd::Scaled<ValidatedWeights>{{{&calls}}, 2.0F});
  CHECK(calls == 6);
  CHECK(fd::rejections(ValidatedRule{{&calls}}, std::vector{0.5, 0.5}) == 1);
  CHECK(calls == 7);
}

// ---- Counts out of range

TEST_CASE("a count below 0 or above the number of p-values is none and all of them") {
  struct Any {
    int count;
    int operator()(std::span<const double>) const noexcept { return count; }
  };
  const std::vector p{0.5, 0.1, 0.3};
  const int most = std::numeric_limits<int>::max();
  CHECK(fd::rejections(Any{most}, p) == 3);
  CHECK(fd::rejections(Any{-most}, p) == 0);
  CHECK(fd::threshold(Any{most}, p) == 0.5);
  CHECK(!fd::threshold(Any{-most}, p));
  for (const int count : {-most, -1, 4, most}) {
    const fd::Router router(3, Any{count}, fd::ZScore{}, fd::NormalNull{}, fd::SoftmaxWeights{},
                            fd::ExpertBounds{0});
    const test::Batch batch{3, {1.0F, 2.0F, 3.0F}};
    CHECK(test::routed(router, batch.view()).counts[0] == (count < 0 ? 0 : 3));
  }
}

// ---- Members that happen to have the names of kernels

namespace {

/// Counts the logits at most 1 below the largest, whatever else it has.
struct WithinOne {
  int operator()(std::span<const float> sorted) const noexcept {
    return static_cast<int>(std::count_if(sorted.begin(), sorted.end(),
                                          [&](float x) { return x >= sorted[0] - 1.0F; }));
  }
};
struct WithMargin : WithinOne {
  double margin() const noexcept { return -0.25; }
};
struct DerivedFromMargin : fd::RelativeThreshold {
  int operator()(std::span<const float> sorted) const noexcept { return WithinOne{}(sorted); }
};

/// Counts the p-values at most 0.2.
struct AtMost {
  int operator()(std::span<const double> p) const noexcept {
    return static_cast<int>(std::upper_bound(p.begin(), p.end(), 0.2) - p.begin());
  }
};
struct WithReads : AtMost {
  int reads(int) const noexcept { return 1; }
  double margin() const noexcept { return -0.25; }
};
struct WithCount : AtMost {
  template <class Arch>
  int count(const double*, int) const noexcept {
    return 2;
  }
  [[maybe_unused]] static constexpr double kernel = 0.5;  // a bandwidth
};
struct DerivedFromCount : fd::HigherCriticism {
  int operator()(std::span<const double> p) const noexcept { return AtMost{}(p); }
};

struct PlainNull {
  double operator()(double score) const noexcept { return fd::NormalNull{}(score); }
};
struct WithTable : PlainNull {
  const fd::detail::SurvivalTable* table() const noexcept { return &flat; }
  const fd::detail::SurvivalTable* table_if_any() const noexcept { return &flat; }
  fd::detail::SurvivalTable flat{
      {0.0, 1.0}, {-0.1, -0.2}, fd::detail::SurvivalTable::Form::log_survival};
};

/// The map of ZScore, computed row by row and not by its kernel.
struct OwnZScore {
  static constexpr std::string_view name = "own_zscore";
  fd::ScoreMap operator()(std::span<const float> logits) const noexcept {
    return fd::ZScore{}(logits);
  }
};

template <class A, class B>
void check_same_routing(const A& a, const B& b) {
  test::Random random(7);
  const test::Batch batch = test::batch_of_every_kind(a.experts(), 50, random);
  CHECK(test::routed(a, batch.view()) == test::routed(b, batch.view()));
}

template <class R>
auto by_logits(const R& rule) {
  return fd::Router(24, rule, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
}

template <class R, class N = PlainNull>
auto by_p(const R& rule, const N& null = {}) {
  return fd::Router(24, rule, fd::ZScore{}, null, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
}

/// Opens a kernel.
struct Declared {
  double margin() const noexcept { return -0.25; }
  int operator()(std::span<const float> sorted) const noexcept {
    return static_cast<int>(std::count_if(sorted.begin(), sorted.end(),
                                          [&](float x) { return x >= sorted[0] - 1.0F; }));
  }
};

}  // namespace

template <>
inline constexpr fd::Kernel fdroute::kernel_of<Declared> = fd::Kernel::margin;

TEST_CASE("a member that has the name of a kernel's opens none: the call operator counts") {
  check_same_routing(by_logits(WithMargin{}), by_logits(WithinOne{}));
  check_same_routing(by_logits(DerivedFromMargin{}), by_logits(WithinOne{}));
  check_same_routing(by_p(WithReads{}), by_p(AtMost{}));
  check_same_routing(by_p(WithCount{}), by_p(AtMost{}));
  check_same_routing(by_p(DerivedFromCount{}), by_p(AtMost{}));
  check_same_routing(by_p(AtMost{}, WithTable{}), by_p(AtMost{}));
}

TEST_CASE("a score of one's own maps every row of a batch") {
  const auto by = [](const auto& score) {
    return fd::Router(24, fd::BenjaminiHochberg{0.3}, score, fd::NormalNull{}, fd::SoftmaxWeights{},
                      fd::ExpertBounds{0});
  };
  check_same_routing(by(OwnZScore{}), by(fd::ZScore{}));
}

TEST_CASE("a declaration opens one") {
  const test::Batch batch{24, {1.0F, 0.5F, 0.8F, -9.0F}};
  test::Batch row = batch;
  row.logits.resize(24, -9.0F);
  CHECK(test::routed(by_logits(WithinOne{}), row.view()).counts[0] == 3);
  CHECK(test::routed(by_logits(Declared{}), row.view()).counts[0] == 2);
}
