// The kernels, written once and compiled once per instruction set: each kernels_*.cpp defines a
// type Vector in an unnamed namespace, includes this file and names its table.
//
// These translation units may run only on processors that have their instructions, and the linker
// keeps one of several copies of an inline function, whichever it meets first. So everything here
// has internal linkage, and nothing of the standard library that is a function comes in.

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

namespace olmoe {
namespace {

using Index = std::ptrdiff_t;

constexpr Index lanes = 32;
constexpr Index width = Vector::width;
constexpr Index parts = lanes / width;  // vectors that hold the partial sums of one dot product
constexpr Index panel_vectors = 2;
constexpr Index panel_rows = panel_vectors * width;
constexpr int levels = 5;  // of the tree that adds 32 partial sums

constexpr Index bytes_of(Storage storage) {
  return storage == Storage::f32 ? 4 : 2;
}

/// The place of partial sum `lane` in a panel: its five bits reversed. In this order the tree of
/// additions needs no more than five intermediate results at a time.
constexpr Index place_of(Index lane) {
  Index place = 0;
  for (int bit = 0; bit < levels; ++bit) place |= ((lane >> bit) & 1) << (levels - 1 - bit);
  return place;
}

template <Storage S>
Vector load(const void* elements, Index at) {
  if constexpr (S == Storage::f32) {
    return Vector::load(static_cast<const float*>(elements) + at);
  } else if constexpr (S == Storage::f16) {
    return Vector::load_f16(static_cast<const std::uint16_t*>(elements) + at);
  } else {
    return Vector::load_bf16(static_cast<const std::uint16_t*>(elements) + at);
  }
}

/// The columns [at, cols) of a row, at most 32 of them, followed by zeros.
template <Storage S>
struct Tail {
  alignas(64) unsigned char bytes[lanes * bytes_of(S)] = {};

