#include "forward/attention.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <type_traits>
#include <utility>

#include "formats/float16.hpp"
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

DType dtype(Storage storage) {
  if (storage == Storage::f32) return DType::F32;
  return storage == Storage::f16 ? DType::F16 : DType::BF16;
}

/// `part` of a cache from `head`'s `position` on; a whole part has positions 0 of head 0 on.
template <class Lines>
auto* elements(Lines& part, const LayerCache& cache, std::size_t head, std::size_t position,
               std::size_t head_dim) {
  const std::size_t element =
      (head * static_cast<std::size_t>(cache.capacity) + position) * head_dim;
  using Byte = std::conditional_t<std::is_const_v<Lines>, const std::byte, std::byte>;
  return reinterpret_cast<Byte*>(part.data()) + element * size(cache.storage);
}

/// to[i] = from[i] as it is kept. False if a finite number becomes infinite.
bool round_to(Storage storage, std::span<const float> from, std::byte* to) {
  if (storage == Storage::f32) {
    std::copy_n(from.data(), from.size(), reinterpret_cast<float*>(to));
    return true;
  }
  auto* const halves = reinterpret_cast<std::uint16_t*>(to);
  const bool f16 = storage == Storage::f16;
  if (f16) {
    for (std::size_t i = 0; i < from.size(); ++i) halves[i] = to_half(from[i]).bits;
  } else {
    for (std::size_t i = 0; i < from.size(); ++i) halves[i] = to_bfloat16(from[i]).bits;
  }
  // The first that is nearer to the power of two behind the largest number.
  const std::uint32_t least = f16 ? std::bit_cast<std::uint32_t>(65520.0F) : 0x7f7f8000;
  constexpr std::uint32_t infinity = 0x7f800000;
  return std::none_of(from.begin(), from.end(), [&](float x) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & 0x7fffffff;
    return magnitude >= least && magnitude < infinity;
  });
}

/// One head's attention for `tokens` queries at positions first, first + 1 ...; rows of `queries`
/// and `out` are `stride` apart. Keys and values (positions, head_dim) of `storage`.
void attend_head(const float* queries, std::size_t tokens, std::size_t first, Storage storage,
                 const std::byte* keys, const std::byte* values, std::size_t head_dim,
                 std::size_t stride, float* out) {
  const Kernels& k = kernels();
  const auto dim = static_cast<std::ptrdiff_t>(head_dim);
  const auto positions = static_cast<std::ptrdiff_t>(first + tokens);
  const std::ptrdiff_t row = (positions + 31) / 32 * 32;  // as softmax asks for
  float* scores = scratch(1, row * static_cast<std::ptrdiff_t>(tokens));

  if (tokens == 1) {
    float* room = scratch(2, (dim + 31) / 32 * 32);
    k.dot_keys[static_cast<std::size_t>(storage)](keys, dim, positions, dim, queries, room, scores);
  } else {
    InputRows inputs;
    inputs.assign({queries, tokens, dim, stride}, std::array{std::size_t{0}, tokens}, {},
                  Compute::f32);
    const Matrix seen{dtype(storage), keys, positions, dim};
    multiply_rows(seen, 0, positions, inputs.of(0), scores, row);
  }

  std::array<const float*, query_block> rows;
  std::array<std::ptrdiff_t, query_block> counts;
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  for (std::size_t t = 0; t < tokens; ++t) {
    counts[t] = static_cast<std::ptrdiff_t>(first + t + 1);
    float* weights = scores + static_cast<std::ptrdiff_t>(t) * row;
    k.softmax(weights, counts[t], scale);
    rows[t] = weights;
  }
  k.sum_rows[static_cast<std::size_t>(storage)](rows.data(), counts.data(),
                                                static_cast<std::ptrdiff_t>(tokens), values, dim,
                                                dim, out, static_cast<std::ptrdiff_t>(stride));
}

}  // namespace

void reserve(const Config& config, LayerCache& cache, std::int64_t positions, std::int64_t used) {
  if (positions <= cache.capacity) return;
  const auto head_dim = static_cast<std::size_t>(config.head_dim());
  const auto heads = static_cast<std::size_t>(config.num_key_value_heads);
  LayerCache larger{.storage = cache.storage};
  larger.capacity = std::max(positions, 2 * cache.capacity);
  const std::size_t row = head_dim * size(cache.storage);
  const std::size_t bytes = heads * static_cast<std::size_t>(larger.capacity) * row;
  for (std::vector<LayerCache::Line> LayerCache::*part : {&LayerCache::keys, &LayerCache::values}) {
    (larger.*part).resize((bytes + sizeof(LayerCache::Line) - 1) / sizeof(LayerCache::Line));
    if (used == 0) continue;
    for (std::size_t head = 0; head < heads; ++head) {
      std::copy_n(elements(cache.*part, cache, head, 0, head_dim),
                  static_cast<std::size_t>(used) * row,
                  elements(larger.*part, larger, head, 0, head_dim));
    }
  }
  cache = std::move(larger);
}

bool store(const Config& config, LayerCache& cache, std::int64_t position,
           std::span<const float> key, std::span<const float> value) {
  const auto head_dim = static_cast<std::size_t>(config.head_dim());
  bool fits = true;
  for (std::size_t head = 0; head < key.size() / head_dim; ++head) {
    const auto keep = [&](std::vector<LayerCache::Line>& part, std::span<const float> row) {
      std::byte* to = elements(part, cache, head, static_cast<std::size_t>(position), head_dim);
      if (!round_to(cache.storage, row.subspan(head * head_dim, head_dim), to)) fits = false;
    };
    keep(cache.keys, key);
    keep(cache.values, value);
  }
  return fits;
}

std::size_t attend(const Config& config, const AttentionWeights& weights,
                   const RotaryEmbedding& rotary, std::span<const float> x,
                   std::span<const Stretch> stretches, std::span<LayerCache* const> caches,
                   std::span<float> out) {
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
    reserve(config, cache, start + count, start);
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
  std::size_t first_too_large = tokens;
  // A query's channel, with its key's and its value's, takes some 9 ns.
#pragma omp parallel for schedule(static) \
    reduction(min                         \
              : first_too_large) if (worth_sharing(9 * std::ssize(x)))
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
    if (!store(config, *cache, static_cast<std::int64_t>(position), key, value))
      first_too_large = std::min(first_too_large, t);
  }
  if (first_too_large < tokens) return first_too_large;

  std::vector<float> mixed(tokens * hidden);
  // A query and a key take 2 multiply-adds a channel, fewer of them a nanosecond than a product.
  const std::int64_t time = looks * config.hidden_size / 5;
#pragma omp parallel for schedule(dynamic) if (worth_sharing(time))
  for (std::size_t item = 0; item < blocks.size() * heads; ++item) {
    const QueryBlock& block = blocks[item / heads];
    const std::size_t head = item % heads;
    const std::size_t kv_head = head / (heads / kv_heads);
    const std::size_t place = block.row * hidden + head * head_dim;
    const LayerCache& cache = *block.cache;
    attend_head(queries.data() + place, block.tokens, block.first, cache.storage,
                elements(cache.keys, cache, kv_head, 0, head_dim),
                elements(cache.values, cache, kv_head, 0, head_dim), head_dim, hidden,
                mixed.data() + place);
  }
  linear({{weights.o, weights.o_bias, out}}, mixed);
  return tokens;
}

}  // namespace olmoe
