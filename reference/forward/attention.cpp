#include "forward/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/isa.hpp"

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

namespace {

/// Queries that are answered together: enough to pay for packing the keys.
constexpr std::size_t query_block = 56;

/// Where a token stands.
struct Place {
  std::size_t position;
  LayerCache* cache;
};

/// Queries of one sequence: rows row, row + 1 ... at positions first, first + 1 ...
struct QueryBlock {
  std::size_t row;
  std::size_t tokens;
  std::size_t first;
  LayerCache* cache;
};

/// Makes room for `positions` positions of which `used` are taken.
void reserve(LayerCache& cache, std::int64_t positions, std::int64_t used, std::size_t kv_heads,
             std::size_t head_dim) {
  if (positions <= cache.capacity) return;
  const std::int64_t capacity = std::max(positions, 2 * cache.capacity);
  for (std::vector<float>* part : {&cache.keys, &cache.values}) {
    std::vector<float> larger(kv_heads * static_cast<std::size_t>(capacity) * head_dim);
    for (std::size_t head = 0; head < kv_heads; ++head) {
      std::copy_n(part->data() + head * static_cast<std::size_t>(cache.capacity) * head_dim,
                  static_cast<std::size_t>(used) * head_dim,
                  larger.data() + head * static_cast<std::size_t>(capacity) * head_dim);
    }
    *part = std::move(larger);
  }
  cache.capacity = capacity;
}

/// One head's attention for `tokens` queries at positions first, first + 1 ...; rows of `queries`
/// and `out` are `stride` apart. Keys and values (positions, head_dim).
void attend_head(const float* queries, std::size_t tokens, std::size_t first, const float* keys,
                 const float* values, std::size_t head_dim, std::size_t stride, float* out) {
  const Kernels& k = kernels();
  const auto dim = static_cast<std::ptrdiff_t>(head_dim);
  const auto positions = static_cast<std::ptrdiff_t>(first + tokens);
  const std::ptrdiff_t row = (positions + 31) / 32 * 32;  // as softmax asks for
  float* scores = scratch(1, row * static_cast<std::ptrdiff_t>(tokens));

  InputRows inputs;
  inputs.assign({queries, tokens, dim, stride}, std::array{std::size_t{0}, tokens}, {},
                Compute::f32);
  const Matrix seen{DType::F32, reinterpret_cast<const std::byte*>(keys), positions, dim};
  multiply_rows(seen, 0, positions, inputs.of(0), scores, row);

  std::array<const float*, query_block> rows;
  std::array<std::ptrdiff_t, query_block> counts;
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  for (std::size_t t = 0; t < tokens; ++t) {
    counts[t] = static_cast<std::ptrdiff_t>(first + t + 1);
    float* weights = scores + static_cast<std::ptrdiff_t>(t) * row;
    k.softmax(weights, counts[t], scale);
    rows[t] = weights;
  }
  k.sum_rows(rows.data(), counts.data(), static_cast<std::ptrdiff_t>(tokens), values, dim, dim, out,
             static_cast<std::ptrdiff_t>(stride));
}

}  // namespace

void attend(const Config& config, const AttentionWeights& weights, const RotaryEmbedding& rotary,
            std::span<const float> x, std::span<const Stretch> stretches,
            std::span<LayerCache* const> caches, std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const auto head_dim = static_cast<std::size_t>(config.head_dim());
  const auto heads = static_cast<std::size_t>(config.num_attention_heads);
  const auto kv_heads = static_cast<std::size_t>(config.num_key_value_heads);
  const std::size_t kv_width = kv_heads * head_dim;
  const std::size_t tokens = x.size() / hidden;

  std::vector<float> queries(tokens * hidden);
  std::vector<float> keys(tokens * kv_width);
  std::vector<float> values(tokens * kv_width);
  linear({{weights.q, weights.q_bias, queries},
          {weights.k, weights.k_bias, keys},
          {weights.v, weights.v_bias, values}},
         x);

  std::vector<Place> places;
  std::vector<QueryBlock> blocks;
  std::int64_t looks = 0;  // a query's at a key, at most
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    const auto [sequence, start, count] = stretches[i];
    LayerCache& cache = *caches[i];
    reserve(cache, start + count, start, kv_heads, head_dim);
    const auto first = static_cast<std::size_t>(start);
    const auto n = static_cast<std::size_t>(count);
    for (std::size_t t = 0; t < n; t += query_block)
      blocks.push_back({places.size() + t, std::min(query_block, n - t), first + t, &cache});
    for (std::size_t t = 0; t < n; ++t) places.push_back({first + t, &cache});
    looks += (start + count) * count;
  }
  // The last queries have the most keys to look at: they go first.
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  const auto cached = [&](std::vector<float> LayerCache::*part, LayerCache& cache, std::size_t head,
                          std::size_t position) {
    return (cache.*part).data() +
           (head * static_cast<std::size_t>(cache.capacity) + position) * head_dim;
  };
  // A query's channel, with its key's and its value's, takes some 9 ns.
#pragma omp parallel for schedule(static) if (worth_sharing(9 * std::ssize(x)))
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto [position, cache] = places[t];
    const auto query = std::span(queries).subspan(t * hidden, hidden);
    const auto key = std::span(keys).subspan(t * kv_width, kv_width);
    const auto value = std::span(values).subspan(t * kv_width, kv_width);
    rms_norm(weights.q_norm, config.rms_norm_eps, query, query);
    rms_norm(weights.k_norm, config.rms_norm_eps, key, key);
    if (config.clip_qkv) {
      for (const std::span<float> part : {query, key, value}) clip(part, *config.clip_qkv);
    }
    rotary.rotate(query, static_cast<std::int64_t>(position));
    rotary.rotate(key, static_cast<std::int64_t>(position));
    for (std::size_t head = 0; head < kv_heads; ++head) {
      std::copy_n(key.data() + head * head_dim, head_dim,
                  cached(&LayerCache::keys, *cache, head, position));
      std::copy_n(value.data() + head * head_dim, head_dim,
                  cached(&LayerCache::values, *cache, head, position));
    }
  }

  std::vector<float> mixed(tokens * hidden);
  // A query and a key take 2 multiply-adds a channel, fewer of them a nanosecond than a product.
  const std::int64_t time = looks * config.hidden_size / 5;
#pragma omp parallel for schedule(dynamic) if (worth_sharing(time))
  for (std::size_t item = 0; item < blocks.size() * heads; ++item) {
    const QueryBlock& block = blocks[item / heads];
    const std::size_t head = item % heads;
    const std::size_t kv_head = head / (heads / kv_heads);
    const std::size_t place = block.row * hidden + head * head_dim;
    attend_head(queries.data() + place, block.tokens, block.first,
                cached(&LayerCache::keys, *block.cache, kv_head, 0),
                cached(&LayerCache::values, *block.cache, kv_head, 0), head_dim, hidden,
                mixed.data() + place);
  }
  linear({{weights.o, weights.o_bias, out}}, mixed);
}

}  // namespace olmoe
