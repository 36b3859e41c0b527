#include "experts.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "isa.hpp"

namespace olmoe {
namespace {

/// The assignments of one expert: rows begin .. begin + inputs.size() of the plan.
struct Batch {
  const ExpertWeights* expert;
  std::size_t begin;
  Inputs inputs;
};

/// act(gate x) * up x for some rows of gate and up. write(t, row, values) gets them.
template <class Write>
void run_gate_and_up(const ExpertWeights& expert, Activation activation, const RowBlock& block,
                     Inputs x, const Write& write) {
  // A panel of gate, then the same of up: what follows on the one is the other.
  const std::int64_t step = x.size() == 1 ? block.end - block.begin : kernels().panel_rows;
  float* gate = scratch(1, step * std::ssize(x));
  float* up = scratch(2, step * std::ssize(x));
  for (std::int64_t r = block.begin; r < block.end; r += step) {
    const std::int64_t after = std::min(r + step, block.end);
    const std::int64_t count = after - r;
    const std::int64_t next = std::min(after + step, expert.gate.rows);
    multiply_rows(expert.gate, r, after, x, gate, count, rows(expert.up, r, after));
    multiply_rows(expert.up, r, after, x, up, count, rows(expert.gate, after, next));
    const auto n = static_cast<std::size_t>(count);
    activate(activation, {gate, n * x.size()}, {up, n * x.size()});
    for (std::size_t t = 0; t < x.size(); ++t)
      write(t, r, std::span<const float>(gate + t * n, n));
  }
}

}  // namespace

void ExecutedRouting::append(const ExecutedRouting& other) {
  const auto add = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  add(logits, other.logits);
  add(experts, other.experts);
  add(weights, other.weights);
  add(counts, other.counts);
  capacity = other.capacity;
}

void mix_experts(const Config& config, const MoeWeights& weights, const RoutingSource& source,
                 int layer, std::int64_t start, std::span<const float> x, ExecutedRouting& routing,
                 std::span<float> out, ExpertWorkspace& workspace) {
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
  source.route(layer, start,
               fdroute::LogitsView<float>(routing.logits.data(), n_tokens, config.num_experts),
               chosen);

  auto& [plan, spread, single, several, results] = workspace;
  plan.build(chosen, n_tokens, config.num_experts);
  const std::size_t assignments = plan.tokens().size();
  if (tokens > 1) {
    spread.assign(x, config.hidden_size);
    several.resize(assignments, config.intermediate_size);
  }
  single.resize(assignments * intermediate);
  results.resize(assignments * hidden);

  std::vector<Batch> batches;
  std::vector<const float*> inputs(assignments);
  std::vector<const float*> activations(assignments);
  for (std::size_t e = 0; e < weights.experts.size(); ++e) {
    const std::size_t begin = plan.offsets()[e];
    const std::size_t count = plan.offsets()[e + 1] - begin;
    if (count == 0) continue;
    batches.push_back({&weights.experts[e], begin, std::span(inputs).subspan(begin, count)});
    for (std::size_t i = begin; i < begin + count; ++i) {
      const auto token = static_cast<std::size_t>(plan.tokens()[i]);
      inputs[i] = count > 1 ? spread.row(token) : x.data() + token * hidden;
      activations[i] = count > 1 ? several.row(i) : single.data() + i * intermediate;
    }
  }

  // Below this much work a thread team costs more than it saves.
  const bool worthwhile = assignments * weights.experts.front().gate.bytes() > 500'000;
  const auto blocks_of = [&](int rows) {
    return row_blocks(std::vector<std::int64_t>(batches.size(), rows));
  };
  const std::vector<RowBlock> inner = blocks_of(config.intermediate_size);
#pragma omp parallel for schedule(dynamic) if (worthwhile)
  for (std::size_t b = 0; b < inner.size(); ++b) {
    const auto& [expert, begin, x_rows] = batches[inner[b].matrix];
    run_gate_and_up(*expert, config.hidden_act, inner[b], x_rows,
                    [&](std::size_t t, std::int64_t row, std::span<const float> values) {
                      if (x_rows.size() > 1) return several.store(begin + t, row, values);
                      std::copy(values.begin(), values.end(),
                                single.data() + begin * intermediate + row);
                    });
  }
  const std::vector<RowBlock> outer = blocks_of(config.hidden_size);
#pragma omp parallel for schedule(dynamic) if (worthwhile)
  for (std::size_t b = 0; b < outer.size(); ++b) {
    const auto& [expert, begin, x_rows] = batches[outer[b].matrix];
    multiply_rows(expert->down, outer[b].begin, outer[b].end,
                  std::span(activations).subspan(begin, x_rows.size()),
                  results.data() + begin * hidden + outer[b].begin, config.hidden_size);
  }
#pragma omp parallel for schedule(static) if (worthwhile && tokens > 1)
  for (std::size_t t = 0; t < tokens; ++t) {
    fdroute::combine(plan, static_cast<std::ptrdiff_t>(t), results.data(),
                     out.subspan(t * hidden, hidden));
  }
}

}  // namespace olmoe
