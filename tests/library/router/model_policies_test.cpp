// The rankings and weights that only few models have, and TokenTable, by their definitions.

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/by_softmax.hpp"
#include "fdroute/ranking/by_sqrt_softplus.hpp"
#include "fdroute/ranking/soft_capped.hpp"
#include "fdroute/router_spec.hpp"
#include "fdroute/token_table.hpp"
#include "fdroute/weights/normalized.hpp"
#include "fdroute/weights/per_expert_scaled.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "fdroute/weights/soft_capped.hpp"
#include "fdroute/weights/softmax.hpp"
#include "fdroute/weights/sparse_mixer.hpp"
#include "fdroute/weights/sqrt_softplus.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

static_assert(fd::Ranking<fd::BySoftmax>);
static_assert(fd::Ranking<fd::BySqrtSoftplus>);
static_assert(fd::Ranking<fd::SoftCappedRanking<fd::BySigmoid>>);
static_assert(fd::RoutingWeights<fd::SqrtSoftplusWeights>);
static_assert(fd::RoutingWeights<fd::SparseMixerWeights>);
static_assert(fd::RoutingWeights<fd::Normalized<fd::SoftmaxWeights>>);
static_assert(fd::RoutingWeights<fd::PerExpertScaled<fd::SoftmaxWeights>>);
static_assert(fd::RoutingWeights<fd::SoftCappedWeights<fd::SigmoidWeights>>);

using Floats = std::vector<float>;

template <class K>
Floats ranking_keys(const K& ranking, const Floats& logits) {
  Floats keys(logits.size());
  ranking(logits, keys);
  return keys;
}

template <class W>
Floats weights_of(const W& policy, const Floats& logits, const std::vector<std::int32_t>& experts) {
  Floats weights(experts.size());
  policy(logits, experts, weights);
  return weights;
}

template <class P>
std::string refusal_of_policy(const P& policy, int experts = 3) {
  return test::rejection_of([&] { policy.validate(experts); });
}

const Floats six_logits{0.5F, -3.0F, 8.0F, -90.0F, 30.0F, 0.0F};

long double root_of_softplus(float x) {
  return std::sqrt(std::log1p(std::exp(static_cast<long double>(x))));
}

}  // namespace

TEST_CASE("BySoftmax") {
  const Floats bias{0.0F, 0.5F, -0.25F, 1.0F, 0.0F, 0.0F};
  long double sum = 0;
  for (const float x : six_logits) sum += std::exp(static_cast<long double>(x));
  const Floats plain = ranking_keys(fd::BySoftmax{}, six_logits);
  const Floats biased = ranking_keys(fd::BySoftmax{bias}, six_logits);
  for (std::size_t j = 0; j < six_logits.size(); ++j) {
    const auto share = static_cast<float>(std::exp(static_cast<long double>(six_logits[j])) / sum);
    CHECK(oracle::ulps_between(plain[j], share) <= 1);
    CHECK(biased[j] == plain[j] + bias[j]);
  }
  const Floats odd{test::nan, -test::infinity, 1.0F, 1.0F};
  const Floats keys = ranking_keys(fd::BySoftmax{{9, 9, 0, 0}}, odd);
  CHECK(std::isnan(keys[0]));
  CHECK(keys[1] == -test::infinity);
  CHECK(keys[2] == 0.5F);
  CHECK(ranking_keys(fd::BySoftmax{}, {test::infinity, 3.0F, test::infinity}) ==
        Floats{0.5F, 0, 0.5F});
  CHECK(ranking_keys(fd::BySoftmax{}, {3e38F, -3e38F}) == Floats{1, 0});
}

