#include "experts.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace olmoe {
namespace {

void run_expert(const ExpertWeights& expert, Activation activation, std::span<const float> x,
                std::span<float> out) {
  const std::size_t tokens = x.size() / static_cast<std::size_t>(expert.gate.cols);
  std::vector<float> gate(tokens * static_cast<std::size_t>(expert.gate.rows));
  std::vector<float> up(gate.size());
  linear(expert.gate, {}, x, gate);
  linear(expert.up, {}, x, up);
  activate(activation, gate, up);
  linear(expert.down, {}, gate, out);
}

}  // namespace

void mix_experts(const Config& config, const MoeWeights& weights, const RoutingSource& source,
                 int layer, std::int64_t start, std::span<const float> x, ExecutedRouting& routing,
                 std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const std::size_t tokens = x.size() / hidden;
  const auto n_tokens = static_cast<std::ptrdiff_t>(tokens);

  routing.capacity = source.capacity(layer);
  routing.logits.resize(tokens * static_cast<std::size_t>(config.num_experts));
  routing.experts.resize(tokens * static_cast<std::size_t>(routing.capacity));
  routing.weights.resize(routing.experts.size());
  routing.counts.resize(tokens);
  linear(weights.router, {}, x, routing.logits);
  const fdroute::RoutingView<std::int32_t> chosen{routing.experts.data(), routing.weights.data(),
                                                  routing.counts.data(), routing.capacity};
  source.route(layer, start,
               fdroute::LogitsView<float>(routing.logits.data(), n_tokens, config.num_experts),
               chosen);

  fdroute::DispatchPlan plan;
  plan.build(chosen, n_tokens, config.num_experts);
  std::vector<float> gathered(plan.tokens().size() * hidden);
  for (std::size_t i = 0; i < plan.tokens().size(); ++i) {
    const float* row = x.data() + static_cast<std::size_t>(plan.tokens()[i]) * hidden;
    std::copy(row, row + hidden, gathered.data() + i * hidden);
  }

  std::vector<float> results(gathered.size());
  const std::size_t work = plan.tokens().size() * weights.experts.front().gate.bytes();
#pragma omp parallel for schedule(dynamic) if (work > 500'000)
  for (std::size_t e = 0; e < weights.experts.size(); ++e) {
    const std::size_t begin = plan.offsets()[e] * hidden;
    const std::size_t size = plan.offsets()[e + 1] * hidden - begin;
    if (size == 0) continue;
    run_expert(weights.experts[e], config.hidden_act, std::span(gathered).subspan(begin, size),
               std::span(results).subspan(begin, size));
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    fdroute::combine(plan, static_cast<std::ptrdiff_t>(t), results.data(),
                     out.subspan(t * hidden, hidden));
  }
}

}  // namespace olmoe
