#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/config.hpp"
#include "forward/ops.hpp"
#include "forward/routing_source.hpp"

namespace olmoe {

/// The weights of one layer's attention. Vectors are copies in float; biases may be empty. With
/// kv = kv heads * head dim, and hidden = heads * head dim:
struct AttentionWeights {
  Matrix q;                   ///< (hidden, hidden)
  Matrix k;                   ///< (kv, hidden)
  Matrix v;                   ///< (kv, hidden)
  Matrix o;                   ///< (hidden, hidden)
  std::vector<float> q_bias;  ///< (hidden)
  std::vector<float> k_bias;  ///< (kv)
  std::vector<float> v_bias;  ///< (kv)
  std::vector<float> o_bias;  ///< (hidden)
  std::vector<float> q_norm;  ///< (hidden)
  std::vector<float> k_norm;  ///< (kv)
};

/// Keys and values of the positions seen so far in one layer, a head after the other. Positions
/// beyond those seen are not set.
struct LayerCache {
  std::vector<float> keys;    ///< (kv heads, capacity, head dim), rotated
  std::vector<float> values;  ///< (kv heads, capacity, head dim)
  std::int64_t capacity = 0;  ///< positions for which there is room
};

/// Rotary embedding: cos and sin of position x frequency, frequency_i = theta^(-2i / head_dim) /
/// factor for i < head_dim / 2.
class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(const Config& config);

  /// Rotates every head of a row (heads * head dim), in place: (x_i, x_{i + d/2}) turns by position
  /// x frequency_i.
  void rotate(std::span<float> heads, std::int64_t position) const;

 private:
  std::vector<float> frequencies_;  // (head dim / 2)
};

/// Causal self-attention over `x` (tokens, hidden), the tokens of `stretches`, each in its own
/// sequence. Appends to the sequence's cache, caches[i] that of stretches[i], which holds the
/// positions before the stretch, and writes `out` (tokens, hidden).
///
/// As in transformers: q and k are RMS-normalised over the whole projection, q, k and v then
/// clipped to +-clip_qkv if set, q and k rotated; query head h reads key head h / (heads /
/// kv_heads); scores are scaled by 1/sqrt(head_dim).
void attend(const Config& config, const AttentionWeights& weights, const RotaryEmbedding& rotary,
            std::span<const float> x, std::span<const Stretch> stretches,
            std::span<LayerCache* const> caches, std::span<float> out);

}  // namespace olmoe
