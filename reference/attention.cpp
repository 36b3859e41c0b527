#include "attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace olmoe {
namespace {

void clip(std::span<float> x, float limit) {
  for (float& v : x) v = std::clamp(v, -limit, limit);
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const Config& config) {
  const int dim = config.head_dim();
  for (int i = 0; i < dim; i += 2) {
    // In float, as transformers computes them: the rounding matters at distant positions.
    const float exponent = static_cast<float>(i) / static_cast<float>(dim);
    const float wavelength = std::pow(static_cast<float>(config.rope_theta), exponent);
    frequencies_.push_back(1.0F / wavelength / static_cast<float>(config.rope_factor));
  }
}

void RotaryEmbedding::rotate(std::span<float> heads, std::int64_t position) const {
  const std::size_t half = frequencies_.size();
  for (std::size_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * frequencies_[i];
    const float c = std::cos(angle);
    const float s = std::sin(angle);
    for (std::size_t head = 0; head < heads.size(); head += 2 * half) {
      const float a = heads[head + i];
      const float b = heads[head + i + half];
      heads[head + i] = a * c - b * s;
      heads[head + i + half] = b * c + a * s;
    }
  }
}

void attend(const Config& config, const AttentionWeights& weights, const RotaryEmbedding& rotary,
            std::span<const float> x, std::int64_t start, LayerCache& cache, std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const auto head_dim = static_cast<std::size_t>(config.head_dim());
  const auto heads = static_cast<std::size_t>(config.num_attention_heads);
  const auto kv_heads = static_cast<std::size_t>(config.num_key_value_heads);
  const std::size_t kv_width = kv_heads * head_dim;
  const std::size_t tokens = x.size() / hidden;
  const auto first = static_cast<std::size_t>(start);

  std::vector<float> queries(tokens * hidden);
  cache.keys.resize((first + tokens) * kv_width);
  cache.values.resize((first + tokens) * kv_width);
  const std::span<float> keys = std::span(cache.keys).subspan(first * kv_width);
  const std::span<float> values = std::span(cache.values).subspan(first * kv_width);

  linear(weights.q, weights.q_bias, x, queries);
  linear(weights.k, weights.k_bias, x, keys);
  linear(weights.v, weights.v_bias, x, values);
  rms_norm(weights.q_norm, config.rms_norm_eps, queries, queries);
  rms_norm(weights.k_norm, config.rms_norm_eps, keys, keys);
  if (config.clip_qkv) {
    clip(queries, *config.clip_qkv);
    clip(keys, *config.clip_qkv);
    clip(values, *config.clip_qkv);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto position = static_cast<std::int64_t>(first + t);
    rotary.rotate(std::span(queries).subspan(t * hidden, hidden), position);
    rotary.rotate(keys.subspan(t * kv_width, kv_width), position);
  }

  std::vector<float> mixed(tokens * hidden, 0.0F);
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  const auto pairs = static_cast<std::int64_t>(tokens * heads);
#pragma omp parallel for schedule(dynamic, 4) if (tokens * (first + tokens) * hidden > 100'000)
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const std::size_t t = static_cast<std::size_t>(pair) / heads;
    const std::size_t head = static_cast<std::size_t>(pair) % heads;
    const std::size_t kv_offset = head / (heads / kv_heads) * head_dim;
    const float* query = queries.data() + t * hidden + head * head_dim;
    std::vector<float> scores(first + t + 1);
    for (std::size_t j = 0; j < scores.size(); ++j) {
      scores[j] = scale * dot(query, cache.keys.data() + j * kv_width + kv_offset,
                              static_cast<std::int64_t>(head_dim));
    }
    softmax(scores);
    float* sum = mixed.data() + t * hidden + head * head_dim;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const float* value = cache.values.data() + j * kv_width + kv_offset;
      for (std::size_t i = 0; i < head_dim; ++i) sum[i] += scores[j] * value[i];
    }
  }
  linear(weights.o, weights.o_bias, mixed, out);
}

}  // namespace olmoe
