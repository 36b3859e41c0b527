// What experts are ranked by: a Ranking of one's own, the order of ties, a null per expert.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

using test::index;

/// key_j = logit_j + bias_j; experts from `masked` on are masked.
struct Biased {
  fd::TieOrder ties = fd::TieOrder::lowest_index;
  std::vector<float> bias{};
  int masked = fd::max_experts;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    for (std::size_t j = 0; j < logits.size(); ++j)
      keys[j] = static_cast<int>(j) < masked ? logits[j] + bias[j] : -test::infinity;
  }

  void validate(int experts) const {
    if (static_cast<int>(bias.size()) != experts)
      throw std::invalid_argument("Biased: one bias per expert");
  }
};

static_assert(fd::Ranking<Biased> && fd::Ranking<fd::ByLogit>);

/// A normal null of its own mean for every expert.
struct ShiftedNulls {
  std::vector<double> mean;

  double operator()(double score, int expert) const noexcept {
    return fd::NormalNull{mean[index(expert)], 1.0}(score);
  }
};

static_assert(fd::ExpertNull<ShiftedNulls> && !fd::NullDistribution<ShiftedNulls>);

std::vector<float> random_values(int n, test::Random& random) {
  std::vector<float> values;
  for (int i = 0; i < n; ++i) values.push_back(random.normal());
  return values;
}

bool any_finite(const std::vector<float>& row) {
  return std::any_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); });
}

/// The first `count` of `best_first`, weighted by the softmax of `logits` over all experts.
oracle::Token token_of(const std::vector<float>& logits, const std::vector<int>& best_first,
                       int count) {
  const std::vector<double> weights = oracle::softmax(logits, 1.0);
  oracle::Token token;
  token.has_nan = std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
  for (int i = 0; i < count; ++i) {
    token.experts.push_back(best_first[index(i)]);
    token.weights.push_back(weights[index(best_first[index(i)])]);
  }
  return token;
}

}  // namespace

TEST_CASE("the rule and the order follow the ranking's keys, the weights the logits") {
  test::Random random(81);
  int reordered = 0;
  for (const int experts : {1, 2, 8, 64, 130}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    const Biased ranking{{}, random_values(experts, random)};
    const fd::Router topk(experts, fd::TopK{std::min(experts, 5)}, fd::SoftmaxWeights{},
                          fd::ExpertBounds{}, ranking);
    const fd::Router bh(experts, fd::BenjaminiHochberg{0.3}, fd::Logit{}, fd::NormalNull{0.0, 2.0},
                        fd::SoftmaxWeights{}, fd::ExpertBounds{0}, ranking);
    const auto by_count = test::routed(topk, batch.view());
    const auto by_test = test::routed(bh, batch.view());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (!any_finite(row)) continue;
      std::vector<float> keys;
      for (int j = 0; j < experts; ++j) keys.push_back(row[index(j)] + ranking.bias[index(j)]);
      const std::vector<int> order = oracle::order(keys);
      const auto p = oracle::sorted_p_values(
          keys, [](double s) { return oracle::normal_survival(s, 0.0, 2.0); });
      CHECK(test::difference(token_of(row, order, std::min(experts, 5)), by_count, t, keys) == "");
      CHECK(test::difference(token_of(row, order, oracle::benjamini_hochberg(p, 0.3)), by_test, t,
                             keys) == "");
      reordered += static_cast<int>(order != oracle::order(row));
    }
  }
  CHECK(reordered > 50);
}

TEST_CASE("a masked expert is never selected while another remains, nor has it a small p-value") {
  test::Random random(82);
  const int experts = 16;
  test::Batch batch{experts};
  for (int t = 0; t < 50; ++t) batch.add(test::random_row(test::Rows::random, experts, random));
  for (const int masked : {1, 7, 15}) {
    const Biased ranking{{}, std::vector<float>(index(experts)), masked};
    const fd::Router router(experts, fd::BenjaminiHochberg{0.9}, fd::Logit{},
                            fd::NormalNull{-50.0, 1.0}, fd::SoftmaxWeights{}, fd::ExpertBounds{0},
                            ranking);
    const auto out = test::routed(router, batch.view());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      // Every unmasked p-value is next to 0 and every masked one 1.
      CHECK(out.counts[t] == masked);
      for (int i = 0; i < masked; ++i) CHECK(out.experts[t * experts + i] < masked);
    }
  }
}