  Tail(const void* row, Index at, Index cols) {
    const auto* from = static_cast<const unsigned char*>(row) + at * bytes_of(S);
    for (Index i = 0; i < (cols - at) * bytes_of(S); ++i) bytes[i] = from[i];
  }
};

template <Storage S>
const void* row_of(const void* w, Index stride, Index row) {
  return static_cast<const unsigned char*>(w) + row * stride * bytes_of(S);
}

// ---- One token
// -----------------------------------------------------------------------------------

/// Sums 32 lanes in halves: lanes j and j + 16, then j and j + 8 ...
float sum_lanes(Vector (&sums)[parts]) {
  for (Index half = parts / 2; half > 0; half /= 2) {
    for (Index p = 0; p < half; ++p) sums[p] = sums[p] + sums[p + half];
  }
  return sums[0].sum();
}

// Weights are met once, in the order they are stored in. One row at a time keeps that order, and
// the hardware's own prefetch stops at every page; hence the explicit one.
constexpr Index prefetch_bytes = 4096;

template <Storage S>
void dot_rows(const void* w, Index stride, Index rows, Index cols, const float* x, float* y) {
  const Index whole = cols - cols % lanes;
  const Tail<Storage::f32> x_tail(x, whole, cols);
  for (Index r = 0; r < rows; ++r) {
    const void* row = row_of<S>(w, stride, r);
    Vector sums[parts];
    for (Vector& sum : sums) sum = Vector::broadcast(0.0F);
    for (Index i = 0; i < whole; i += lanes) {
      for (Index line = 0; line < lanes * bytes_of(S); line += 64) {
        __builtin_prefetch(static_cast<const unsigned char*>(row) + i * bytes_of(S) + line +
                           prefetch_bytes);
      }
      for (Index p = 0; p < parts; ++p)
        sums[p] = fmadd(load<S>(row, i + p * width), Vector::load(x + i + p * width), sums[p]);
    }
    if (whole < cols) {
      const Tail<S> tail(row, whole, cols);
      for (Index p = 0; p < parts; ++p)
        sums[p] = fmadd(load<S>(tail.bytes, p * width), load<Storage::f32>(x_tail.bytes, p * width),
                        sums[p]);
    }
    y[r] = sum_lanes(sums);
  }
}

// ---- Several tokens
// ------------------------------------------------------------------------------

/// Transposes the 32 columns from `w` on of `width` rows and writes each to its place.
template <Storage S>
[[gnu::always_inline]] inline void pack_columns(const void* w, Index stride, Index place_size,
                                                float* to) {
  // Two bfloat16 make a 32-bit element: half as many to transpose, and the upper or lower half of
  // each is a float.
  constexpr Index columns = S == Storage::bf16 ? 2 * width : width;
#pragma GCC unroll 8
  for (Index lane = 0; lane < lanes; lane += columns) {
    Vector block[width];
#pragma GCC unroll 16
    for (Index r = 0; r < width; ++r) {
      const void* row = row_of<S>(w, stride, r);
      if constexpr (S == Storage::bf16) {
        block[r] = Vector::load_bits(static_cast<const std::uint16_t*>(row) + lane);
      } else {
        block[r] = load<S>(row, lane);
      }
    }
    transpose(block);
#pragma GCC unroll 16
    for (Index c = 0; c < width; ++c) {
      if constexpr (S == Storage::bf16) {
        block[c].low_bf16().store(to + place_of(lane + 2 * c) * place_size);
        block[c].high_bf16().store(to + place_of(lane + 2 * c + 1) * place_size);
      } else {
        block[c].store(to + place_of(lane + c) * place_size);
      }
    }
  }
}

template <Storage S>
void pack(const void* w, Index stride, Index rows, Index cols, float* panel) {
  const Index steps = (cols + lanes - 1) / lanes;
  const Index place_size = steps * panel_rows + panel_gap;
  for (Index first = 0; first < panel_rows; first += width) {
    const void* from = row_of<S>(w, stride, first);
    const Index whole = first + width <= rows ? cols / lanes : 0;
    for (Index step = 0; step < whole; ++step) {
      pack_columns<S>(row_of<S>(from, 1, step * lanes), stride, place_size,
                      panel + step * panel_rows + first);
    }
    // Where columns or rows are missing, zeros.
    for (Index step = whole; step < steps; ++step) {
      alignas(64) unsigned char block[width][lanes * bytes_of(S)] = {};
      const Index begin = step * lanes;
      const Index count = (begin + lanes < cols ? lanes : cols - begin) * bytes_of(S);
      for (Index r = 0; r < width && first + r < rows; ++r) {
        const auto* row = static_cast<const unsigned char*>(row_of<S>(from, stride, r));
        for (Index i = 0; i < count; ++i) block[r][i] = row[begin * bytes_of(S) + i];
      }
      pack_columns<S>(block, lanes, place_size, panel + step * panel_rows + first);
    }
  }
}

/// sums[t][p] += x[t][i] * (vector p of row i of w), i < steps, each in that order.
template <int tokens, int vectors>
void accumulate(Vector (&sums)[tokens][vectors], const float* w, Index w_stride,
                const float* const* x, Index x_offset, Index steps) {
  const float* rows[tokens];
  for (int t = 0; t < tokens; ++t) rows[t] = x[t] + x_offset;
  for (Index i = 0; i < steps; ++i) {
    Vector row[vectors];
    for (int p = 0; p < vectors; ++p) row[p] = Vector::load(w + i * w_stride + p * width);
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
      const Vector factor = Vector::broadcast(rows[t][i]);
#pragma GCC unroll 8
      for (int p = 0; p < vectors; ++p) sums[t][p] = fmadd(row[p], factor, sums[t][p]);
    }
  }
}

/// What is to be fetched while a panel is multiplied, a bit at a time.
struct Prefetch {
  const unsigned char* next;
  const unsigned char* end;
  Index bytes;  // at a time

