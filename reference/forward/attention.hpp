#pragma once

#include <cstddef>
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

/// Keys and values of the positions seen so far in one layer, a head after the other, rounded to
/// `storage` to nearest, ties to even. Positions beyond those seen are not set.
struct LayerCache {
  /// Elements begin where lines of a processor's cache do.
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  Storage storage = Storage::f32;
  std::vector<Line> keys = {};    ///< (kv heads, capacity, head dim), rotated
  std::vector<Line> values = {};  ///< (kv heads, capacity, head dim)
  std::int64_t capacity = 0;      ///< positions for which there is room
};

/// Makes room for `positions` positions, of which `used` are taken: at least twice what there was,
/// if it is not enough.
void reserve(const Config& config, LayerCache& cache, std::int64_t positions, std::int64_t used);

/// Writes a position's key and value, each (kv heads * head dim). False if one has a finite number
/// that is infinite when rounded: 65520 or more in float16.
[[nodiscard]] bool store(const Config& config, LayerCache& cache, std::int64_t position,
                         std::span<const float> key, std::span<const float> value);

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
/// positions before the stretch, and writes `out` (tokens, hidden). Returns the first token whose
/// key or value its cache cannot hold (see store()); `tokens` if there is none.
///
/// As in transformers: q and k are RMS-normalised over the whole projection, q, k and v then
/// clipped to +-clip_qkv if set, q and k rotated; query head h reads key head h / (heads /
/// kv_heads); scores are scaled by 1/sqrt(head_dim).
[[nodiscard]] std::size_t attend(const Config& config, const AttentionWeights& weights,
                                 const RotaryEmbedding& rotary, std::span<const float> x,
                                 std::span<const Stretch> stretches,
                                 std::span<LayerCache* const> caches, std::span<float> out);

}  // namespace olmoe
