// SigmoidWeights, and Scaled around any weights.

#include "fdroute/weights/sigmoid.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/scaled.hpp"
#include "fdroute/weights/softmax.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

static_assert(fd::RoutingWeights<fd::SigmoidWeights>);
static_assert(fd::RoutingWeights<fd::Scaled<fd::SigmoidWeights>>);

template <class W>
std::vector<float> weighed_by(const W& policy, const std::vector<float>& logits,
                              const std::vector<std::int32_t>& experts) {
  std::vector<float> weights(experts.size());
  policy(logits, experts, weights);
  return weights;
}

long double sigmoid(float x) {
  return 1.0L / (1.0L + std::exp(-static_cast<long double>(x)));
}

const std::vector<float> six_logits{0.5F, -3.0F, 8.0F, -90.0F, 30.0F, 0.0F};

}  // namespace

TEST_CASE("a sigmoid per selected expert") {
  const std::vector<std::int32_t> experts{4, 2, 0, 5, 1, 3};
  const std::vector<float> weights = weighed_by(fd::SigmoidWeights{}, six_logits, experts);
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const auto expected = static_cast<float>(sigmoid(six_logits[test::index(experts[i])]));
    CHECK(oracle::ulps_between(weights[i], expected) <= 3);
  }
}

TEST_CASE("the sigmoid is within 3 ulp, never decreases by more than one, and has its limits") {
  double worst = 0.0;
  int steps_down = 0;
  for (std::int32_t i = fd::detail::ordered(-87.0F); i < fd::detail::ordered(87.0F); i += 1009) {
    const float x = fd::detail::from_ordered(i);
    const float s = fd::detail::sigmoid(x);
    const auto exact = static_cast<double>(sigmoid(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(s) - exact) / ulp);
    const float next = fd::detail::sigmoid(fd::detail::from_ordered(i + 1));
    steps_down += next < s ? 1 : 0;
    if (next < s) CHECK(std::nextafter(next, 2.0F) == s);
  }
  MESSAGE("sigmoid: ", worst, " ulp, ", steps_down, " steps down");
  CHECK(worst <= 3.0);
  CHECK(fd::detail::sigmoid(test::infinity) == 1.0F);
  CHECK(fd::detail::sigmoid(-test::infinity) == 0.0F);
  CHECK(fd::detail::sigmoid(0.0F) == 0.5F);
  CHECK(fd::detail::sigmoid(-0.0F) == 0.5F);
  CHECK(fd::detail::sigmoid(40.0F) == 1.0F);
  CHECK(fd::detail::sigmoid(-100.0F) > 0.0F);
  CHECK(fd::detail::sigmoid(-105.0F) == 0.0F);
  CHECK(std::isnan(fd::detail::sigmoid(test::nan)));
}

TEST_CASE("renormalised, with an epsilon") {
  for (const double epsilon : {0.0, 1e-20, 0.5}) {
    const fd::SigmoidWeights policy{.renormalize = true, .epsilon = epsilon};
    const std::vector<float> weights = weighed_by(policy, six_logits, {2, 5, 1});
    const long double sum = sigmoid(8.0F) + sigmoid(0.0F) + sigmoid(-3.0F) + epsilon;
    CHECK(oracle::ulps_between(weights[0], static_cast<float>(sigmoid(8.0F) / sum)) <= 4);
    CHECK(oracle::ulps_between(weights[1], static_cast<float>(sigmoid(0.0F) / sum)) <= 4);
    CHECK(oracle::ulps_between(weights[2], static_cast<float>(sigmoid(-3.0F) / sum)) <= 4);
  }
}

TEST_CASE("sigmoids at the edge") {
  const std::vector<float> row{test::nan, test::infinity, -test::infinity, -800.0F};
  for (const bool renormalize : {false, true}) {
    const fd::SigmoidWeights policy{.renormalize = renormalize};
    CHECK(weighed_by(policy, row, {1, 0, 2, 3}) == std::vector<float>{1, 0, 0, 0});
    CHECK(weighed_by(policy, row, {0, 2}) == std::vector<float>{0, 0});
    CHECK(weighed_by(policy, row, {}).empty());
  }
}

TEST_CASE("Scaled multiplies what another policy gives") {
  const std::vector<std::int32_t> experts{2, 0};
  const fd::SoftmaxWeights softmax{.renormalize = true};
  const std::vector<float> plain = weighed_by(softmax, six_logits, experts);
  const std::vector<float> scaled =
      weighed_by(fd::Scaled<fd::SoftmaxWeights>{softmax, 2.5F}, six_logits, experts);
  for (std::size_t i = 0; i < 2; ++i) CHECK(scaled[i] == 2.5F * plain[i]);
}

TEST_CASE("a router refuses weights out of range") {
  const auto rejection = [](const auto& weights) {
    return test::rejection_of([&] { fd::Router(4, fd::TopK{1}, weights); });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity();
  using Softmax = fd::Scaled<fd::SoftmaxWeights>;
  CHECK(rejection(fd::SigmoidWeights{.epsilon = -1.0}) ==
        "SigmoidWeights: epsilon must be finite and >= 0, got -1");
  CHECK(rejection(fd::SigmoidWeights{.epsilon = infinity}) ==
        "SigmoidWeights: epsilon must be finite and >= 0, got inf");
  CHECK(rejection(Softmax{.factor = 0.0F}) == "Scaled: factor must be positive and finite, got 0");
  CHECK(rejection(Softmax{.factor = test::nan}) ==
        "Scaled: factor must be positive and finite, got nan");
  CHECK(rejection(Softmax{.factor = test::infinity}) ==
        "Scaled: factor must be positive and finite, got inf");
  CHECK(rejection(Softmax{.weights = {.temperature = 0.0}}) ==
        "SoftmaxWeights: temperature must be positive and finite, got 0");
  CHECK(rejection(Softmax{.factor = 16.0F}) == "no error");
}
