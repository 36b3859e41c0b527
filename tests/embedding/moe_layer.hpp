#pragma once

#include <cstddef>
#include <cstdint>
#include <fdroute/fdroute.hpp>
#include <vector>

// An engine's MoE layer: raw buffers, its own kernels, and a router as one member.
// docs/embedding.md explains it.
namespace engine {

/// An expert is out = down * relu(up * x).
struct MoeWeights {
  std::ptrdiff_t hidden;
  std::ptrdiff_t width;
  int experts;
  const float* router;  // (experts, hidden)
  const float* up;      // (experts, width, hidden)
  const float* down;    // (experts, hidden, width)
};

class MoeLayer {
 public:
  /// Everything that can fail happens here, for batches of up to `max_tokens`. The dispatch plan
  /// alone allocates later, until it has seen the largest batch.
  MoeLayer(const MoeWeights& weights, fdroute::AnyRouter router, int max_tokens);

  /// x and out: (tokens, hidden). For a kernel that takes a fixed number of expert ids a token.
  void forward_by_slot(const float* x, int tokens, float* out);

  /// The result of forward_by_slot(), each expert run once over all its tokens.
  void forward_by_expert(const float* x, int tokens, float* out);

 private:
  void route(const float* x, int tokens, fdroute::Padding padding);
  void add_expert(std::int32_t expert, float weight, const float* x, float* out);

  MoeWeights weights_;
  fdroute::AnyRouter router_;
  fdroute::DispatchPlan plan_;
  std::vector<float> logits_;                // (max_tokens, experts)
  std::vector<std::int32_t> expert_ids_;     // (max_tokens, capacity)
  std::vector<float> expert_weights_;        // (max_tokens, capacity)
  std::vector<std::int32_t> expert_counts_;  // (max_tokens)
  std::vector<float> activation_;            // (width)
};

}  // namespace engine
