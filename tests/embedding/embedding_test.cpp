// The engine of docs/embedding.md computes what a MoE layer is.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "fdroute/compile_once.hpp"
#include "fdroute/fdroute.hpp"
#include "library/support.hpp"
#include "moe_layer.hpp"

#ifdef FDROUTE_C_API_AVAILABLE
#include "cpp17.hpp"
#endif

using test::index;

namespace {

constexpr int hidden = 12;
constexpr int width = 7;
constexpr int experts = 16;
constexpr int tokens = 40;

std::vector<float> random_values(int n, test::Random& random) {
  std::vector<float> values;
  for (int i = 0; i < n; ++i) values.push_back(random.normal());
  return values;
}

struct Layer {
  test::Random random{77};
  std::vector<float> router = random_values(experts * hidden, random);
  std::vector<float> up = random_values(experts * width * hidden, random);
  std::vector<float> down = random_values(experts * hidden * width, random);
  std::vector<float> x = random_values(tokens * hidden, random);

  engine::MoeWeights weights() const {
    return {hidden, width, experts, router.data(), up.data(), down.data()};
  }

  /// out = sum of weight * expert(x) in double, from the routing as the library states it.
  std::vector<double> definition(const fdroute::AnyRouter& any) const {
    std::vector<float> logits;
    for (int t = 0; t < tokens; ++t) {
      for (int e = 0; e < experts; ++e) {
        float sum = 0.0F;  // the engine's order: a logit's last bit may decide
        for (int i = 0; i < hidden; ++i)
          sum += router[index(e * hidden + i)] * x[index(t * hidden + i)];
        logits.push_back(sum);
      }
    }
    const auto routing =
        test::routed(any, fdroute::LogitsView<float>(logits.data(), tokens, experts));
    std::vector<double> out(index(tokens * hidden));
    for (int t = 0; t < tokens; ++t) {
      for (int slot = 0; slot < routing.counts[t]; ++slot) {
        const int e = routing.experts[t * routing.capacity + slot];
        for (int j = 0; j < width; ++j) {
          double activation = 0.0;
          for (int i = 0; i < hidden; ++i) {
            activation += static_cast<double>(up[index((e * width + j) * hidden + i)]) *
                          static_cast<double>(x[index(t * hidden + i)]);
          }
          activation = std::max(activation, 0.0);
          for (int i = 0; i < hidden; ++i) {
            out[index(t * hidden + i)] +=
                static_cast<double>(routing.weights[t * routing.capacity + slot]) *
                static_cast<double>(down[index((e * hidden + i) * width + j)]) * activation;
          }
        }
      }
    }
    return out;
  }
};

}  // namespace

TEST_CASE("an engine's layer gives the same by slot, by expert and by definition") {
  const Layer layer;
  for (const std::string policy : {"topk:k=3", "bh:alpha=0.4,null=normal,min_k=0,max_k=6",
                                   "top_p:p=0.6", "qwen3-moe:num_experts_per_tok=4"}) {
    CAPTURE(policy);
    const fdroute::AnyRouter router = fdroute::parse_router(policy, experts);
    engine::MoeLayer moe(layer.weights(), router, tokens);
    const std::vector<double> expected = layer.definition(router);
    std::vector<float> by_slot(expected.size(), -1.0F);
    std::vector<float> by_expert(expected.size(), -1.0F);
    moe.forward_by_slot(layer.x.data(), tokens, by_slot.data());
    moe.forward_by_expert(layer.x.data(), tokens, by_expert.data());
    double largest = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      REQUIRE(static_cast<double>(by_slot[i]) == doctest::Approx(expected[i]).epsilon(1e-4));
      REQUIRE(static_cast<double>(by_expert[i]) == doctest::Approx(expected[i]).epsilon(1e-4));
    }
    CHECK(largest > 1.0);
  }
}

#ifdef FDROUTE_C_API_AVAILABLE
TEST_CASE("a C++17 engine routes through the C interface") {
  CHECK(best_two({0.5F, 3.0F, -1.0F, 2.0F}) == std::vector<std::int32_t>{1, 3});
  CHECK(refusal("topk:k=2").empty());
  CHECK(refusal("topk:k=9") ==
        "policy 'topk:k=9': TopK: k must lie in [1, 8], the number of experts, got 9");
}
#endif
