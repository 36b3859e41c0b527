#include "fdroute/router.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/score/log_softmax.hpp"
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

// ---- Types
// ---------------------------------------------------------------------------------------

namespace {

using BhRouter = fd::Router<fd::BenjaminiHochberg, fd::ZScore, fd::NormalNull>;
using TopKRouter = fd::Router<fd::TopK>;

template <class AnyPolicy, class T, class Out>
constexpr bool routes_noexcept = noexcept(std::declval<const AnyPolicy&>().route(
    std::declval<fd::LogitsView<T>>(),
    std::declval<Out>())) && noexcept(std::declval<const AnyPolicy&>()
                                          .route(fd::serial, std::declval<fd::LogitsView<T>>(),
                                                 std::declval<Out>()));

static_assert(routes_noexcept<BhRouter, float, fd::RoutingView<>>);
static_assert(routes_noexcept<BhRouter, double, fd::RoutingView<std::int64_t>>);
static_assert(routes_noexcept<BhRouter, float, fd::DenseView>);
static_assert(routes_noexcept<BhRouter, float, fd::CsrView<>>);
static_assert(routes_noexcept<TopKRouter, float, fd::RoutingView<>>);
static_assert(noexcept(std::declval<const BhRouter&>().capacity()));

// What the arguments say is what one gets.
static_assert(std::is_same_v<decltype(fd::Router(4, fd::TopK{})), fd::Router<fd::TopK>>);
static_assert(std::is_same_v<decltype(fd::Router(4, fd::TopP{})), fd::Router<fd::TopP>>);
static_assert(
    std::is_same_v<decltype(fd::Router(4, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{})),
                   BhRouter>);
static_assert(std::is_copy_constructible_v<BhRouter> &&
              std::is_nothrow_move_constructible_v<BhRouter>);

fd::TabulatedNull table(std::string score) {
  return fd::TabulatedNull::from_log_survival({-6.0, -4.0, -3.0, -1.5}, {-0.1, -0.9, -2.5, -7.0},
                                              test::fitted_on(std::move(score)));
}

}  // namespace

TEST_CASE("a router tells what it was built from") {
  const fd::Router router(16, fd::BenjaminiHochberg{0.25}, fd::LogSoftmax{}, table("log_softmax"),
                          fd::SoftmaxWeights{0.5, true}, fd::ExpertBounds{2, 5});
  CHECK(router.experts() == 16);
  CHECK(router.capacity() == 5);
  CHECK(router.rule().alpha == 0.25);
  CHECK(router.score().name == "log_softmax");
  CHECK(router.null().fitted_on() == "log_softmax");
  CHECK(router.weights().temperature == 0.5);
  CHECK(router.weights().renormalize);
  CHECK((router.bounds().min_k == 2 && router.bounds().max_k == 5));
}

TEST_CASE("capacity is the largest number of experts a token can get") {
  const auto bh = [](int experts, fd::ExpertBounds bounds) {
    return fd::Router(experts, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{},
                      fd::SoftmaxWeights{}, bounds)
        .capacity();
  };
  CHECK(bh(10, {}) == 10);
  CHECK(bh(10, {0, 3}) == 3);
  CHECK(bh(10, {1, 99}) == 10);
  const auto topk = [](int k, fd::ExpertBounds bounds) {
    return fd::Router(10, fd::TopK{k}, fd::SoftmaxWeights{}, bounds).capacity();
  };
  CHECK(topk(4, {}) == 4);
  CHECK(topk(4, {6}) == 6);
  CHECK(topk(4, {0, 2}) == 2);
  CHECK(topk(10, {10, 99}) == 10);
}

// ---- Refusals
// ------------------------------------------------------------------------------------

