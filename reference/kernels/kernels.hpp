#pragma once

#include <cstddef>

// Included by translation units that are compiled for one instruction set: nothing here may be an
// inline function or a template, and no header that has some may come in (see kernels_body.inc).

namespace olmoe {

/// The instruction sets that the kernels are compiled for, each including those before it.
enum class Isa {
  baseline,  ///< what every processor of the target has: SSE2 on x86-64
  avx2,      ///< AVX2, FMA and F16C
  avx512,    ///< AVX-512 F, BW, DQ and VL
  amx        ///< AVX512_BF16, AMX-TILE and AMX-BF16
};

/// How a weight, a key or a value is stored; the index into Kernels' arrays.
enum class Storage { f32, f16, bf16 };

/// Products with a matrix of weights: dot_rows for one token, multiply_few for up to few_tokens,
/// pack and multiply_panel for more. These sum in one order, so that all three give the same bits.
///
/// A row of x is *spread* where its columns stand in the order that multiply_panel reads them, in
/// `steps` = ceil(columns / 32) steps, with zeros where there is no column. A *panel* is up to
/// panel_rows rows of weights in such an order. Which order, the products define.
struct Products {
  std::ptrdiff_t panel_rows;

  /// Of more tokens than this, packing weights pays: a panel takes fewer loads for each product.
  std::ptrdiff_t few_tokens;

  /// y[r] = row r of w (rows, cols) times x (cols), for rows that lie `stride` elements apart.
  using DotRows = void (*)(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows,
                           std::ptrdiff_t cols, const float* x, float* y);
  DotRows dot_rows;

  /// dot_rows that asks for the weights a page ahead (see reads_ahead() in isa.hpp).
  DotRows dot_rows_ahead;

  /// y[t, r] = row r of w times x[t]; rows <= panel_rows, 2 <= tokens. Each x[t] points to `cols`
  /// floats. Meanwhile it asks for the `next_bytes` from `next` on, `rows` rows of weights or less,
  /// to be brought into the cache. With `group`, x[t] points to a group where t is a multiple of
  /// group_tokens, and is not used elsewhere.
  void (*multiply_few)(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows,
                       std::ptrdiff_t cols, const float* const* x, std::ptrdiff_t tokens, float* y,
                       std::ptrdiff_t y_stride, const void* next, std::ptrdiff_t next_bytes);

  /// Rows of w, `stride` elements apart, as a panel: up to 32 * (steps * panel_rows + panel_gap)
  /// floats, at a multiple of 64 bytes. rows <= panel_rows; the panel's other rows become 0.
  void (*pack)(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows, std::ptrdiff_t cols,
               float* panel);

  /// y[t, r] = x[t] times row r of the panel, for the first `rows` rows; x points to `tokens`
  /// spread rows. Meanwhile it asks for the `next_bytes` from `next` on to be brought into the
  /// cache.
  void (*multiply_panel)(const float* panel, std::ptrdiff_t steps, const float* const* x,
                         std::ptrdiff_t tokens, std::ptrdiff_t rows, float* y,
                         std::ptrdiff_t y_stride, const void* next, std::ptrdiff_t next_bytes);

  /// Null, or how products of several tokens take x: `tokens` rows of `cols` floats, at most
  /// group_tokens, as one *group*, 16 * steps * tokens floats.
  void (*group)(const float* const* x, std::ptrdiff_t tokens, std::ptrdiff_t cols, float* to);
};

/// The tokens of a group; the last of a product's groups may have fewer.
constexpr std::ptrdiff_t group_tokens = 16;

/// The innermost loops, for one instruction set.
struct Kernels {
  Isa isa;

  /// In float, by Storage of the weights.
  ///
  /// All sums have the order of 32 interleaved partial sums: sum j takes the products of columns j,
  /// j + 32, j + 64 ..., then sums j and j + 16 are added, then j and j + 8, and so on. dot_rows
  /// has a partial sum per vector lane; multiply_panel computes one partial sum of many products at
  /// a time, in bit-reversed order. A spread row has `steps` places for each partial sum, a panel
  /// is element [partial sum][step][row], in float. Instruction sets with a fused multiply-add give
  /// the same bits.
  Products products[3];

  /// dot_rows for one query and the keys of a head, in the order of products'. `room` has cols
  /// floats, rounded up to a multiple of 32. By Storage of w.
  void (*dot_keys[3])(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows,
                      std::ptrdiff_t cols, const float* x, float* room, float* y);

  /// y[t] = sum over i < counts[t] of weights[t][i] * v[i], in that order; v (counts[t], width) has
  /// rows `stride` elements apart, y (tokens, width) rows `y_stride` apart. The counts must not
  /// descend. By Storage of v.
  void (*sum_rows[3])(const float* const* weights, const std::ptrdiff_t* counts,
                      std::ptrdiff_t tokens, const void* v, std::ptrdiff_t stride,
                      std::ptrdiff_t width, float* y, std::ptrdiff_t y_stride);

  /// x <- softmax(scale * x). Reads and writes up to the next multiple of 32 places beyond x[n -
  /// 1].
  void (*softmax)(float* x, std::ptrdiff_t n, float scale);

  /// gate <- silu(gate) * up.
  void (*silu)(float* gate, const float* up, std::ptrdiff_t n);
};

/// Each partial sum's part of a panel of floats ends in a gap, lest all of them begin at the same
/// place of a cache's set.
constexpr std::ptrdiff_t panel_gap = 16;

extern const Kernels kernels_baseline;
#ifdef FDROUTE_X86_KERNELS
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
/// Products of bfloat16 weights with bfloat16 activations, by AVX512_BF16's dot product of pairs,
/// which adds in float.
/// x, for dot_rows too, is *rounded*: its columns in order as bfloat16, two in the place of each
/// float, with zeros up to a multiple of 32.
///
/// All sums have the order of 16 interleaved partial sums: sum j takes the products of columns 2j
/// and 2j + 1 of each 32, then sums j and j + 8 are added, then j and j + 4, and so on. The
/// instruction takes denormal inputs for zeros and makes denormal results zeros.
extern const Products bf16_products;
#endif
#ifdef FDROUTE_AMX_KERNELS
/// Products of bfloat16 weights with bfloat16 activations, by AMX's product of tiles, which adds in
/// float. A group has its tokens' columns 2i and 2i + 1, rounded to bfloat16 and with zeros up to a
/// multiple of 32 columns, in the place of float [i][token]: that of one token is a rounded row.
///
/// All sums have one order: those of the even columns of each 32, in order, and of the odd ones,
/// are added to each other and then to the sum so far. Rounding and products take denormals for
/// zeros and make denormal results zeros.
extern const Products amx_products;
#endif

}  // namespace olmoe
