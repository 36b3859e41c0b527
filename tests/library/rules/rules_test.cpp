#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

static_assert(fd::Rule<fd::TopK> && fd::FixedCountRule<fd::TopK> && fd::NullFreeRule<fd::TopK>);
static_assert(!fd::StepUpRule<fd::TopK>);
static_assert(fd::Rule<fd::BenjaminiHochberg> && fd::StepUpRule<fd::BenjaminiHochberg>);
static_assert(!fd::NullFreeRule<fd::BenjaminiHochberg>);
static_assert(fd::LogitRule<fd::TopP> && fd::LogitRule<fd::RelativeThreshold>);
static_assert(!fd::Rule<fd::TopP> && !fd::Rule<fd::RelativeThreshold>);

namespace {

constexpr std::array some_p{0.01, 0.02, 0.5, 0.9};
static_assert(fd::BenjaminiHochberg{0.05}(some_p) == 2);  // 0.02 <= 0.05 * 2 / 4, a closed bound
static_assert(fd::BenjaminiHochberg{0.03}(some_p) == 0);
static_assert(fd::TopK{3}(some_p) == 3 && fd::TopK{9}(some_p) == 4 && fd::TopK{3}.count(64) == 3);

/// Counts of a whole batch by a router without bounds.
template <class AnyPolicy>
std::vector<int> counts_of(const AnyPolicy& router, const test::Batch& batch) {
  const auto out = test::routed(router, batch.view());
  std::vector<int> counts;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) counts.push_back(out.counts[t]);
  return counts;
}

template <class Rule, class Null>
auto unbounded(int experts, Rule rule, Null null) {
  return fd::Router(experts, rule, fd::ZScore{}, null, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
}

std::vector<double> sorted_p_of(const std::vector<float>& row, const oracle::Null& null) {
  return oracle::sorted_p_values(oracle::scores(oracle::Score::zscore, row), null);
}

bool routable(const std::vector<float>& row) {
  return !oracle::finite_values(row).empty();
}

}  // namespace

TEST_CASE("BenjaminiHochberg on sorted p-values is the definition") {
  test::Random random(11);
  for (int m = 1; m <= 130; ++m) {
    for (const double alpha : {0.01, 0.2, 0.7}) {
      // Powers of uniforms crowd around the critical values; multiples of them hit these exactly.
      const double power = 1.0 + 3.0 * random.uniform();
      std::vector<double> p;
      for (int i = 0; i < m; ++i) {
        const bool exact = random.below(3) == 0;
        p.push_back(exact ? alpha * (1 + random.below(m)) / m : std::pow(random.uniform(), power));
      }
      std::sort(p.begin(), p.end());
      CHECK(fd::BenjaminiHochberg{alpha}(p) == oracle::benjamini_hochberg(p, alpha));
    }
  }
  CHECK(fd::BenjaminiHochberg{0.5}(std::vector<double>(7, 1.0)) == 0);
  CHECK(fd::BenjaminiHochberg{0.5}(std::vector<double>(7, 0.0)) == 7);
  CHECK(fd::BenjaminiHochberg{0.5}({}) == 0);
}

// ---- Rules of one's own
// --------------------------------------------------------------------------

namespace {

/// Holm's step-down rule, as a user would write it.
struct HolmStepDown {
  double alpha = 0.05;

  int operator()(std::span<const double> p) const noexcept {
    std::size_t k = 0;
    while (k < p.size() && p[k] <= alpha / static_cast<double>(p.size() - k)) ++k;
    return static_cast<int>(k);
  }
};

/// Benjamini-Hochberg without its critical values: the router must go the general way.
struct PlainBenjaminiHochberg {
  double alpha;

  int operator()(std::span<const double> p) const noexcept {
    return fd::BenjaminiHochberg{alpha}(p);
  }
};

/// Step-up with critical values of its own choice.
struct BenjaminiYekutieli {
  double alpha;

  double critical_value(int k, int experts) const noexcept {
    double harmonic = 0.0;
    for (int i = 1; i <= experts; ++i) harmonic += 1.0 / i;
    return alpha * k / (experts * harmonic);
  }