  void advance() {
    for (const unsigned char* to = next + bytes; next < to && next < end; next += 64)
      __builtin_prefetch(next, 0, 2);
  }
};

/// multiply_panel for `tokens` tokens, whose sums are all held in registers.
template <int tokens>
void multiply_tile(const float* panel, Index steps, const float* const* x, Index rows, float* y,
                   Index y_stride, Prefetch& prefetch) {
  const Index place_size = steps * panel_rows + panel_gap;
  alignas(64) float pending[levels][tokens * panel_rows];
  int depth = 0;
  Vector sums[tokens][panel_vectors];
  const auto at = [](int t, Index p) { return t * panel_rows + p * width; };
  for (Index place = 0; place < lanes; ++place) {
    prefetch.advance();
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
      for (Vector& sum : sums[t]) sum = Vector::broadcast(0.0F);
    }
    accumulate<tokens, panel_vectors>(sums, panel + place * place_size, panel_rows, x,
                                      place * steps, steps);
    for (Index bits = place; bits & 1; bits >>= 1) {
      --depth;
#pragma GCC unroll 16
      for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
        for (Index p = 0; p < panel_vectors; ++p)
          sums[t][p] = Vector::load(pending[depth] + at(t, p)) + sums[t][p];
      }
    }
    if (place + 1 == lanes) break;
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
      for (Index p = 0; p < panel_vectors; ++p) sums[t][p].store(pending[depth] + at(t, p));
    }
    ++depth;
  }
  if (rows == panel_rows) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
      for (Index p = 0; p < panel_vectors; ++p) sums[t][p].store(y + t * y_stride + p * width);
    }
    return;
  }
  float* result = pending[0];
#pragma GCC unroll 16
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 8
    for (Index p = 0; p < panel_vectors; ++p) sums[t][p].store(result + at(t, p));
  }
  for (int t = 0; t < tokens; ++t) {
    for (Index r = 0; r < rows; ++r) y[t * y_stride + r] = result[t * panel_rows + r];
  }
}

using MultiplyTile = void (*)(const float*, Index, const float* const*, Index, float*, Index,
                              Prefetch&);

/// Tiles<n>::of[t - 1] is the kernel for t tokens, t <= n.
template <int n, int... smaller>
struct Tiles : Tiles<n - 1, n, smaller...> {};
template <int... tokens>
struct Tiles<0, tokens...> {
  static constexpr MultiplyTile of[] = {multiply_tile<tokens>...};
};

void multiply_panel(const float* panel, Index steps, const float* const* x, Index tokens,
                    Index rows, float* y, Index y_stride, const void* next, Index next_bytes) {
  constexpr Index largest = Vector::tile_tokens;
  const Index tiles = (tokens + largest - 1) / largest;
  const auto* begin = static_cast<const unsigned char*>(next);
  Prefetch prefetch{begin, begin + next_bytes, next_bytes / (tiles * lanes) + 1};
  // Tiles of nearly equal size, for small ones use the processor less well.
  for (Index tile = 0; tile < tiles; ++tile) {
    const Index from = tokens * tile / tiles;
    const Index size = tokens * (tile + 1) / tiles - from;
    Tiles<Vector::tile_tokens>::of[size - 1](panel, steps, x + from, rows, y + from * y_stride,
                                             y_stride, prefetch);
  }
}

// ---- Attention
// -----------------------------------------------------------------------------------

template <int tokens, int vectors>
void sum_rows_block(const float* const* weights, const Index* counts, const float* v, Index stride,
                    float* y, Index y_stride) {
  Vector sums[tokens][vectors];
  for (int t = 0; t < tokens; ++t) {
    for (Vector& sum : sums[t]) sum = Vector::broadcast(0.0F);
  }
  accumulate<tokens, vectors>(sums, v, stride, weights, 0, counts[0]);
  for (int t = 0; t < tokens; ++t) {
    Vector last[1][vectors];
    for (int p = 0; p < vectors; ++p) last[0][p] = sums[t][p];
    accumulate<1, vectors>(last, v + counts[0] * stride, stride, weights + t, counts[0],
                           counts[t] - counts[0]);
    for (int p = 0; p < vectors; ++p) last[0][p].store(y + t * y_stride + p * width);
  }
}

/// sum_rows for `tokens` tokens, `vectors` vectors of columns at a time.
template <int tokens, int vectors>
void sum_rows_of(const float* const* weights, const Index* counts, const float* v, Index stride,
                 Index columns, float* y, Index y_stride) {
  Index c = 0;
  for (; c + vectors * width <= columns; c += vectors * width)
    sum_rows_block<tokens, vectors>(weights, counts, v + c, stride, y + c, y_stride);
  for (; c < columns; ++c) {
    for (int t = 0; t < tokens; ++t) {
      float sum = 0.0F;
      for (Index i = 0; i < counts[t]; ++i) sum = fmadd(weights[t][i], v[i * stride + c], sum);
      y[t * y_stride + c] = sum;
    }
  }
}

