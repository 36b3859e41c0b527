// Products of bfloat16 with bfloat16 by the tiles of AMX. What kernels_body.inc says of linkage
// holds here too.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/transpose_avx512.inc"

namespace olmoe {
namespace {

using Index = std::ptrdiff_t;

// A product of tiles adds, to the sums of 16 rows with a group of tokens, those of 32 columns. Rows
// of weights are a tile where they are stored; a group is made of inputs that tiles can be read of.
constexpr Index columns = 32;
constexpr Index tile_rows = 16;
constexpr Index row_bytes = 64;
constexpr Index block_rows = 2 * tile_rows;
constexpr Index block_tokens = 2 * group_tokens;
constexpr Index panel_rows = 2 * block_rows;

constexpr Index smaller(Index a, Index b) {
  return a < b ? a : b;
}

/// Tiles are numbered in the instructions: 0 to 3 hold sums, 2 r + g those of row tile r and group
/// g; 4 + r weights, 6 + g inputs.
constexpr int weights_tile = 4;
constexpr int inputs_tile = 6;

/// Stores before it are done before tiles are read after it, which compilers do not know to read
/// memory.
void finish_stores() {
  asm volatile("" : : : "memory");
}

/// Rows and tokens of a product, of the two row tiles and the two groups; 0 of what is not there.
struct Shape {
  Index rows[2];
  Index tokens[2];
};

constexpr Shape shape_of(Index rows, Index tokens) {
  const Index rows_0 = smaller(rows, tile_rows);
  const Index tokens_0 = smaller(tokens, group_tokens);
  return {{rows_0, smaller(rows - rows_0, tile_rows)},
          {tokens_0, smaller(tokens - tokens_0, group_tokens)}};
}

constexpr bool same(const Shape& a, const Shape& b) {
  return a.rows[0] == b.rows[0] && a.rows[1] == b.rows[1] && a.tokens[0] == b.tokens[0] &&
         a.tokens[1] == b.tokens[1];
}

/// The calling thread's tiles, for as long as this lives.
class Tiles {
 public:
  Tiles() = default;
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  ~Tiles() { _tile_release(); }

  void configure(const Shape& shape) {
    if (same(shape, shape_)) return;
    shape_ = shape;
    Configuration to{};
    to.palette = 1;
    const auto set = [&](int tile, Index rows, Index bytes) {
      const bool used = rows > 0 && bytes > 0;
      to.rows[tile] = static_cast<std::uint8_t>(used ? rows : 0);
      to.bytes[tile] = static_cast<std::uint16_t>(used ? bytes : 0);
    };
    constexpr auto size = static_cast<Index>(sizeof(float));  // and of a pair of columns
    for (int i = 0; i < 2; ++i) {
      set(weights_tile + i, shape.rows[i], row_bytes);
      set(inputs_tile + i, columns / 2, shape.tokens[i] * size);
      for (int g = 0; g < 2; ++g) set(2 * i + g, shape.rows[i], shape.tokens[g] * size);
    }
    finish_stores();
    _tile_loadconfig(&to);
  }

 private:
  /// As the processor reads it.
  struct alignas(64) Configuration {
    std::uint8_t palette;
    std::uint8_t start_row;
    std::uint8_t reserved[14];
    std::uint16_t bytes[16];
    std::uint8_t rows[16];
  };

