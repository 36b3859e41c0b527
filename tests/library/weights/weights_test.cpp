#include "fdroute/weights/softmax.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

static_assert(fd::RoutingWeights<fd::SoftmaxWeights>);

namespace {

std::vector<float> weights_of(const fd::SoftmaxWeights& policy, const std::vector<float>& logits,
                              const std::vector<std::int32_t>& experts) {
  std::vector<float> weights(experts.size(), -1.0F);
  policy(logits, experts, weights);
  return weights;
}

std::vector<std::int32_t> everyone(std::size_t experts) {
  std::vector<std::int32_t> ids(experts);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

}  // namespace

TEST_CASE("weights are the softmax over all experts, kept or renormalised") {
  test::Random random(41);
  int compared = 0;
  for (const int experts : {1, 2, 8, 64, 65, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    for (const double temperature : {1.0, 0.25, 7.0, 1e-3, 1e30}) {
      for (const bool renormalize : {false, true}) {
        const fd::SoftmaxWeights policy{temperature, renormalize};
        for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
          const std::vector<float> row = batch.row(t);
          if (oracle::finite_values(row).empty()) continue;
          const std::vector<int> order = oracle::order(row);
          for (const int count : {0, 1, 3, experts}) {
            if (count > experts) continue;
            const std::vector<std::int32_t> ids(order.begin(), order.begin() + count);
            const auto expected =
                oracle::route(row, count, {count, count}, {temperature, renormalize});
            const auto actual = weights_of(policy, row, ids);
            for (std::size_t i = 0; i < ids.size(); ++i, ++compared) {
              const auto rounded = static_cast<float>(expected.weights[i]);
              CHECK(oracle::ulps_between(actual[i], rounded) <= 4);
            }
          }
        }
      }
    }
  }
  CHECK(compared > 200'000);
}

TEST_CASE("weights of rows done by hand") {
  using Weights = std::vector<float>;
  const fd::SoftmaxWeights keep;
  const fd::SoftmaxWeights renormalize{1.0, true};
  const std::vector<float> equal(4, -2.5F);
  CHECK(weights_of(keep, equal, {3, 1}) == Weights{0.25F, 0.25F});
  CHECK(weights_of(renormalize, equal, {3, 1}) == Weights{0.5F, 0.5F});

  const std::vector<float> odds{0.0F, std::log(3.0F)};  // 1 : 3
  CHECK(weights_of(keep, odds, {1})[0] == doctest::Approx(0.75).epsilon(1e-7));
  CHECK(weights_of(renormalize, odds, {1}) == Weights{1.0F});
  CHECK(weights_of({0.5, false}, odds, {1})[0] == doctest::Approx(0.9).epsilon(1e-7));

  // Infinite logits share the whole weight; NaN weighs nothing.
  const std::vector<float> odd{test::infinity, 3.0F, test::nan, test::infinity, -test::infinity};
  const auto everyone_of = everyone(5);
  CHECK(weights_of(keep, odd, everyone_of) == Weights{0.5F, 0.0F, 0.0F, 0.5F, 0.0F});
  CHECK(weights_of(renormalize, odd, {3}) == Weights{1.0F});
  CHECK(weights_of(keep, {test::nan, 2.0F, -test::infinity}, everyone(3)) ==
        Weights{0.0F, 1.0F, 0.0F});

  // A difference beyond float's and exp's range.
  CHECK(weights_of(keep, {3e38F, -3e38F}, everyone(2)) == Weights{1.0F, 0.0F});
  // A weight that is subnormal in float.
  CHECK(weights_of(keep, {0.0F, -100.0F}, everyone(2))[1] == doctest::Approx(3.720076e-44));
}

TEST_CASE("all weights together make 1") {
  test::Random random(42);
  for (const int experts : {1, 7, 64, 1024}) {
    const std::vector<float> row = test::random_row(test::Rows::random, experts, random);
    for (const bool renormalize : {false, true}) {
      const auto weights = weights_of({0.7, renormalize}, row, everyone(row.size()));
      CHECK(std::accumulate(weights.begin(), weights.end(), 0.0) ==
            doctest::Approx(1.0).epsilon(1e-6));
    }
  }
}

TEST_CASE("the temperature is checked by the router") {
  const auto rejection = [](double temperature) {
    return test::rejection_of([&] {
      fd::Router(4, fd::TopK{2}, fd::SoftmaxWeights{temperature, false});
    });
  };
  using Limits = std::numeric_limits<double>;
  CHECK(rejection(Limits::denorm_min()) == "no error");
  CHECK(rejection(0.0) == "SoftmaxWeights: temperature must be positive and finite, got 0");
  CHECK(rejection(-0.5) == "SoftmaxWeights: temperature must be positive and finite, got -0.5");
  CHECK(rejection(Limits::infinity()) ==
        "SoftmaxWeights: temperature must be positive and finite, got inf");
  CHECK(rejection(Limits::quiet_NaN()) ==
        "SoftmaxWeights: temperature must be positive and finite, got nan");
}
