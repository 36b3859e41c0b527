#include "forward/experts.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace olmoe {
namespace {

/// Rows of act(gate x) * up x, for all x; rows of y are gate.rows apart.
void run_gate_and_up(const ExpertWeights& expert, Activation activation, const RowBlock& block,
                     Inputs x, float* y) {
  // A panel of gate, then the same of up: what follows on the one is the other.
  const std::int64_t step =
      x.size() == 1 ? block.end - block.begin : products(expert.gate).panel_rows;
  const std::int64_t stride = expert.gate.rows;
  float* up = scratch(1, step * std::ssize(x));
  for (std::int64_t r = block.begin; r < block.end; r += step) {
    const std::int64_t after = std::min(r + step, block.end);
    const std::int64_t next = std::min(after + step, stride);
    multiply_rows(expert.gate, r, after, x, y + r, stride, rows(expert.up, r, after));
    multiply_rows(expert.up, r, after, x, up, after - r, rows(expert.gate, after, next));
    const auto n = static_cast<std::size_t>(after - r);
    for (std::size_t t = 0; t < x.size(); ++t) {
      float* gate = y + static_cast<std::int64_t>(t) * stride + r;
      activate(activation, {gate, n}, {up + t * n, n});
    }
  }
}

}  // namespace

void ExecutedRouting::append(const ExecutedRouting& other, std::size_t first, std::size_t n) {
  const auto add = [&](auto& to, const auto& from) {
    const auto row = static_cast<std::ptrdiff_t>(from.size() / other.tokens());
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(first) * row;
    to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(n) * row);
  };
  if (n == 0) return;
  add(logits, other.logits);
  add(experts, other.experts);
  add(weights, other.weights);
  add(counts, other.counts);
  capacity = other.capacity;
}

void ExpertCounter::add(const std::vector<std::int32_t>& counts) {
  experts_ = std::accumulate(counts.begin(), counts.end(), experts_);
  rows_ += static_cast<std::int64_t>(counts.size());
}

void mix_experts(const Config& config, const MoeWeights& weights, RoutingSource& source, int layer,
                 std::span<const Stretch> stretches, std::span<const float> x,
                 ExecutedRouting& routing, std::span<float> out, ExpertWorkspace& workspace) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const auto intermediate = static_cast<std::size_t>(config.intermediate_size);
  const std::size_t tokens = x.size() / hidden;
  const auto n_tokens = static_cast<std::ptrdiff_t>(tokens);

  routing.capacity = source.capacity(layer);
  routing.logits.resize(tokens * static_cast<std::size_t>(config.num_experts));
  routing.experts.resize(tokens * static_cast<std::size_t>(routing.capacity));
  routing.weights.resize(routing.experts.size());
  routing.counts.resize(tokens);
  linear({{weights.router, {}, routing.logits}}, x);
  const fdroute::RoutingView<std::int32_t> chosen{routing.experts.data(), routing.weights.data(),
                                                  routing.counts.data(), routing.capacity};
  source.see(layer, x);
  source.route(layer, stretches,
               fdroute::LogitsView<float>(routing.logits.data(), n_tokens, config.num_experts),
               chosen);

  fdroute::DispatchPlan& plan = workspace.plan;
  plan.build(chosen, n_tokens, config.num_experts);
  const std::size_t assignments = plan.tokens().size();
  float* const activations = workspace.activations.resize(assignments * intermediate);
  float* const results = workspace.results.resize(assignments * hidden);
  const Compute compute = weights.experts.front().gate.compute;
  workspace.input_x.assign({x.data(), tokens, config.hidden_size, hidden}, plan.offsets(),
                           plan.tokens(), compute);
  std::vector<std::size_t> loaded;  // the experts that have tokens
  for (std::size_t e = 0; e < weights.experts.size(); ++e) {
    if (plan.offsets()[e] < plan.offsets()[e + 1]) loaded.push_back(e);
  }

  // The matrices of an expert are of one size. Gate and up are one step, down is another.
  const Matrix& gate = weights.experts.front().gate;
  const auto time_of = [&](std::size_t matrices) {
    return product_time(loaded.size() * matrices * gate.bytes(),
                        static_cast<std::int64_t>(assignments * matrices) * gate.rows * gate.cols);
  };
  const auto blocks_of = [&](int rows) {
    return row_blocks(std::vector<std::int64_t>(loaded.size(), rows));
  };
  const std::vector<RowBlock> inner = blocks_of(config.intermediate_size);
#pragma omp parallel for schedule(dynamic) if (worth_sharing(time_of(2)))
  for (const RowBlock& block : inner) {
    const std::size_t e = loaded[block.matrix];
    run_gate_and_up(weights.experts[e], config.hidden_act, block, workspace.input_x.of(e),
                    activations + plan.offsets()[e] * intermediate);
  }

  workspace.input_activations.assign(
      {activations, assignments, config.intermediate_size, intermediate}, plan.offsets(), {},
      compute);
  const std::vector<RowBlock> outer = blocks_of(config.hidden_size);
#pragma omp parallel for schedule(dynamic) if (worth_sharing(time_of(1)))
  for (const RowBlock& block : outer) {
    const std::size_t e = loaded[block.matrix];
    multiply_rows(weights.experts[e].down, block.begin, block.end,
                  workspace.input_activations.of(e),
                  results + plan.offsets()[e] * hidden + block.begin, config.hidden_size);
  }
  const auto summed = static_cast<std::int64_t>(assignments * hidden);
#pragma omp parallel for schedule(static) if (tokens > 1 && worth_sharing(summed))
  for (std::size_t t = 0; t < tokens; ++t) {
    fdroute::combine(plan, static_cast<std::ptrdiff_t>(t), results,
                     out.subspan(t * hidden, hidden));
  }
}

}  // namespace olmoe
