#include "forward/oracle_routing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/compile_once.hpp>
#include <fdroute/selection/topk.hpp>
#include <numeric>

#include "forward/ops.hpp"

namespace olmoe {

std::vector<float> output_norms(const Config& config, const MoeWeights& weights,
                                std::span<const float> x) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const std::size_t tokens = x.size() / hidden;
  const std::size_t experts = weights.experts.size();
  std::vector<float> gate(tokens * static_cast<std::size_t>(config.intermediate_size));
  std::vector<float> up(gate.size());
  std::vector<float> output(tokens * hidden);
  std::vector<float> norms(tokens * experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const ExpertWeights& expert = weights.experts[e];
    linear({{expert.gate, {}, gate}, {expert.up, {}, up}}, x);
    activate(config.hidden_act, gate, up);
    linear({{expert.down, {}, output}}, gate);
    for (std::size_t t = 0; t < tokens; ++t) {
      double squares = 0.0;
      for (const float value : std::span(output).subspan(t * hidden, hidden))
        squares += static_cast<double>(value) * static_cast<double>(value);
      norms[t * experts + e] = static_cast<float>(std::sqrt(squares));
    }
  }
  return norms;
}

OracleRouting::OracleRouting(const Model& model, std::span<const fdroute::AnyRouter> routers)
    : model_(model),
      policy_(routers),
      all_(fdroute::Router(model.config().num_experts, fdroute::TopK{model.config().num_experts},
                           fdroute::SoftmaxWeights{}),
           "topk:k=" + std::to_string(model.config().num_experts)) {}

void OracleRouting::see(int layer, std::span<const float> x) {
  norms_ = output_norms(model_.config(), model_.layers()[static_cast<std::size_t>(layer)].moe, x);
}

void OracleRouting::route(int layer, std::span<const Stretch> stretches,
                          fdroute::LogitsView<float> logits,
                          fdroute::RoutingView<std::int32_t> out) {
  policy_.route(layer, stretches, logits, out);
  const auto experts = static_cast<std::size_t>(model_.config().num_experts);
  std::vector<std::int32_t> ids(experts);
  std::vector<float> ranked(experts);
  std::vector<float> weights(experts);
  std::vector<std::int32_t> order(experts);
  for (std::ptrdiff_t t = 0; t < tokens_of(stretches); ++t) {
    std::int32_t count = 0;
    all_.route(logits.slice(t, 1),
               fdroute::RoutingView<std::int32_t>{ids.data(), ranked.data(), &count,
                                                  static_cast<int>(experts)});
    for (std::size_t i = 0; i < experts; ++i) weights[static_cast<std::size_t>(ids[i])] = ranked[i];
    const float* norms = norms_.data() + static_cast<std::size_t>(t) * experts;
    const auto contribution = [&](std::int32_t e) {
      return weights[static_cast<std::size_t>(e)] * norms[e];
    };
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return contribution(a) > contribution(b);
    });

    const auto token = out.from(t);
    float sum = 0.0F;
    for (std::int32_t i = 0; i < token.counts[0]; ++i) {
      token.experts[i] = order[static_cast<std::size_t>(i)];
      token.weights[i] = weights[static_cast<std::size_t>(token.experts[i])];
      sum += token.weights[i];
    }
    if (!model_.config().norm_topk_prob) continue;
    for (std::int32_t i = 0; i < token.counts[0]; ++i) token.weights[i] /= sum;
  }
}

}  // namespace olmoe