  Shape shape_{};
};

/// Adds the products of 32 columns to the sums of all tiles that there are.
template <bool two_rows, bool two_groups>
[[gnu::always_inline]] inline void add_columns(const std::uint16_t* w, Index stride,
                                               const float* const (&x)[2], const Shape& shape) {
  constexpr auto size = static_cast<Index>(sizeof(float));
  const Index bytes = stride * 2;
  _tile_loadd(4, w, bytes);
  _tile_loadd(6, x[0], shape.tokens[0] * size);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (two_rows) {
    _tile_loadd(5, w + tile_rows * stride, bytes);
    _tile_dpbf16ps(2, 5, 6);
  }
  if constexpr (two_groups) {
    _tile_loadd(7, x[1], shape.tokens[1] * size);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (two_rows) _tile_dpbf16ps(3, 5, 7);
  }
}

/// The first `count` of 16 elements, all of them if there are more, none if less than none.
__mmask16 first(Index count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffU : (1U << (count > 0 ? count : 0)) - 1);
}

/// y[t, r] = sums (rows, tokens), whose rows are 16 apart.
void store_sums(const float* sums, Index rows, Index tokens, float* y, Index y_stride) {
  __m512 vectors[tile_rows];
  for (Index r = 0; r < tile_rows; ++r) {
    const __mmask16 there = r < rows ? first(tokens) : __mmask16{0};
    vectors[r] = _mm512_maskz_load_ps(there, sums + r * group_tokens);
  }
  transpose(vectors);
  for (Index t = 0; t < tokens; ++t)
    _mm512_mask_storeu_ps(y + t * y_stride, first(rows), vectors[t]);
}

/// y[t, r] = row r of w times token t, for the rows and tokens of `shape`, which the tiles have;
/// x: a group or two.
template <bool two_rows, bool two_groups>
void multiply_block(const Shape& shape, const std::uint16_t* w, Index stride, Index cols,
                    const float* const* x, float* y, Index y_stride) {
  const float* groups[2] = {x[0], two_groups ? x[group_tokens] : nullptr};
  _tile_zero(0);
  if constexpr (two_groups) _tile_zero(1);
  if constexpr (two_rows) _tile_zero(2);
  if constexpr (two_rows && two_groups) _tile_zero(3);
  const Index whole = cols - cols % columns;
  for (Index c = 0; c < whole; c += columns) {
    add_columns<two_rows, two_groups>(w + c, stride, groups, shape);
    for (int g = 0; g < 2; ++g) groups[g] += columns / 2 * shape.tokens[g];
  }
  if (whole < cols) {
    alignas(64) std::uint16_t tail[block_rows][columns] = {};
    for (Index r = 0; r < shape.rows[0] + shape.rows[1]; ++r) {
      for (Index c = whole; c < cols; ++c) tail[r][c - whole] = w[r * stride + c];
    }
    finish_stores();
    add_columns<two_rows, two_groups>(tail[0], columns, groups, shape);
  }
  if (shape.tokens[0] == 1) {
    _tile_stored(0, y, sizeof(float));
    if constexpr (two_rows) _tile_stored(2, y + tile_rows, sizeof(float));
    return;
  }
  alignas(64) float sums[4][tile_rows * group_tokens];
  _tile_stored(0, sums[0], row_bytes);
  if constexpr (two_groups) _tile_stored(1, sums[1], row_bytes);
  if constexpr (two_rows) _tile_stored(2, sums[2], row_bytes);
  if constexpr (two_rows && two_groups) _tile_stored(3, sums[3], row_bytes);
  for (int r = 0; r < 1 + two_rows; ++r) {
    for (int g = 0; g < 1 + two_groups; ++g) {
      store_sums(sums[2 * r + g], shape.rows[r], shape.tokens[g],
                 y + g * group_tokens * y_stride + r * tile_rows, y_stride);
    }
  }
}

/// Any number of tokens. Nothing is asked for ahead: each of a tile's rows is a stream that the
/// processor foresees, and prefetch instructions only slowed these down.
void multiply_few(const void* w, Index stride, Index rows, Index cols, const float* const* x,
                  Index tokens, float* y, Index y_stride, const void* /*next*/,
                  Index /*next_bytes*/) {
  const auto* weights = static_cast<const std::uint16_t*>(w);
  Tiles tiles;
  for (Index t = 0; t < tokens; t += block_tokens) {
    for (Index r = 0; r < rows; r += block_rows) {
      const Shape shape = shape_of(rows - r, tokens - t);
      tiles.configure(shape);
      const bool two_rows = shape.rows[1] > 0;
      const bool two_groups = shape.tokens[1] > 0;
      const auto multiply =
          two_rows ? (two_groups ? multiply_block<true, true> : multiply_block<true, false>)
                   : (two_groups ? multiply_block<false, true> : multiply_block<false, false>);
      multiply(shape, weights + r * stride, stride, cols, x + t, y + t * y_stride + r, y_stride);
    }
  }
}

void dot_rows(const void* w, Index stride, Index rows, Index cols, const float* x, float* y) {
  multiply_few(w, stride, rows, cols, &x, 1, y, 0, nullptr, 0);
}

/// 32 columns of a row, of which `left` are there, as pairs of bfloat16.
__m512 pairs(const float* x, Index left) {
  const __m512 low = _mm512_maskz_loadu_ps(first(left), x);
  const __m512 high = _mm512_maskz_loadu_ps(first(left - 16), x + 16);
  return reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(high, low));
}

void group(const float* const* x, Index tokens, Index cols, float* to) {
  for (Index c = 0; c < cols; c += columns) {
    if (tokens == 1) {
      _mm512_storeu_ps(to + c / 2, pairs(x[0] + c, cols - c));
      continue;
    }
    __m512 vectors[group_tokens];
    for (Index t = 0; t < group_tokens; ++t)
      vectors[t] = t < tokens ? pairs(x[t] + c, cols - c) : _mm512_setzero_ps();
    transpose(vectors);
    for (Index i = 0; i < columns / 2; ++i)
      _mm512_mask_storeu_ps(to + (c / 2 + i) * tokens, first(tokens), vectors[i]);
  }
}

}  // namespace

const Products amx_products{panel_rows,   PTRDIFF_MAX, dot_rows, dot_rows,
                            multiply_few, nullptr,     nullptr,  group};

}  // namespace olmoe
