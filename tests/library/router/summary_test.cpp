#include "fdroute/summary.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "fdroute/detail/rule/critical_scores.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

/// Three tokens, four experts: {2, 0}, {}, {2, 1, 3}.
struct Example {
  std::vector<std::int32_t> experts{2, 0, -1, -1, -1, -1, 2, 1, 3};
  std::vector<float> weights{0.5F, 0.25F, 0, 0, 0, 0, 0.5F, 0.125F, 0.0625F};
  std::vector<std::int32_t> counts{2, 0, 3};
  fd::RoutingView<> view() { return {experts.data(), weights.data(), counts.data(), 3}; }
};

}  // namespace

TEST_CASE("a summary of a routing worked out by hand") {
  Example example;
  const fd::RoutingSummary summary = fd::summarize(example.view(), 3, 4);
  CHECK(summary.tokens == 3);
  CHECK(summary.assignments == 5);
  CHECK(summary.min_count == 0);
  CHECK(summary.max_count == 3);
  CHECK(summary.mean_count == 5.0 / 3.0);
  CHECK(summary.mean_mass == (0.75 + 0.6875) / 3.0);
  CHECK(summary.min_mass == 0.0);
  CHECK(summary.tokens_by_count == std::vector<std::int64_t>{1, 0, 1, 1});
  CHECK(summary.load == std::vector<std::int64_t>{1, 1, 2, 1});
}

TEST_CASE("a summary of no tokens") {
  Example example;
  const fd::RoutingSummary summary = fd::summarize(example.view(), 0, 4);
  CHECK(summary.assignments == 0);
  CHECK(summary.mean_count == 0.0);
  CHECK(summary.min_mass == 0.0);
  CHECK(summary.tokens_by_count == std::vector<std::int64_t>{0});
  CHECK(summary.load == std::vector<std::int64_t>(4));
}

TEST_CASE("a summary refuses ids that are no experts") {
  Example example;
  CHECK(test::rejection_of([&] { fd::summarize(example.view(), 3, 3); }) ==
        "summarize: expert id 3 is outside [0, 3)");
  example.experts[0] = -1;
  CHECK(test::rejection_of([&] { fd::summarize(example.view(), 3, 4); }) ==
        "summarize: expert id -1 is outside [0, 4)");
}

TEST_CASE("a summary refuses counts that no row can have") {
  Example example;
  example.counts[1] = -1;
  CHECK(test::rejection_of([&] { fd::summarize(example.view(), 3, 4); }) ==
        "summarize: counts of -1 to 3 in rows of 3");
  example.counts[1] = 4;
  CHECK(test::rejection_of([&] { fd::summarize(example.view(), 3, 4); }) ==
        "summarize: counts of 2 to 4 in rows of 3");
}

TEST_CASE("both load-balancing losses, worked out by hand") {
  // P = (1/2, 1/4, 1/8, 1/8) and (1/8, 1/2, 1/4, 1/8), means (5, 6, 3, 2) / 16.
  const float a = std::log(4.0F);
  const float b = std::log(2.0F);
  const std::vector<float> logits{a, b, 0, 0, 0, a, b, 0};
  std::vector<std::int32_t> experts{0, 1, 1, -1};
  std::vector<float> weights(4);
  std::vector<std::int32_t> counts{2, 1};
  const fd::LogitsView<float> view(logits.data(), 2, 4);
  const fd::RoutingView<> routing{experts.data(), weights.data(), counts.data(), 2};
  // Loads (1, 2, 0, 0): 4 * (1 * 5/16 + 2 * 6/16) = 17/4, over 3 assignments or 2 tokens.
  const auto loss = [&](fd::LoadBalance convention) {
    return fd::load_balancing_loss(view, routing, convention);
  };
  CHECK(loss(fd::LoadBalance::switch_transformer) == doctest::Approx(17.0 / 12.0).epsilon(1e-7));
  CHECK(loss(fd::LoadBalance::transformers) == doctest::Approx(17.0 / 8.0).epsilon(1e-7));
  counts = {0, 0};
  CHECK(loss(fd::LoadBalance::switch_transformer) == 0.0);
  CHECK(loss(fd::LoadBalance::transformers) == 0.0);
}