TEST_CASE("BySqrtSoftplus, and weights like it") {
  const Floats keys = ranking_keys(fd::BySqrtSoftplus{}, six_logits);
  const Floats weights = weights_of(fd::SqrtSoftplusWeights{}, six_logits, {0, 1, 2, 3, 4, 5});
  for (std::size_t j = 0; j < six_logits.size(); ++j) {
    CHECK(oracle::ulps_between(keys[j], static_cast<float>(root_of_softplus(six_logits[j]))) <= 1);
    CHECK(weights[j] == keys[j]);
  }
  const Floats odd{test::nan, -test::infinity, test::infinity, 3e38F};
  const Floats of_odd = ranking_keys(fd::BySqrtSoftplus{{1, 1, 1, 1}}, odd);
  CHECK(std::isnan(of_odd[0]));
  CHECK(of_odd[1] == -test::infinity);
  CHECK(of_odd[2] == test::infinity);
  CHECK(of_odd[3] == std::sqrt(3e38F) + 1.0F);

  for (const double epsilon : {0.0, 0.5}) {
    const fd::SqrtSoftplusWeights policy{.renormalize = true, .epsilon = epsilon};
    const Floats two = weights_of(policy, six_logits, {2, 0});
    const long double sum = root_of_softplus(8.0F) + root_of_softplus(0.5F) + epsilon;
    CHECK(oracle::ulps_between(two[0], static_cast<float>(root_of_softplus(8.0F) / sum)) <= 1);
    CHECK(oracle::ulps_between(two[1], static_cast<float>(root_of_softplus(0.5F) / sum)) <= 1);
    const Floats odd_weights = weights_of(policy, odd, {0, 1, 2});
    CHECK(odd_weights == Floats{0, 0, 1});
    CHECK(weights_of(policy, odd, {0, 1}) == Floats{0, 0});
  }
  CHECK(refusal_of_policy(fd::SqrtSoftplusWeights{.epsilon = -1}) ==
        "SqrtSoftplusWeights: epsilon must be finite and >= 0, got -1");
}

TEST_CASE("a selection bias is checked") {
  CHECK(refusal_of_policy(fd::BySoftmax{{1, 2}}) == "BySoftmax: bias has 2 values for 3 experts");
  CHECK(refusal_of_policy(fd::BySqrtSoftplus{{1, test::nan, 2}}) ==
        "BySqrtSoftplus: bias[1] must be finite or -inf, got nan");
  constexpr float masked = -std::numeric_limits<float>::infinity();
  CHECK(refusal_of_policy(fd::BySoftmax{{masked, masked, masked}}) ==
        "BySoftmax: every bias is -inf");
  CHECK(refusal_of_policy(fd::BySoftmax{{masked, 0, masked}}) == "no error");
  CHECK(refusal_of_policy(fd::BySqrtSoftplus{}) == "no error");
}

TEST_CASE("capped logits") {
  Floats capped;
  for (const float x : six_logits)
    capped.push_back(static_cast<float>(4.0 * std::tanh(static_cast<double>(x) / 4.0)));
  const fd::BySigmoid ranking{.bias = {0, 0, 1, 0, 0, 0}};
  CHECK(ranking_keys(fd::SoftCappedRanking<fd::BySigmoid>{ranking, 4.0F}, six_logits) ==
        ranking_keys(ranking, capped));
  const fd::SigmoidWeights weights{.renormalize = true};
  CHECK(weights_of(fd::SoftCappedWeights<fd::SigmoidWeights>{weights, 4.0F}, six_logits, {4, 1}) ==
        weights_of(weights, capped, {4, 1}));
  const Floats odd{test::nan, -test::infinity, test::infinity};
  const Floats keys = ranking_keys(fd::SoftCappedRanking<fd::ByLogit>{{}, 2.0F}, odd);
  CHECK(std::isnan(keys[0]));
  CHECK(keys[1] == -test::infinity);
  CHECK(keys[2] == 2.0F);
  CHECK(refusal_of_policy(fd::SoftCappedRanking<fd::ByLogit>{{}, 0.0F}) ==
        "SoftCappedRanking: cap must be positive and finite, got 0");
  CHECK(refusal_of_policy(fd::SoftCappedWeights<fd::SigmoidWeights>{{}, test::infinity}) ==
        "SoftCappedWeights: cap must be positive and finite, got inf");
  CHECK(refusal_of_policy(fd::SoftCappedRanking<fd::BySigmoid>{{.bias = {1}}, 1.0F}) ==
        "BySigmoid: bias has 1 values for 3 experts");
  CHECK(fd::SoftCappedRanking<fd::ByLogit>{{.ties = fd::TieOrder::highest_index}}.ties ==
        fd::TieOrder::highest_index);
}

