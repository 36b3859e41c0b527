#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "fdroute/multiple_testing.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/null/weighted.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;
using Tables = fd::PerExpertNull<fd::TabulatedNull>;
using Normals = fd::PerExpertNull<fd::NormalNull>;
using WeightedNormal = fd::WeightedNull<fd::NormalNull>;

static_assert(fd::ExpertNull<Tables> && fd::FittedNull<Tables>);
static_assert(fd::ExpertNull<Normals> && !fd::FittedNull<Normals>);
static_assert(fd::ExpertNull<WeightedNormal> && !fd::FittedNull<WeightedNormal>);
static_assert(fd::FittedNull<fd::WeightedNull<fd::TabulatedNull>>);
static_assert(!fd::NullDistribution<Tables> && !fd::NullDistribution<WeightedNormal>);

namespace {

fd::TabulatedNull table(const std::string& score, double shift = 0.0) {
  return fd::TabulatedNull::from_log_survival({-6.0 + shift, -3.0 + shift, -1.0 + shift},
                                              {-0.1, -2.5, -7.0}, test::fitted_on(score));
}

/// The experts that a router selects, in order, must be those of the smallest p-values, as many as
/// the rule rejects; `p_of(score, expert)` is the definition.
template <class R, class N, class Definition>
int check_selection(const R& rule, const N& null, const test::Batch& batch,
                    const Definition& p_of) {
  const fd::Router router(batch.experts, rule, fd::LogSoftmax{}, null, fd::SoftmaxWeights{},
                          fd::ExpertBounds{0});
  const auto out = test::routed(router, batch.view());
  CHECK(out.guards_intact());
  int reordered = 0;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const std::vector<float> row = batch.row(t);
    if (oracle::finite_values(row).empty()) continue;
    const std::vector<float> scores = oracle::scores(oracle::Score::log_softmax, row);
    std::vector<double> p;
    for (int j = 0; j < batch.experts; ++j) {
      const float s = scores[index(j)];
      p.push_back(std::isnan(s) || s == -test::infinity ? 1.0 : p_of(s, j));
    }
    std::vector<int> order = oracle::order(row);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return p[index(a)] < p[index(b)]; });
    const int count = fd::rejections(rule, p);
    REQUIRE(out.counts[t] == count);
    const auto* selected = &out.experts[t * out.capacity];
    CHECK(std::equal(order.begin(), order.begin() + count, selected));
    const std::vector<int> by_logit = oracle::order(row);
    reordered +=
        static_cast<int>(!std::equal(order.begin(), order.begin() + count, by_logit.begin()));
  }
  return reordered;
}

}  // namespace

TEST_CASE("PerExpertNull: each expert by its own null, for every kind of row") {
  test::Random random(81);
  int reordered = 0;
  for (const int experts : {1, 2, 16, 64, 130, 1024}) {
    CAPTURE(experts);
    const test::Batch batch = test::batch_of_every_kind(experts, experts > 200 ? 1 : 6, random);
    Normals normals;
    Tables tables;
    std::vector<double> shift;
    for (int j = 0; j < experts; ++j) {
      shift.push_back(random.below(4));
      normals.nulls.push_back({shift.back() - 5.0, 1.5});
      tables.nulls.push_back(table("log_softmax", shift.back()));
    }
    const auto normal = [&](double score, int j) {
      return oracle::normal_survival(score, shift[index(j)] - 5.0, 1.5);
    };
    const auto tabulated = [&](double score, int j) {
      const double s = shift[index(j)];
      return oracle::log_survival_table({-6.0 + s, -3.0 + s, -1.0 + s}, {-0.1, -2.5, -7.0}, score);
    };
    reordered += check_selection(fd::BenjaminiHochberg{0.3}, normals, batch, normal);
    reordered += check_selection(fd::Holm{0.3}, normals, batch, normal);
    reordered += check_selection(fd::BenjaminiHochberg{0.3}, tables, batch, tabulated);
  }
  CHECK(reordered > 20);
}