TEST_CASE("a router refuses what it cannot route with, and says why") {
  const auto experts = [](int n) {
    return test::rejection_of([&] { fd::Router(n, fd::TopK{1}); });
  };
  CHECK(experts(1) == "no error");
  CHECK(experts(1024) == "no error");
  CHECK(experts(0) == "Router: the number of experts must lie in [1, 1024], got 0");
  CHECK(experts(-3) == "Router: the number of experts must lie in [1, 1024], got -3");
  CHECK(experts(1025) == "Router: the number of experts must lie in [1, 1024], got 1025");

  const auto topk = [](int k) { return test::rejection_of([&] { fd::Router(8, fd::TopK{k}); }); };
  CHECK(topk(8) == "no error");
  CHECK(topk(0) == "TopK: k must lie in [1, 8], the number of experts, got 0");
  CHECK(topk(9) == "TopK: k must lie in [1, 8], the number of experts, got 9");

  const auto bh = [](double alpha) {
    return test::rejection_of(
        [&] { fd::Router(8, fd::BenjaminiHochberg{alpha}, fd::ZScore{}, fd::NormalNull{}); });
  };
  CHECK(bh(1e-300) == "no error");
  CHECK(bh(1.0 - 0x1p-53) == "no error");
  CHECK(bh(1.5) == "BenjaminiHochberg: alpha must lie in (0, 1), got 1.5");
  CHECK(bh(1.0) == "BenjaminiHochberg: alpha must lie in (0, 1), got 1");
  CHECK(bh(0.0) == "BenjaminiHochberg: alpha must lie in (0, 1), got 0");
  CHECK(bh(-0.05) == "BenjaminiHochberg: alpha must lie in (0, 1), got -0.05");
  CHECK(bh(std::numeric_limits<double>::quiet_NaN()) ==
        "BenjaminiHochberg: alpha must lie in (0, 1), got nan");

  const auto top_p = [](double p) {
    return test::rejection_of([&] { fd::Router(8, fd::TopP{p}); });
  };
  CHECK(top_p(1.0) == "no error");
  CHECK(top_p(0.0) == "TopP: p must lie in (0, 1], got 0");
  CHECK(top_p(1.25) == "TopP: p must lie in (0, 1], got 1.25");
  const auto relative = [](double t) {
    return test::rejection_of([&] { fd::Router(8, fd::RelativeThreshold{t}); });
  };
  CHECK(relative(1.0) == "no error");
  CHECK(relative(-1.0) == "RelativeThreshold: t must lie in (0, 1], got -1");
  CHECK(relative(std::numeric_limits<double>::quiet_NaN()) ==
        "RelativeThreshold: t must lie in (0, 1], got nan");

  const auto absolute = [](double t) {
    return test::rejection_of([&] { fd::Router(8, fd::AbsoluteThreshold{t}); });
  };
  CHECK(absolute(1.0) == "no error");
  CHECK(absolute(0.0) == "AbsoluteThreshold: t must lie in (0, 1], got 0");
  CHECK(absolute(1.5) == "AbsoluteThreshold: t must lie in (0, 1], got 1.5");

  const auto bounds = [](fd::ExpertBounds b) {
    return test::rejection_of([&] { fd::Router(8, fd::TopK{4}, fd::SoftmaxWeights{}, b); });
  };
  CHECK(bounds({0, 1}) == "no error");
  CHECK(bounds({8, 8}) == "no error");
  CHECK(bounds({-1, 4}) ==
        "ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got min_k -1, max_k 4");
  CHECK(bounds({0, 0}) ==
        "ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got min_k 0, max_k 0");
  CHECK(bounds({5, 4}) ==
        "ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got min_k 5, max_k 4");
  CHECK(bounds({9, 9}) == "ExpertBounds: min_k 9 exceeds the number of experts, 8");
}

// ---- Order
// ---------------------------------------------------------------------------------------

namespace {

/// The experts of one row, best first.
template <class AnyPolicy>
std::vector<int> experts_of(const AnyPolicy& router, const std::vector<float>& row) {
  const test::Batch batch{router.experts(), row};
  const auto out = test::routed(router, batch.view());
  std::vector<int> experts;
  for (std::ptrdiff_t i = 0; i < out.counts[0]; ++i) experts.push_back(out.experts[i]);
  return experts;
}

}  // namespace

TEST_CASE("experts come in a total order: larger logit, then lower index, NaN last") {
  using Experts = std::vector<int>;
  const fd::Router all(6, fd::TopK{6});
  const float inf = test::infinity;
  CHECK(experts_of(all, {1, 2, 3, 4, 5, 6}) == Experts{5, 4, 3, 2, 1, 0});
  CHECK(experts_of(all, {7, 7, 7, 7, 7, 7}) == Experts{0, 1, 2, 3, 4, 5});
  CHECK(experts_of(all, {-0.0F, 0.0F, -0.0F, 0.0F, 1e-45F, -1e-45F}) == Experts{4, 0, 1, 2, 3, 5});
  CHECK(experts_of(all, {0.0F, -0.0F, 0.0F, -0.0F, -1, 1}) == Experts{5, 0, 1, 2, 3, 4});
  CHECK(experts_of(all, {test::nan, -inf, 0, inf, test::nan, inf}) == Experts{3, 5, 2, 1, 0, 4});
  CHECK(experts_of(all, {-test::nan, 3e38F, -3e38F, test::nan, -inf, inf}) ==
        Experts{5, 1, 2, 4, 0, 3});
}

