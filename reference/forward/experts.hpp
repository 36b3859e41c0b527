#pragma once

#include <fdroute/dispatch.hpp>
#include <span>
#include <vector>

#include "forward/config.hpp"
#include "forward/ops.hpp"
#include "forward/routing_source.hpp"

namespace olmoe {

/// One expert: down(act(gate x) * up x).
struct ExpertWeights {
  Matrix gate;  ///< (intermediate, hidden)
  Matrix up;    ///< (intermediate, hidden)
  Matrix down;  ///< (hidden, intermediate)
};

/// The weights of one layer's mixture of experts.
struct MoeWeights {
  Matrix router;                       ///< (experts, hidden)
  std::vector<ExpertWeights> experts;  ///< one per expert
};

/// A mixture of experts as it was executed on some tokens.
struct ExecutedRouting {
  std::vector<float> logits;          ///< (tokens, experts)
  std::vector<std::int32_t> experts;  ///< (tokens, capacity), -1 in the padding
  std::vector<float> weights;         ///< (tokens, capacity), 0 in the padding
  std::vector<std::int32_t> counts;   ///< (tokens)
  int capacity = 0;                   ///< the largest number of experts that a token can get

  std::size_t tokens() const { return counts.size(); }

  /// Adds tokens first ... first + n - 1 of another routing, of the same capacity or the first.
  void append(const ExecutedRouting& other, std::size_t first, std::size_t n);
  void append(const ExecutedRouting& other) { append(other, 0, other.tokens()); }
};

/// The number of experts selected per token and layer, by the counts of the routings executed.
class ExpertCounter {
 public:
  void add(const std::vector<std::int32_t>& counts);  ///< (tokens), of one layer
  double mean() const { return static_cast<double>(experts_) / static_cast<double>(rows_); }

 private:
  std::int64_t experts_ = 0;  // selected
  std::int64_t rows_ = 0;     // tokens, once per layer
};

/// Memory that mix_experts needs, kept from one layer to the next.
struct ExpertWorkspace {
  fdroute::DispatchPlan plan;   ///< the assignments, pairs of a token and its expert, by expert
  Buffer activations;           ///< (assignments, intermediate): act(gate x) * up x
  Buffer results;               ///< (assignments, hidden)
  InputRows input_x;            ///< x (tokens, hidden), prepared
  InputRows input_activations;  ///< activations, prepared
};

/// out = sum over each token's selected experts of weight * expert(x). x and out (tokens, hidden).
/// `source` chooses, for layer `layer` and the tokens of `stretches`; what it chose is left in
/// `routing`. An expert runs over all its tokens at once, of whatever sequence; all threads share
/// the rows of all experts chosen.
void mix_experts(const Config& config, const MoeWeights& weights, RoutingSource& source, int layer,
                 std::span<const Stretch> stretches, std::span<const float> x,
                 ExecutedRouting& routing, std::span<float> out, ExpertWorkspace& workspace);

}  // namespace olmoe