TEST_CASE("Normalized") {
  const fd::PerExpertScaled<fd::SigmoidWeights> given{{}, {2, -4, 6}};
  const Floats zeros(3);  // sigmoids of 1/2: weights 1, -2, 3
  const auto normalized = [&](double power, double floor) {
    return fd::Normalized<fd::PerExpertScaled<fd::SigmoidWeights>>{given, power, floor};
  };
  CHECK(weights_of(normalized(1, 0), zeros, {0, 1, 2}) == Floats{1.0F / 6, -2.0F / 6, 3.0F / 6});
  CHECK(weights_of(normalized(1, 6), zeros, {0, 1, 2}) == Floats{1.0F / 6, -2.0F / 6, 3.0F / 6});
  CHECK(weights_of(normalized(1, 8), zeros, {0, 1, 2}) == Floats{0.125F, -0.25F, 0.375F});
  const Floats by_length = weights_of(normalized(2, 0), zeros, {2, 0});
  CHECK(oracle::ulps_between(by_length[0], static_cast<float>(3.0 / std::sqrt(10.0))) <= 1);
  CHECK(oracle::ulps_between(by_length[1], static_cast<float>(1.0 / std::sqrt(10.0))) <= 1);
  CHECK(weights_of(normalized(2, 1), Floats{-test::infinity, 0, 0}, {0}) == Floats{0});
  CHECK(weights_of(normalized(1, 0), zeros, {}).empty());
  CHECK(refusal_of_policy(normalized(0, 0)) ==
        "Normalized: power must be positive and finite, got 0");
  CHECK(refusal_of_policy(normalized(1, -1)) ==
        "Normalized: floor must be finite and >= 0, got -1");
  CHECK(refusal_of_policy(normalized(1, 0), 2) == "PerExpertScaled: 3 factors for 2 experts");
  CHECK(refusal_of_policy(fd::PerExpertScaled<fd::SigmoidWeights>{{}, {1, test::infinity, 1}}) ==
        "PerExpertScaled: factors[1] must be finite, got inf");
}

TEST_CASE("SparseMixerWeights: the share among the experts near the one selected") {
  // 0.1 (jitter 0.05) of |logit|: 10 and 9.5 are near 10, and 9.5 and 9 are near 9.5.
  const Floats row{10.0F, 9.5F, 9.0F, 2.0F};
  const fd::SparseMixerWeights policy{.jitter = 0.05F};
  const Floats weights = weights_of(policy, row, {0, 1});
  CHECK(oracle::ulps_between(weights[0],
                             static_cast<float>(1 / (1 + std::exp(-0.5) + std::exp(-1.0)))) <= 1);
  CHECK(oracle::ulps_between(weights[1], static_cast<float>(1 / (1 + std::exp(-0.5)))) <= 1);
  // A negative logit is measured by its own size, a tie is always near.
  const Floats low{-1.0F, -1.25F, -2.0F, -1.0F};
  const Floats of_low = weights_of(fd::SparseMixerWeights{.jitter = 0.1F}, low, {0, 3});
  CHECK(oracle::ulps_between(of_low[0], static_cast<float>(1 / (2 + std::exp(-0.25)))) <= 1);
  CHECK(oracle::ulps_between(of_low[1], static_cast<float>(1 / (1 + std::exp(-0.25)))) <= 1);
  CHECK(weights_of(fd::SparseMixerWeights{.jitter = 0.0F}, {1, 0, 0}, {0, 1}) == Floats{1, 0.5F});
  const Floats odd{test::nan, -test::infinity, test::infinity, 0.0F, test::infinity};
  CHECK(weights_of(policy, odd, {2, 4, 3, 1, 0}) == Floats{0.5F, 1, 1, 0, 0});
  CHECK(weights_of(policy, {3e38F, -3e38F}, {0, 1}) == Floats{1, 1});
  CHECK(refusal_of_policy(fd::SparseMixerWeights{.jitter = -0.5F}) ==
        "SparseMixerWeights: jitter must be finite and >= 0, got -0.5");
}