  int operator()(std::span<const double> p) const noexcept {
    int count = 0;
    for (int k = 1; k <= static_cast<int>(p.size()); ++k) {
      if (p[index(k - 1)] <= critical_value(k, static_cast<int>(p.size()))) count = k;
    }
    return count;
  }
};

/// Every critical value the same: step-up at a fixed p-value, closed.
struct Uncorrected {
  double level;

  double critical_value(int, int) const noexcept { return level; }

  int operator()(std::span<const double> p) const noexcept {
    return static_cast<int>(std::upper_bound(p.begin(), p.end(), level) - p.begin());
  }
};

/// A count that depends on the number of experts alone, and may be 0.
struct Tenth {
  int count(int experts) const noexcept { return experts / 10; }
  int operator()(std::span<const double> p) const noexcept {
    return count(static_cast<int>(p.size()));
  }
};

/// Keeps what it was given.
struct Witness {
  std::vector<std::vector<double>>* seen;
  int count;

  int operator()(std::span<const double> p) const noexcept {
    seen->emplace_back(p.begin(), p.end());
    return count;
  }
};

static_assert(fd::Rule<HolmStepDown> && !fd::StepUpRule<HolmStepDown>);
static_assert(fd::Rule<PlainBenjaminiHochberg> && !fd::StepUpRule<PlainBenjaminiHochberg>);
static_assert(fd::FixedCountRule<Tenth>);
static_assert(fd::StepUpRule<BenjaminiYekutieli> && fd::StepUpRule<Uncorrected>);

}  // namespace

TEST_CASE("a step-down rule of one's own: Holm") {
  test::Random random(12);
  const fd::NormalNull null;
  std::set<int> counts;
  for (const int experts : {1, 2, 8, 64, 130}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 4, random);
    for (const double alpha : {0.01, 0.3, 0.99}) {
      const auto router = unbounded(experts, HolmStepDown{alpha}, null);
      const auto out = test::routed(router, batch.view());
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const std::vector<float> row = batch.row(t);
        const int count = routable(row) ? oracle::holm(sorted_p_of(row, null), alpha) : 0;
        CHECK(test::difference(oracle::route(row, count, {0}), out, t, row) == "");
        counts.insert(count);
      }
    }
  }
  CHECK(counts.size() >= 5);
}

TEST_CASE("step-up rules of one's own go through critical scores to the same result") {
  test::Random random(13);
  const fd::NormalNull null;
  for (const int experts : {1, 3, 16, 64, 100}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    for (const double alpha : {0.05, 0.6}) {
      const BenjaminiYekutieli yekutieli{alpha};
      const Uncorrected uncorrected{alpha};
      const fd::BenjaminiHochberg hochberg{alpha};
      std::vector<int> by;
      std::vector<int> fixed;
      std::vector<int> bh;
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const std::vector<float> row = batch.row(t);
        const auto p = routable(row) ? sorted_p_of(row, null) : std::vector<double>{};
        by.push_back(yekutieli(p));
        fixed.push_back(uncorrected(p));
        bh.push_back(oracle::benjamini_hochberg(p, alpha));
      }
      CHECK(counts_of(unbounded(experts, yekutieli, null), batch) == by);
      CHECK(counts_of(unbounded(experts, uncorrected, null), batch) == fixed);
      CHECK(counts_of(unbounded(experts, hochberg, null), batch) == bh);
      CHECK(counts_of(unbounded(experts, PlainBenjaminiHochberg{alpha}, null), batch) == bh);
      CHECK((experts < 16 || by != bh));
    }
  }
}

TEST_CASE("a step-up rule that would reject p = 1 is refused") {
  const auto rejection = [](double level) {
    return test::rejection_of([&] { unbounded(4, Uncorrected{level}, fd::NormalNull{}); });
  };
  CHECK(rejection(1.0) == "Router: critical values must lie below 1, got 1");
  CHECK(rejection(1.25) == "Router: critical values must lie below 1, got 1.25");
  CHECK(rejection(std::nan("")) == "Router: critical values must lie below 1, got nan");
  CHECK(rejection(1.0 - 0x1p-53) == "no error");
}