TEST_CASE("a cut through tied logits takes the lower indices") {
  using Experts = std::vector<int>;
  CHECK(experts_of(fd::Router(5, fd::TopK{2}), {1, 2, 2, 2, 0}) == Experts{1, 2});
  CHECK(experts_of(fd::Router(3, fd::TopK{1}), {-0.0F, 0.0F, 0.0F}) == Experts{0});
  // The rule rejects the three tied experts, the bound takes two of them.
  const fd::Router bh(5, fd::BenjaminiHochberg{0.7}, fd::Logit{}, fd::NormalNull{},
                      fd::SoftmaxWeights{}, fd::ExpertBounds{0, 2});
  CHECK(experts_of(bh, {-9, 2, 2, 2, -9}) == Experts{1, 2});
}

TEST_CASE("NaN counts among the hypotheses and is not selected while a number remains") {
  // p = 0.02275 for logit 2. Alone among m experts it passes if 0.02275 <= alpha / m.
  const auto count = [](std::vector<float> row) {
    const fd::Router router(static_cast<int>(row.size()), fd::BenjaminiHochberg{0.05}, fd::Logit{},
                            fd::NormalNull{}, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
    return experts_of(router, row).size();
  };
  CHECK(count({2.0F}) == 1);
  CHECK(count({2.0F, test::nan}) == 1);
  CHECK(count({2.0F, test::nan, test::nan}) == 0);
  CHECK(count({2.0F, -test::infinity, test::nan}) == 0);
  CHECK(count({test::infinity, -test::infinity, test::nan}) == 0);  // nothing finite to rank
  CHECK(count({test::infinity, -9.0F, test::nan}) == 1);

  const fd::Router three(4, fd::TopK{3});
  CHECK(experts_of(three, {test::nan, 1.0F, -test::infinity, test::nan}) ==
        std::vector<int>{1, 2, 0});
  const test::Batch batch{4, {test::nan, 1.0F, -test::infinity, test::nan}};
  const auto out = test::routed(three, batch.view());
  CHECK((out.weights[0] == 1.0F && out.weights[1] == 0.0F && out.weights[2] == 0.0F));
}

TEST_CASE("a row without a finite logit gets the first min_k experts, whatever the rule") {
  const std::vector<float> row{test::nan, test::infinity, -test::infinity, test::infinity};
  for (int min_k = 0; min_k <= 4; ++min_k) {
    const fd::ExpertBounds bounds{min_k, 4};
    const auto check = [&](const auto& router) {
      std::vector<int> first(index(min_k));
      std::iota(first.begin(), first.end(), 0);
      CHECK(experts_of(router, row) == first);
      const test::Batch batch{4, row};
      const auto out = test::routed(router, batch.view());
      for (std::ptrdiff_t i = 0; i < min_k; ++i) CHECK(out.weights[i] == 0.0F);
      CHECK(has(out.status[0], fd::TokenStatus::no_finite_logit));
    };
    const fd::SoftmaxWeights weights{1.0, true};
    check(fd::Router(4, fd::TopK{2}, weights, bounds));
    check(fd::Router(4, fd::TopP{}, weights, bounds));
    check(fd::Router(4, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{}, weights, bounds));
  }
}

// ---- Invariances
// ---------------------------------------------------------------------------------

namespace {

/// Hands every kind of router over the batch to `check`.
template <class Check>
void for_each_router(int experts, Check&& check) {
  const fd::SoftmaxWeights weights{0.8, false};
  const fd::ExpertBounds bounds{0};
  check(fd::Router(experts, fd::TopK{(experts + 1) / 2}, weights));
  check(fd::Router(experts, fd::TopP{0.6}, weights, bounds));
  check(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{}, weights,
                   bounds));
  check(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{}, table("log_softmax"),
                   weights, bounds));
}

}  // namespace

