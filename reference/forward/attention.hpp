#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/config.hpp"
#include "forward/ops.hpp"

namespace olmoe {

/// The weights of one layer's attention. Vectors are copies in float; biases may be empty.
struct AttentionWeights {
  Matrix q, k, v, o;
  std::vector<float> q_bias, k_bias, v_bias, o_bias;
  std::vector<float> q_norm, k_norm;
};

/// Keys (rotated) and values of the positions seen so far in one layer, a head after the other:
/// each (kv heads, capacity, head dim), with positions beyond those seen not set.
struct LayerCache {
  std::vector<float> keys;
  std::vector<float> values;
  std::int64_t capacity = 0;
};

/// Rotary embedding: cos and sin of position x frequency, frequency_i = theta^(-2i / head_dim) /
/// factor for i < head_dim / 2.
class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(const Config& config);

  /// Rotates every head of a row, in place: (x_i, x_{i + d/2}) turns by position x frequency_i.
  void rotate(std::span<float> heads, std::int64_t position) const;

 private:
  std::vector<float> frequencies_;
};

/// Causal self-attention over `x` (tokens, hidden), whose first token stands at position `start`.
/// Appends to the cache, which holds `start` positions, and writes `out` (tokens, hidden).
///
/// As in transformers: q and k are RMS-normalised over the whole projection, q, k and v then
/// clipped to +-clip_qkv if set, q and k rotated; query head h reads key head h / (heads /
/// kv_heads); scores are scaled by 1/sqrt(head_dim).
void attend(const Config& config, const AttentionWeights& weights, const RotaryEmbedding& rotary,
            std::span<const float> x, std::int64_t start, LayerCache& cache, std::span<float> out);

}  // namespace olmoe