TEST_CASE("a row whose keys are all masked has nothing to rank") {
  const Biased ranking{{}, std::vector<float>(4), 0};
  const fd::Router router(4, fd::TopK{2}, fd::SoftmaxWeights{}, fd::ExpertBounds{1, 2}, ranking);
  test::Batch batch{4};
  batch.add({3.0F, 1.0F, 4.0F, 1.0F});
  const auto out = test::routed(router, batch.view());
  CHECK(out.counts[0] == 1);
  CHECK(out.experts[0] == 0);
  CHECK(out.weights[0] == 0.0F);
  CHECK(out.status[0] == fd::TokenStatus::no_finite_logit);
}

TEST_CASE("equal keys rank by the tie order") {
  for (const float last : {test::nan, 0.5F}) {
    test::Batch batch{6};
    batch.add({1.0F, 2.0F, 1.0F, 2.0F, last, 1.0F});
    const auto ids = [&](fd::TieOrder ties) {
      const fd::Router router(6, fd::TopK{6}, fd::SoftmaxWeights{}, fd::ExpertBounds{},
                              fd::ByLogit{ties});
      const auto out = test::routed(router, batch.view());
      std::vector<int> experts;
      for (int i = 0; i < 6; ++i) experts.push_back(out.experts[i]);
      return experts;
    };
    CAPTURE(last);
    CHECK(ids(fd::TieOrder::lowest_index) == std::vector<int>{1, 3, 0, 2, 5, 4});
    CHECK(ids(fd::TieOrder::highest_index) == std::vector<int>{3, 1, 5, 2, 0, 4});
  }
}

TEST_CASE("with a null per expert the p-values decide the order, then the keys, then the index") {
  test::Random random(83);
  int reordered = 0;
  for (const int experts : {1, 2, 8, 64, 130}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    ShiftedNulls null;
    for (int j = 0; j < experts; ++j) null.mean.push_back(random.below(3) - 4.0);
    const fd::Router router(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{}, null,
                            fd::SoftmaxWeights{}, fd::ExpertBounds{0});
    const fd::Router topk(experts, fd::TopK{std::min(experts, 3)}, fd::LogSoftmax{}, null);
    const auto by_test = test::routed(router, batch.view());
    const auto by_count = test::routed(topk, batch.view());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (!any_finite(row)) continue;
      const std::vector<float> scores = oracle::scores(oracle::Score::log_softmax, row);
      std::vector<double> p;
      for (int j = 0; j < experts; ++j) {
        const float s = scores[index(j)];
        const bool ordinary = !std::isnan(s) && s != -test::infinity;
        p.push_back(ordinary ? oracle::normal_survival(s, null.mean[index(j)], 1.0) : 1.0);
      }
      std::vector<int> order = oracle::order(row);
      const std::vector<int> by_key = order;
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return p[index(a)] < p[index(b)]; });
      std::vector<double> sorted = p;
      std::sort(sorted.begin(), sorted.end());
      CHECK(test::difference(token_of(row, order, oracle::benjamini_hochberg(sorted, 0.3)), by_test,
                             t, row) == "");
      CHECK(test::difference(token_of(row, order, std::min(experts, 3)), by_count, t, row) == "");
      reordered += static_cast<int>(order != by_key);
    }
  }
  CHECK(reordered > 50);
}

TEST_CASE("a ranking is asked to validate itself") {
  const auto rejection = [](std::vector<float> bias) {
    return test::rejection_of([&] {
      fd::Router(4, fd::TopK{2}, fd::SoftmaxWeights{}, fd::ExpertBounds{}, Biased{{}, bias});
    });
  };
  CHECK(rejection(std::vector<float>(4)) == "no error");
  CHECK(rejection(std::vector<float>(3)) == "Biased: one bias per expert");
}