TEST_CASE("at perfect balance the losses are 1 and the mean count") {
  // Token t selects experts t and t + 1 of 8 in a ring; the logits say nothing.
  const std::vector<double> logits(64, 0.25);
  std::vector<std::int32_t> experts;
  for (int t = 0; t < 8; ++t) experts.insert(experts.end(), {t, (t + 1) % 8});
  std::vector<float> weights(16);
  std::vector<std::int32_t> counts(8, 2);
  const fd::LogitsView<double> view(logits.data(), 8, 8);
  const fd::RoutingView<> routing{experts.data(), weights.data(), counts.data(), 2};
  const auto loss = [&](fd::LoadBalance convention) {
    return fd::load_balancing_loss(view, routing, convention);
  };
  CHECK(loss(fd::LoadBalance::switch_transformer) == doctest::Approx(1.0).epsilon(1e-12));
  CHECK(loss(fd::LoadBalance::transformers) == doctest::Approx(2.0).epsilon(1e-12));
}

TEST_CASE("margins to the cut, by hand") {
  const float nan = test::nan;
  const float infinity = test::infinity;
  const std::vector<float> logits{3,   1,   2,   -1,         // top two: 3 and 2, then 1
                                  0,   0,   0,   0,          // a tie
                                  nan, 5,   1,   -infinity,  // masked and NaN
                                  nan, nan, nan, nan};
  const fd::Router router(4, fd::TopK{2});
  const fd::LogitsView<float> view(logits.data(), 4, 4);
  auto routing = test::routed(router, view);
  std::vector<fd::CutMargin> margins(4);
  fd::cut_margins(view, routing.view(), fd::Logit{}, {}, margins);
  CHECK(margins[0].gap == 1.0F);
  CHECK(margins[1].gap == 0.0F);
  CHECK(margins[2].gap == infinity);
  CHECK(margins[3].gap == infinity);
  for (const fd::CutMargin& margin : margins) {
    CHECK(margin.kept_by == infinity);
    CHECK(margin.missed_by == infinity);
  }
}

TEST_CASE("margins of a step-up rule say whether the rule or a bound made the cut") {
  test::Random random(8);
  const int experts = 24;
  const fd::BenjaminiHochberg rule{0.25};
  const fd::NormalNull null;
  const std::vector<float> critical = fd::detail::critical_scores(rule, null, experts);
  const fd::Router router(experts, rule, fd::ZScore{}, null, fd::SoftmaxWeights{},
                          fd::ExpertBounds{1, 3});
  const fd::Router unbounded(experts, rule, fd::ZScore{}, null, fd::SoftmaxWeights{},
                             fd::ExpertBounds{0});
  test::Batch batch{experts};
  for (int t = 0; t < 300; ++t) {
    auto row = test::random_row(test::Rows::random, experts, random);
    for (int strong = random.below(6); strong > 0; --strong)
      row[index(random.below(experts))] += 12.0F;
    batch.add(row);
  }
  auto routing = test::routed(router, batch.view());
  const auto free = test::routed(unbounded, batch.view());
  std::vector<fd::CutMargin> margins(index(batch.tokens()));
  fd::cut_margins(batch.view(), routing.view(), fd::ZScore{}, critical, margins);
  int by_min = 0;
  int by_max = 0;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const fd::CutMargin& margin = margins[index(t)];
    CHECK(margin.gap >= 0.0F);
    if (free.counts[t] == 0) {
      ++by_min;
      CHECK(margin.kept_by < 0.0F);
    } else if (free.counts[t] > 3) {
      ++by_max;
    } else {
      CHECK(margin.kept_by >= 0.0F);
      CHECK(margin.missed_by > 0.0F);
    }
  }
  CHECK(by_min > 0);
  CHECK(by_max > 0);
}