TEST_CASE("a token's routing does not depend on the other tokens") {
  test::Random random(61);
  for (const int experts : {1, 5, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
    for_each_router(experts, [&](const auto& router) {
      const auto together = test::routed(router, batch.view());
      CHECK(together.guards_intact());
      test::Padded one_by_one(batch.tokens(), router.capacity());
      for (std::ptrdiff_t t = batch.tokens(); t-- > 0;)  // in another order, too
        router.route(batch.view().slice(t, 1), one_by_one.view().from(t));
      CHECK(one_by_one == together);
      const auto copy = router;
      CHECK(test::routed(copy, batch.view()) == together);
    });
  }
}

TEST_CASE("ids are in range and unique, counts within bounds, for every kind of row") {
  test::Random random(62);
  for (const int experts : {1, 2, 31, 64, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    for_each_router(experts, [&](const auto& router) {
      const auto out = test::routed(router, batch.view());
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const int count = out.counts[t];
        REQUIRE((count >= router.bounds().min_k && count <= router.capacity()));
        std::vector<bool> seen(index(experts));
        for (std::ptrdiff_t i = 0; i < count; ++i) {
          const int expert = out.experts[t * router.capacity() + i];
          REQUIRE((expert >= 0 && expert < experts));
          REQUIRE(!seen[index(expert)]);
          seen[index(expert)] = true;
          const float weight = out.weights[t * router.capacity() + i];
          REQUIRE((weight >= 0.0F && weight <= 1.0F));
        }
      }
    });
  }
}

TEST_CASE("permuting the experts of distinct logits permutes the routing") {
  test::Random random(63);
  // Multiples of 1/8 and a power-of-two number of experts: sums are exact in any order.
  const int experts = 32;
  const auto check = [&](const auto& router) {
    std::size_t selected = 0;
    for (int repeat = 0; repeat < 100; ++repeat) {
      std::vector<float> row(experts);
      for (int j = 0; j < experts; ++j)
        row[index(j)] = static_cast<float>(j) / 8.0F + (j >= 28 ? 3.0F : 0.0F);
      random.shuffle(row);
      std::vector<int> to(experts);
      std::iota(to.begin(), to.end(), 0);
      random.shuffle(to);
      std::vector<float> permuted(experts);
      for (int j = 0; j < experts; ++j) permuted[index(to[index(j)])] = row[index(j)];
      std::vector<int> expected;
      for (const int expert : experts_of(router, row)) expected.push_back(to[index(expert)]);
      CHECK(experts_of(router, permuted) == expected);
      selected += expected.size();
    }
    CHECK((selected > 0 && selected < 3200));
  };
  check(fd::Router(experts, fd::TopK{5}));
  check(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{}));
  check(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::Logit{}, fd::NormalNull{3.0, 1.5}));
}

TEST_CASE("a shift common to all logits changes no count under log_softmax and zscore") {
  test::Random random(64);
  const int experts = 64;
  test::Batch batch{experts};
  test::Batch shifted{experts};
  for (int repeat = 0; repeat < 200; ++repeat) {
    // As in scores_test: within a binade, so that the scores are the same bits.
    std::vector<float> row;
    for (int j = 0; j < experts; ++j)
      row.push_back(static_cast<float>(random.below(2048)) / 1024.0F);
    for (int strong = random.below(8); strong > 0; --strong)
      row[index(random.below(experts))] = 3.0F + static_cast<float>(random.below(1024)) / 1024.0F;
    row[0] = 4.0F;
    batch.add(row);
    for (float& x : row) x += 0.75F;
    shifted.add(row);
    const std::ptrdiff_t last = batch.tokens() - 1;
    REQUIRE(oracle::log_softmax_map(batch.row(last)).shift >= 4.0F);
    REQUIRE(oracle::log_softmax_map(shifted.row(last)).shift < 8.0F);
  }
  const auto differ = [&](const auto& router) {
    const auto before = test::routed(router, batch.view());
    const auto after = test::routed(router, shifted.view());
    int different = 0;
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
      different += static_cast<int>(before.counts[t] != after.counts[t]);
    return different;
  };
  const fd::BenjaminiHochberg rule{0.3};
  const fd::ExpertBounds bounds{0};
  CHECK(differ(fd::Router(experts, rule, fd::LogSoftmax{}, fd::NormalNull{-4.6, 0.6},
                          fd::SoftmaxWeights{}, bounds)) == 0);
  CHECK(differ(fd::Router(experts, rule, fd::ZScore{}, fd::NormalNull{}, fd::SoftmaxWeights{},
                          bounds)) == 0);
  // The raw logit is not invariant; the rows are such that a test could tell.
  CHECK(differ(fd::Router(experts, rule, fd::Logit{}, fd::NormalNull{1.2, 0.6},
                          fd::SoftmaxWeights{}, bounds)) > 100);
}

// ---- Policies of one's own
// -----------------------------------------------------------------------

namespace {

/// p = P(S >= score) of a logistic distribution, in a form that does not lose the tail.
struct LogisticNull {
  double scale = 1.0;
  double operator()(double score) const noexcept { return 1.0 / (1.0 + std::exp(score / scale)); }
};

/// The logit relative to the token's best, in halves.
struct BelowBest {
  static constexpr std::string_view name = "below_best";

