// Products of bfloat16 with bfloat16, for processors that have AVX512_BF16. What kernels_body.inc
// says of linkage holds here too.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"

namespace olmoe {
namespace {

using Index = std::ptrdiff_t;

constexpr Index columns = 32;  // in a vector
// 24 sums, 3 vectors of x and one of w in 32 registers.
constexpr int tile_tokens = 3;
constexpr Index tile_rows = 8;
constexpr Index panel_rows = 4 * tile_rows;
constexpr Index few_tokens = 12;  // as kernels_few.inc

__m512i load(const void* p) {
  return _mm512_loadu_si512(p);
}

__m512 multiply_add(__m512i a, __m512i b, __m512 sum) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

/// The first `count` of 32 elements.
__mmask32 first(Index count) {
  return static_cast<__mmask32>((std::uint64_t{1} << count) - 1);
}

const std::uint16_t* row_of(const void* w, Index stride, Index row) {
  return static_cast<const std::uint16_t*>(w) + row * stride;
}

// ---- One token
// -----------------------------------------------------------------------------------

constexpr Index page = 4096;

/// The sum of all 16 lanes: lanes j and j + 8, then j and j + 4 ...
float sum(__m512 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <bool ahead>
void dot_rows(const void* w, Index stride, Index rows, Index cols, const float* x, float* y) {
  const Index whole = cols - cols % columns;
  for (Index r = 0; r < rows; ++r) {
    const std::uint16_t* row = row_of(w, stride, r);
    __m512 partial = _mm512_setzero_ps();
    for (Index c = 0; c < whole; c += columns) {
      if constexpr (ahead) __builtin_prefetch(row + c + page / 2);
      partial = multiply_add(load(row + c), load(x + c / 2), partial);
    }
    if (whole < cols) {
      const __m512i tail = _mm512_maskz_loadu_epi16(first(cols - whole), row + whole);
      partial = multiply_add(tail, load(x + whole / 2), partial);
    }
    y[r] = sum(partial);
  }
}

// ---- A few tokens
// --------------------------------------------------------------------------------

/// The sums of eight vectors, each as sum() has it. Inlined, so that they stay in registers.
[[gnu::always_inline]] inline __m256 sums_of(const __m512 (&v)[tile_rows]) {
  __m512 eights[4];
  for (Index i = 0; i < 4; ++i) {
    eights[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                              _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
  }
  __m512 fours[2];
  for (Index i = 0; i < 2; ++i) {
    fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(eights[2 * i], eights[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(eights[2 * i], eights[2 * i + 1], 0xdd));
  }
  const __m512 twos = _mm512_add_ps(_mm512_shuffle_ps(fours[0], fours[1], 0x44),
                                    _mm512_shuffle_ps(fours[0], fours[1], 0xee));
  // Vector i of the first four ends in lane 4 i, of the others in lane 4 (i - 4) + 2.
  const __m512 ones = _mm512_add_ps(twos, _mm512_permute_ps(twos, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, ones));
}

/// What to fetch while a panel is multiplied, some lines a step.
struct Prefetch {
  const unsigned char* next;
  const unsigned char* end;
  Index lines;

  [[gnu::always_inline]] void advance() {
    for (Index i = 0; i < lines && next < end; ++i, next += 64) __builtin_prefetch(next, 0, 2);
  }
};

/// y[t, r] = x[t] times row r of `rows` rows of w, 8 or 1.
template <int tokens, Index rows>
void multiply_stored(const std::uint16_t* w, Index stride, Index cols, const float* const* x,
                     float* y, Index y_stride, Prefetch prefetch) {
  __m512 sums[tokens][rows];
#pragma GCC unroll 3
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
    for (__m512& s : sums[t]) s = _mm512_setzero_ps();
  }
  const float* inputs[tokens];
  for (int t = 0; t < tokens; ++t) inputs[t] = x[t];
  const auto add = [&](Index c, const auto& load_weights) __attribute__((always_inline)) {
    __m512i input[tokens];
#pragma GCC unroll 3
    for (int t = 0; t < tokens; ++t) input[t] = load(inputs[t] + c / 2);
#pragma GCC unroll 8
    for (Index r = 0; r < rows; ++r) {
      const __m512i weights = load_weights(w + r * stride + c);
#pragma GCC unroll 3
      for (int t = 0; t < tokens; ++t) sums[t][r] = multiply_add(weights, input[t], sums[t][r]);
    }
  };
  const Index whole = cols - cols % columns;
  for (Index c = 0; c < whole; c += columns) {
    prefetch.advance();
    add(c, load);
  }
  if (whole < cols) {
    add(whole, [mask = first(cols - whole)](const std::uint16_t* p) {
      return _mm512_maskz_loadu_epi16(mask, p);
    });
  }
#pragma GCC unroll 3
  for (int t = 0; t < tokens; ++t) {
    if constexpr (rows == tile_rows) {
      _mm256_storeu_ps(y + t * y_stride, sums_of(sums[t]));
    } else {
      y[t * y_stride] = sum(sums[t][0]);
    }
  }
}

/// multiply_few for `tokens` tokens.
template <int tokens>
void multiply_tokens(const std::uint16_t* w, Index stride, Index rows, Index cols,
                     const float* const* x, float* y, Index y_stride, const unsigned char* next,
                     Index next_bytes) {
  const Index steps = cols / columns + 1;
  const Index groups = rows / tile_rows + 1;
  const Index share = next_bytes / groups + 1;  // of eight rows, in bytes
  Index r = 0;
  for (; r + tile_rows <= rows; r += tile_rows) {
    const Index from = r / tile_rows * share;
    const Prefetch prefetch{next + from, next + from + share, share / (steps * 64) + 1};
    multiply_stored<tokens, tile_rows>(w + r * stride, stride, cols, x, y + r, y_stride, prefetch);
  }
  for (; r < rows; ++r)
    multiply_stored<tokens, 1>(w + r * stride, stride, cols, x, y + r, y_stride, {});
}

void multiply_few(const void* w, Index stride, Index rows, Index cols, const float* const* x,
                  Index tokens, float* y, Index y_stride, const void* next, Index next_bytes) {
  const auto* weights = static_cast<const std::uint16_t*>(w);
  const auto* soon = static_cast<const unsigned char*>(next);
  for (Index t = 0; t < tokens; t += tile_tokens) {
    const Index size = tokens - t < tile_tokens ? tokens - t : tile_tokens;
    // With the first tokens: it is as much as is read meanwhile.
    const Index bytes = t == 0 ? next_bytes : 0;
    const auto multiply = size == 1   ? multiply_tokens<1>
                          : size == 2 ? multiply_tokens<2>
                                      : multiply_tokens<tile_tokens>;
    multiply(weights, stride, rows, cols, x + t, y + t * y_stride, y_stride, soon, bytes);
  }
}

// ---- Many tokens
// ---------------------------------------------------------------------------------

/// The panel: element [row / 8][step][row % 8][column], 32 columns a step.
void pack(const void* w, Index stride, Index rows, Index cols, float* panel) {
  const Index steps = (cols + columns - 1) / columns;
  for (Index group = 0; group < panel_rows; group += tile_rows) {
    for (Index step = 0; step < steps; ++step) {
      const Index left = cols - step * columns;
      const bool whole = group + tile_rows <= rows && left >= columns;
#pragma GCC unroll 8
      for (Index r = group; r < group + tile_rows; ++r, panel += columns / 2) {
        const std::uint16_t* from = row_of(w, stride, r) + step * columns;
        if (whole) {
          _mm512_store_si512(panel, load(from));
        } else {
          const Index count = r < rows ? left : 0;
          const __mmask32 mask = first(count < columns ? count : columns);
          _mm512_store_si512(panel, _mm512_maskz_loadu_epi16(mask, from));
        }
      }
    }
  }
}

/// y[t, r] = x[t] times row r of eight rows of a panel, for the first `rows` of them.
template <int tokens>
void multiply_tile(const float* panel, Index steps, const float* const* x, Index rows, float* y,
                   Index y_stride, Prefetch prefetch) {
  __m512 sums[tokens][tile_rows];
#pragma GCC unroll 3
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
    for (__m512& s : sums[t]) s = _mm512_setzero_ps();
  }
  const float* inputs[tokens];
  for (int t = 0; t < tokens; ++t) inputs[t] = x[t];
  for (Index step = 0; step < steps; ++step) {
    prefetch.advance();
    __m512i input[tokens];
#pragma GCC unroll 3
    for (int t = 0; t < tokens; ++t) input[t] = load(inputs[t] + step * (columns / 2));
#pragma GCC unroll 8
    for (Index r = 0; r < tile_rows; ++r) {
      const __m512i weights = load(panel + (step * tile_rows + r) * (columns / 2));
#pragma GCC unroll 3
      for (int t = 0; t < tokens; ++t) sums[t][r] = multiply_add(weights, input[t], sums[t][r]);
    }
  }
  const __mmask8 mask = static_cast<__mmask8>(first(rows));
#pragma GCC unroll 3
  for (int t = 0; t < tokens; ++t) _mm256_mask_storeu_ps(y + t * y_stride, mask, sums_of(sums[t]));
}

void multiply_panel(const float* panel, Index steps, const float* const* x, Index tokens,
                    Index rows, float* y, Index y_stride, const void* next, Index next_bytes) {
  const Index groups = (rows + tile_rows - 1) / tile_rows;
  const Index tiles = (tokens + tile_tokens - 1) / tile_tokens * groups;
  const Index share = next_bytes / tiles + 1;  // of a tile, in bytes
  const auto* soon = static_cast<const unsigned char*>(next);
  const auto* const end = soon + next_bytes;
  for (Index t = 0; t < tokens; t += tile_tokens) {
    for (Index r = 0; r < rows; r += tile_rows) {
      const unsigned char* after = end - soon > share ? soon + share : end;
      const Prefetch prefetch{soon, after, share / (steps * 64) + 1};
      soon = after;
      const float* group = panel + r * steps * (columns / 2);
      const Index height = rows - r < tile_rows ? rows - r : tile_rows;
      float* to = y + t * y_stride + r;
      switch (tokens - t) {
        case 1:
          multiply_tile<1>(group, steps, x + t, height, to, y_stride, prefetch);
          break;
        case 2:
          multiply_tile<2>(group, steps, x + t, height, to, y_stride, prefetch);
          break;
        default:
          multiply_tile<tile_tokens>(group, steps, x + t, height, to, y_stride, prefetch);
      }
    }
  }
}

}  // namespace

const Products bf16_products{panel_rows,   few_tokens, dot_rows<false>, dot_rows<true>,
                             multiply_few, pack,       multiply_panel,  nullptr};

}  // namespace olmoe