void sum_rows(const float* const* weights, const Index* counts, Index tokens, const float* v,
              Index stride, Index columns, float* y, Index y_stride) {
  constexpr int block = Vector::tile_tokens;
  Index t = 0;
  for (; t + block <= tokens; t += block)
    sum_rows_of<block, panel_vectors>(weights + t, counts + t, v, stride, columns, y + t * y_stride,
                                      y_stride);
  for (; t < tokens; ++t)
    sum_rows_of<1, 2 * panel_vectors>(weights + t, counts + t, v, stride, columns, y + t * y_stride,
                                      y_stride);
}

// ---- Functions
// -----------------------------------------------------------------------------------

/// exp(x), within 2 ulp; 0 and infinity where float has no better; NaN stays NaN.
Vector exp(Vector x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, the first exact in few bits.
  x = min(Vector::broadcast(128.0F), max(Vector::broadcast(-152.0F), x));
  const Vector n = round(x * Vector::broadcast(1.44269504F));
  Vector r = fmadd(n, Vector::broadcast(-0.693359375F), x);
  r = fmadd(n, Vector::broadcast(2.12194440e-4F), r);
  // Taylor's series to r^7: its remainder is below 2^-27 on this interval.
  constexpr float factors[] = {1.0F / 720.0F, 1.0F / 120.0F, 1.0F / 24.0F, 1.0F / 6.0F,
                               0.5F,          1.0F,          1.0F};
  Vector sum = Vector::broadcast(1.0F / 5040.0F);
  for (const float factor : factors) sum = fmadd(sum, r, Vector::broadcast(factor));
  // In two factors, since 2^n may lie outside float's range where exp(x) does not.
  const Vector half = round(n * Vector::broadcast(0.5F));
  return sum * half.power_of_two() * (n - half).power_of_two();
}

void softmax(float* x, Index n, float scale) {
  const Index padded = (n + lanes - 1) / lanes * lanes;
  for (Index i = n; i < padded; ++i) x[i] = -__builtin_inff();
  Vector largest = Vector::broadcast(-__builtin_inff());
  for (Index i = 0; i < padded; i += width)
    largest = max(largest, Vector::load(x + i) * Vector::broadcast(scale));
  alignas(64) float values[width];
  largest.store(values);
  float most = values[0];
  for (const float value : values) most = value > most ? value : most;
  Vector sums[parts];
  for (Vector& sum : sums) sum = Vector::broadcast(0.0F);
  for (Index i = 0; i < padded; i += lanes) {
    for (Index p = 0; p < parts; ++p) {
      float* place = x + i + p * width;
      const Vector value =
          exp(Vector::load(place) * Vector::broadcast(scale) - Vector::broadcast(most));
      value.store(place);
      sums[p] = sums[p] + value;
    }
  }
  const Vector sum = Vector::broadcast(sum_lanes(sums));
  for (Index i = 0; i < padded; i += width) (Vector::load(x + i) / sum).store(x + i);
}

Vector silu(Vector gate, Vector up) {
  const Vector one = Vector::broadcast(1.0F);
  return gate / (one + exp(Vector::broadcast(0.0F) - gate)) * up;
}

void silu_rows(float* gate, const float* up, Index n) {
  Index i = 0;
  for (; i + width <= n; i += width)
    silu(Vector::load(gate + i), Vector::load(up + i)).store(gate + i);
  if (i == n) return;
  alignas(64) float gates[width] = {};
  alignas(64) float ups[width] = {};
  for (Index j = i; j < n; ++j) gates[j - i] = gate[j];
  for (Index j = i; j < n; ++j) ups[j - i] = up[j];
  silu(Vector::load(gates), Vector::load(ups)).store(gates);
  for (Index j = i; j < n; ++j) gate[j] = gates[j - i];
}

constexpr Kernels table(Isa isa) {
  return {isa,
          panel_rows,
          {dot_rows<Storage::f32>, dot_rows<Storage::f16>, dot_rows<Storage::bf16>},
          {pack<Storage::f32>, pack<Storage::f16>, pack<Storage::bf16>},
          multiply_panel,
          sum_rows,
          softmax,
          silu_rows};
}

}  // namespace
}  // namespace olmoe