TEST_CASE("a rule sees all p-values in ascending order, and bounds act on its count alone") {
  test::Random random(14);
  // Its p-values stay below 1: only NaN and masked experts have 1.
  const auto null = [](double score) noexcept { return 0.8 * fd::NormalNull{0.1, 1.3}(score); };
  for (const int experts : {1, 2, 9, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    std::vector<std::vector<double>> expected;
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (routable(row)) expected.push_back(sorted_p_of(row, null));
    }
    for (const int count : {-5, 0, 1, experts, experts + 9}) {
      for (const fd::ExpertBounds bounds : {fd::ExpertBounds{0}, fd::ExpertBounds{1, 1}}) {
        std::vector<std::vector<double>> seen;
        const fd::Router router(experts, Witness{&seen, count}, fd::ZScore{}, null,
                                fd::SoftmaxWeights{}, bounds);
        const auto out = test::routed(router, batch.view());
        // Not token by token, and some may be shown twice.
        CHECK(std::set(seen.begin(), seen.end()) == std::set(expected.begin(), expected.end()));
        for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
          const std::vector<float> row = batch.row(t);
          const auto token = oracle::route(row, count, {bounds.min_k, bounds.max_k});
          CHECK(test::difference(token, out, t, row) == "");
        }
      }
    }
  }
}

TEST_CASE("the Benjamini-Hochberg count does not decrease in alpha") {
  test::Random random(15);
  const test::Batch batch = test::batch_of_every_kind(64, 8, random);
  std::vector<int> before(index(batch.tokens()), 0);
  int grew = 0;
  for (int percent = 1; percent < 100; ++percent) {
    const fd::BenjaminiHochberg rule{percent / 100.0};
    const auto counts = counts_of(unbounded(64, rule, fd::NormalNull{}), batch);
    for (std::size_t t = 0; t < counts.size(); ++t) {
      CHECK(counts[t] >= before[t]);
      grew += static_cast<int>(counts[t] > before[t]);
    }
    before = counts;
  }
  CHECK(grew > 300);
}

// ---- Rules without a null distribution
// -----------------------------------------------------------