TEST_CASE("TokenTable: experts of a token, weights of its logits") {
  const std::vector<std::int32_t> ids{2, 0, 1, 2};
  const fd::TokenTable router(3, ids, 2, fd::SigmoidWeights{});
  CHECK(router.capacity() == 2);
  CHECK(router.vocabulary() == 2);
  const Floats rows{0.0F, 9.0F, test::nan, -test::infinity, test::infinity, test::nan};
  const std::vector<std::int32_t> tokens{1, 0};
  std::vector<std::int32_t> experts(6, 7);
  Floats weights(6, 7.0F);
  std::vector<std::int32_t> counts(2);
  std::vector<fd::TokenStatus> status(2);
  const fd::LogitsView<float> view(rows.data(), 2, 3);
  const fd::TokenStatus all =
      router.route(view, tokens,
                   fd::RoutingView<>{experts.data(), weights.data(), counts.data(), 3,
                                     fd::Padding::repeat_valid, status.data()});
  CHECK(experts == std::vector<std::int32_t>{1, 2, 1, 2, 0, 2});
  const float first = weights_of(fd::SigmoidWeights{}, rows, {1})[0];
  CHECK(weights == Floats{first, 0, 0, 0, 0, 0});
  CHECK(counts == std::vector<std::int32_t>{2, 2});
  CHECK(status[0] == fd::TokenStatus::has_nan);
  CHECK(status[1] == (fd::TokenStatus::has_nan | fd::TokenStatus::no_finite_logit));
  CHECK(all == status[1]);
  Floats dense(6, 7.0F);
  router.route(view, tokens, fd::DenseView{dense.data(), 3});
  CHECK(dense == Floats{0, first, 0, 0, 0, 0});

  const auto refused = [](int of, std::vector<std::int32_t> table, int top_k) {
    return test::rejection_of(
        [&] { fd::TokenTable(of, std::move(table), top_k, fd::SigmoidWeights{}); });
  };
  CHECK(refused(3, {2, 0, 1, 3}, 2) == "TokenTable: expert 3 of token 1 must lie in [0, 3)");
  CHECK(refused(3, {2, 0, -1, 1}, 2) == "TokenTable: expert -1 of token 1 must lie in [0, 3)");
  CHECK(refused(3, {2, 0, 1, 1}, 2) == "TokenTable: token 1 has expert 1 twice");
  CHECK(refused(3, {2, 0, 1}, 2) == "TokenTable: 3 ids are no rows of 2");
  CHECK(refused(3, {}, 2) == "TokenTable: 0 ids are no rows of 2");
  CHECK(refused(3, {0}, 4) == "TokenTable: top_k must lie in [1, 3], the number of experts, got 4");
  CHECK(refused(0, {0}, 1) == "Router: the number of experts must lie in [1, 1024], got 0");
}

TEST_CASE("a spec refuses more experts than its groups reach") {
  using fd::presets::Shape;
  for (const Shape shape :
       {Shape::group_max_softmax, Shape::group_top2_softmax, Shape::group_top2_sigmoid}) {
    fd::presets::RouterSpec spec{
        .shape = shape, .experts = 16, .top_k = 9, .groups = 4, .kept_groups = 2};
    const auto refused = [&] {
      return test::rejection_of(
          [&] { fd::presets::visit_parts(spec, [](const auto&, const auto&) { return 0; }); });
    };
    CHECK(refused() == "top-9 exceeds the 8 experts of 2 of 4 groups");
    spec.top_k = 8;
    CHECK(refused() == "no error");
  }
}