TEST_CASE("equal nulls for all experts are one null") {
  test::Random random(82);
  const test::Batch batch = test::batch_of_every_kind(64, 10, random);
  const fd::NormalNull one{-5.0, 1.5};
  const auto with = [&](const auto& null) {
    const fd::Router router(64, fd::BenjaminiHochberg{0.2}, fd::LogSoftmax{}, null);
    return test::routed(router, batch.view());
  };
  const auto expected = with(one);
  // Another way to the same experts may round their weights differently.
  const auto per_expert = with(Normals{std::vector<fd::NormalNull>(64, one)});
  CHECK(per_expert.experts == expected.experts);
  CHECK(per_expert.counts == expected.counts);
  const auto weighted = with(fd::WeightedNull{one, std::vector<double>(64, 1.0)});
  CHECK(weighted.experts == expected.experts);
  CHECK(weighted.counts == expected.counts);
}

TEST_CASE("WeightedNull divides p by the expert's weight") {
  const WeightedNormal null{{}, {0.5, 1.5, 0.0, 2.0}};
  CHECK(null(1.0, 1) == oracle::normal_survival(1.0, 0.0, 1.0) / 1.5);
  CHECK(null(-3.0, 0) == 1.0);
  CHECK(null(100.0, 2) == 1.0);
  CHECK(null(100.0, 0) == 0.0);

  test::Random random(83);
  int reordered = 0;
  for (const int experts : {2, 16, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    std::vector<double> weights(index(experts), 0.5);
    for (int j = 0; j < experts; j += 2) weights[index(j)] = 1.5;
    const fd::NormalNull normal{-5.0, 1.5};
    reordered += check_selection(
        fd::BenjaminiHochberg{0.3}, fd::WeightedNull{normal, weights}, batch,
        [&](double score, int j) {
          return std::min(1.0, oracle::normal_survival(score, -5.0, 1.5) / weights[index(j)]);
        });
  }
  CHECK(reordered > 5);
}

TEST_CASE("nulls per expert are checked by the router") {
  const auto message = [](const auto& null) {
    return test::rejection_of([&] { fd::Router(3, fd::BenjaminiHochberg{}, fd::ZScore{}, null); });
  };
  CHECK(message(Normals{{{}, {}}}) == "PerExpertNull: 2 nulls for 3 experts");
  CHECK(message(Normals{{{}, {0.0, -1.0}, {}}}) ==
        "NormalNull: sd must be positive and finite, got -1");
  CHECK(message(Tables{{table("zscore"), table("zscore"), table("logit")}}) ==
        "PerExpertNull: null 0 was fitted on score 'zscore', null 2 on 'logit'");
  CHECK(message(Tables{{table("logit"), table("logit"), table("logit")}}) ==
        "Router: the null distribution was fitted on score 'logit', the router uses 'zscore'");
  CHECK(message(fd::WeightedNull{fd::NormalNull{}, {1.0, 1.0}}) ==
        "WeightedNull: 2 weights for 3 experts");
  CHECK(message(fd::WeightedNull{fd::NormalNull{}, {1.0, 1.0, 2.0}}) ==
        "WeightedNull: the weights' mean must be 1, got 1.3333333333333333");
  CHECK(message(fd::WeightedNull{fd::NormalNull{}, {1.0, 3.0, -1.0}}) ==
        "WeightedNull: weights[2] must be finite and >= 0, got -1");
  CHECK(message(fd::WeightedNull{fd::NormalNull{0.0, 0.0}, {1.0, 1.0, 1.0}}) ==
        "NormalNull: sd must be positive and finite, got 0");
  CHECK(message(fd::WeightedNull{table("logit"), {1.0, 1.0, 1.0}}) ==
        "Router: the null distribution was fitted on score 'logit', the router uses 'zscore'");
}