TEST_CASE("TopK takes the k largest logits") {
  test::Random random(16);
  for (const int experts : {1, 2, 8, 63, 64, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    for (const int k : {1, 2, 8, experts}) {
      if (k > experts) continue;
      for (const bool renormalize : {false, true}) {
        const fd::Router router(experts, fd::TopK{k}, fd::SoftmaxWeights{1.0, renormalize});
        CHECK(router.capacity() == k);
        for (const auto padding : {fd::Padding::minus_one, fd::Padding::repeat_valid}) {
          const auto out = test::routed(router, batch.view(), padding);
          CHECK(out.guards_intact());
          for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
            const std::vector<float> row = batch.row(t);
            const auto token = oracle::route(row, k, {1}, {1.0, renormalize});
            CHECK(test::difference(token, out, t, row) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("a fixed count of one's own, down to no expert") {
  test::Random random(18);
  for (const int experts : {5, 30}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    const fd::Router router(experts, Tenth{}, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
    CHECK(router.capacity() == experts / 10);
    for (const auto padding : {fd::Padding::minus_one, fd::Padding::repeat_valid}) {
      test::Padded out(batch.tokens(), 4, padding);
      router.route(batch.view(), out.view());
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const std::vector<float> row = batch.row(t);
        CHECK(test::difference(oracle::route(row, experts / 10, {0}), out, t, row) == "");
      }
    }
  }
}

namespace {

/// Probabilities in descending order, of a row with a finite logit.
std::vector<double> probabilities(const std::vector<float>& row) {
  std::vector<double> weights = oracle::softmax(row, 1.0);
  std::sort(weights.begin(), weights.end(), std::greater<>{});
  return weights;
}

}  // namespace

TEST_CASE("TopP, RelativeThreshold and AbsoluteThreshold count probabilities") {
  test::Random random(17);
  std::set<int> nucleus_counts;
  std::set<int> relative_counts;
  std::set<int> absolute_counts;
  for (const int experts : {1, 2, 8, 64, 129}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    for (const double level : {0.0571, 0.3137, 0.7019, 0.9173, 0.9931}) {
      const fd::Router nucleus(experts, fd::TopP{level}, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
      const fd::Router relative(experts, fd::RelativeThreshold{level}, fd::SoftmaxWeights{},
                                fd::ExpertBounds{0});
      const double t = level / 10;
      const fd::Router absolute(experts, fd::AbsoluteThreshold{t}, fd::SoftmaxWeights{},
                                fd::ExpertBounds{0});
      CHECK(nucleus.capacity() == experts);
      const auto by_nucleus = test::routed(nucleus, batch.view());
      const auto by_ratio = test::routed(relative, batch.view());
      const auto by_share = test::routed(absolute, batch.view());
      for (std::ptrdiff_t token = 0; token < batch.tokens(); ++token) {
        const std::vector<float> row = batch.row(token);
        int nucleus_count = 0;
        int relative_count = 0;
        int absolute_count = 0;
        if (routable(row)) {
          const std::vector<double> p = probabilities(row);
          double sum = 0.0;
          for (const double probability : p) {
            // Nearer than this, the order of the roundings would decide.
            REQUIRE(std::abs((sum += probability) - level) > 1e-13);
            REQUIRE(std::abs(probability / p[0] - level) > 1e-13);
            REQUIRE(std::abs(probability - t) > 1e-13);
          }
          nucleus_count = oracle::top_p(p, level);
          relative_count = oracle::relative_threshold(p, level);
          absolute_count = oracle::absolute_threshold(p, t);
        }
        CHECK(test::difference(oracle::route(row, nucleus_count, {0}), by_nucleus, token, row) ==
              "");
        CHECK(test::difference(oracle::route(row, relative_count, {0}), by_ratio, token, row) ==
              "");
        CHECK(test::difference(oracle::route(row, absolute_count, {0}), by_share, token, row) ==
              "");
        nucleus_counts.insert(nucleus_count);
        relative_counts.insert(relative_count);
        absolute_counts.insert(absolute_count);
      }
    }
  }
  CHECK(nucleus_counts.size() > 30);
  CHECK(relative_counts.size() > 10);
  CHECK(absolute_counts.size() > 10);
}

TEST_CASE("TopP, RelativeThreshold and AbsoluteThreshold where the level is met exactly") {
  const std::vector<float> equal(8, 1.25F);
  for (int k = 1; k <= 8; ++k) {
    CHECK(fd::TopP{k / 8.0}(equal) == k);
    CHECK(fd::TopP{std::nextafter(k / 8.0, 0.0)}(equal) == k);
    if (k < 8) CHECK(fd::TopP{std::nextafter(k / 8.0, 1.0)}(equal) == k + 1);
  }
  CHECK(fd::AbsoluteThreshold{0.125}(equal) == 8);
  CHECK(fd::AbsoluteThreshold{std::nextafter(0.125, 1.0)}(equal) == 0);
  CHECK(fd::RelativeThreshold{1.0}(equal) == 8);
  const std::vector<float> descending{3.0F, 2.0F, -1.0F, -test::infinity, test::nan};
  CHECK(fd::RelativeThreshold{1.0}(descending) == 1);
  CHECK(fd::RelativeThreshold{std::exp(-1.0)}(descending) == 2);
  CHECK(fd::RelativeThreshold{std::nextafter(std::exp(-1.0), 1.0)}(descending) == 1);
  CHECK(fd::RelativeThreshold{std::exp(-4.0)}(descending) == 3);
  CHECK(fd::RelativeThreshold{1e-300}(descending) == 3);
  CHECK(fd::TopP{1.0}(descending) == 3);
  const std::vector<float> two_infinite{test::infinity, test::infinity, 50.0F};
  CHECK(fd::TopP{0.5}(two_infinite) == 1);
  CHECK(fd::TopP{0.51}(two_infinite) == 2);
  CHECK(fd::RelativeThreshold{1.0}(two_infinite) == 2);
  CHECK(fd::RelativeThreshold{0.01}(two_infinite) == 2);
  CHECK(fd::AbsoluteThreshold{0.5}(two_infinite) == 2);
  CHECK(fd::AbsoluteThreshold{0.51}(two_infinite) == 0);
}