  fd::ScoreMap operator()(std::span<const float> logits) const noexcept {
    float best = -test::infinity;
    for (const float x : logits) {
      if (std::isfinite(x)) best = std::max(best, x);
    }
    return {best, 2.0F};
  }
};

/// Equal shares, and the token's count as the engine would want to see it.
struct EqualWeights {
  void operator()(std::span<const float>, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    std::fill(weights.begin(), weights.end(), 1.0F / static_cast<float>(experts.size()));
  }
};

/// The sigmoid of the logit, as some models weigh their experts.
struct SigmoidWeights {
  float ceiling = 1.0F;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    for (std::size_t i = 0; i < experts.size(); ++i)
      weights[i] = ceiling / (1.0F + std::exp(-logits[index(experts[i])]));
  }

  void validate(int experts) const {
    if (experts > 100) throw std::invalid_argument("SigmoidWeights: too many experts");
  }
};

/// Everything above the middle between the best and the worst logit.
struct UpperHalf {
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const float middle = (sorted_logits.front() + sorted_logits.back()) / 2.0F;
    const auto above = [&](float x) { return x > middle; };
    return static_cast<int>(std::count_if(sorted_logits.begin(), sorted_logits.end(), above));
  }
};

static_assert(fd::NullDistribution<LogisticNull> && fd::Score<BelowBest>);
static_assert(fd::RoutingWeights<EqualWeights> && fd::RoutingWeights<SigmoidWeights>);
static_assert(fd::LogitRule<UpperHalf>);

}  // namespace

TEST_CASE("a null and a score of one's own") {
  test::Random random(65);
  const LogisticNull null{0.75};
  std::vector<int> counts_seen(65);
  for (const int experts : {1, 9, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    for (const double alpha : {0.4, 0.6, 0.9}) {
      const fd::Router router(experts, fd::BenjaminiHochberg{alpha}, BelowBest{}, null,
                              fd::SoftmaxWeights{}, fd::ExpertBounds{0});
      const auto out = test::routed(router, batch.view());
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const std::vector<float> row = batch.row(t);
        int count = 0;
        if (!oracle::finite_values(row).empty()) {
          const auto best = static_cast<float>(std::ranges::max(oracle::finite_values(row)));
          std::vector<float> scores;
          for (const float x : row) scores.push_back((x - best) * 2.0F);
          count = oracle::benjamini_hochberg(oracle::sorted_p_values(scores, null), alpha);
        }
        CHECK(test::difference(oracle::route(row, count, {0}), out, t, row) == "");
        ++counts_seen[index(count)];
      }
    }
  }
  CHECK(std::count_if(counts_seen.begin(), counts_seen.end(), [](int n) { return n > 0; }) > 8);
}

TEST_CASE("a null fitted on a score of one's own is matched by that score's name") {
  CHECK(test::rejection_of([] {
          fd::Router(4, fd::BenjaminiHochberg{}, BelowBest{}, table("below_best"));
        }) == "no error");
  CHECK(test::rejection_of(
            [] { fd::Router(4, fd::BenjaminiHochberg{}, BelowBest{}, table("logit")); }) ==
        "Router: the null distribution was fitted on score 'logit', the router uses 'below_best'");
}

TEST_CASE("weights of one's own") {
  const test::Batch batch{4, {0.0F, 1.0F, -2.0F, test::nan, 3.0F, 3.0F, 3.0F, -1.0F}};
  const auto equal = test::routed(fd::Router(4, fd::TopK{3}, EqualWeights{}), batch.view());
  for (std::ptrdiff_t i = 0; i < 6; ++i) CHECK(equal.weights[i] == 1.0F / 3.0F);

  const auto sigmoid = test::routed(fd::Router(4, fd::TopK{2}, SigmoidWeights{2.0F}), batch.view());
  CHECK(sigmoid.experts[0] == 1);
  CHECK(sigmoid.weights[0] == 2.0F / (1.0F + std::exp(-1.0F)));
  CHECK(sigmoid.weights[1] == 1.0F);
  CHECK(test::rejection_of([] { fd::Router(101, fd::TopK{2}, SigmoidWeights{}); }) ==
        "SigmoidWeights: too many experts");
}

TEST_CASE("a rule of one's own that reads logits") {
  const fd::Router router(4, UpperHalf{}, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
  CHECK(experts_of(router, {0.0F, 4.0F, 3.0F, 1.0F}) == std::vector<int>{1, 2});
  CHECK(experts_of(router, {1.0F, 1.0F, 1.0F, 1.0F}).empty());
  CHECK(experts_of(router, {-8.0F, 0.0F, 1.0F, 2.0F}) == std::vector<int>{3, 2, 1});
}
