#pragma once

#include <cstddef>

// Included by translation units that are compiled for one instruction set: nothing here may be an
// inline function or a template, and no header that has some may come in (see kernels_body.inc).

namespace olmoe {

/// The instruction sets that the kernels are compiled for, each including those before it.
enum class Isa {
  baseline,  ///< what every processor of the target has: SSE2 on x86-64
  avx2,      ///< AVX2, FMA and F16C
  avx512     ///< AVX-512 F, BW, DQ and VL
};

/// How a weight is stored; the index into Kernels' arrays.
enum class Storage { f32, f16, bf16 };

/// The innermost loops, for one instruction set.
///
/// All sums of products have one fixed order, that of 32 interleaved partial sums: sum j takes the
/// products of columns j, j + 32, j + 64 ..., then sums j and j + 16 are added, then j and j + 8,
/// and so on. dot_rows has a partial sum per vector lane; multiply_panel computes one partial sum
/// of many products at a time. Both give the same bits, so that decode and prefill do. Instruction
/// sets with a fused multiply-add give the same bits too.
///
/// A row of x is *spread* where its columns stand in the order multiply_panel reads them: partial
/// sum by partial sum, in bit-reversed order, with `steps` = ceil(columns / 32) places each, 0
/// where there is no column. A *panel* is up to panel_rows rows of weights, spread in the same way,
/// in float: element [place][step][row].
struct Kernels {
  Isa isa;
  std::ptrdiff_t panel_rows;

  /// y[r] = row r of w (rows, cols) times x (cols), for rows that lie `stride` elements apart.
  using DotRows = void (*)(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows,
                           std::ptrdiff_t cols, const float* x, float* y);
  DotRows dot_rows[3];

  /// Rows of w, `stride` elements apart, as a panel: panel_size(steps) floats, at a multiple of 64
  /// bytes. rows <= panel_rows; the panel's other rows become 0.
  using Pack = void (*)(const void* w, std::ptrdiff_t stride, std::ptrdiff_t rows,
                        std::ptrdiff_t cols, float* panel);
  Pack pack[3];

  /// y[t, r] = x[t] times row r of the panel, for the first `rows` rows; x points to `tokens`
  /// spread rows. Meanwhile it asks for the `next_bytes` from `next` on to be brought into the
  /// cache.
  void (*multiply_panel)(const float* panel, std::ptrdiff_t steps, const float* const* x,
                         std::ptrdiff_t tokens, std::ptrdiff_t rows, float* y,
                         std::ptrdiff_t y_stride, const void* next, std::ptrdiff_t next_bytes);

  /// y[t] = sum over i < counts[t] of weights[t][i] * v[i], in that order; v (counts[t], width) has
  /// rows `stride` apart, y (tokens, width) rows `y_stride` apart. The counts must not descend.
  void (*sum_rows)(const float* const* weights, const std::ptrdiff_t* counts, std::ptrdiff_t tokens,
                   const float* v, std::ptrdiff_t stride, std::ptrdiff_t width, float* y,
                   std::ptrdiff_t y_stride);

  /// x <- softmax(scale * x). Reads and writes up to the next multiple of 32 places beyond x[n -
  /// 1].
  void (*softmax)(float* x, std::ptrdiff_t n, float scale);

  /// gate <- silu(gate) * up.
  void (*silu)(float* gate, const float* up, std::ptrdiff_t n);
};

/// Floats in a panel of `panel_rows` rows and ceil(columns / 32) steps. Each partial sum's part
/// ends in a gap, lest all of them begin at the same place of a cache's set.
constexpr std::ptrdiff_t panel_gap = 16;

extern const Kernels kernels_baseline;
#ifdef FDROUTE_X86_KERNELS
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

}  // namespace olmoe
