#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// 16 numbers of any type, as floats.
template <class Arch, class T>
FDROUTE_INLINE Floats<Arch> load_floats(const T* from) noexcept {
  constexpr auto width = static_cast<std::ptrdiff_t>(Floats<Arch>::width);
  constexpr bool vectors = !std::is_same_v<Arch, ScalarArch>;
  if constexpr (std::is_same_v<T, float>) {
    return Floats<Arch>::load_anywhere(from);
  } else if constexpr (vectors && logit_format<T> == LogitFormat::bfloat16) {
    return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
      return widen_bfloat16<Arch>(from + static_cast<std::ptrdiff_t>(i) * width, Arch{});
    });
  } else if constexpr (vectors && logit_format<T> == LogitFormat::float16 &&
                       requires { widen_float16<Arch>(from, Arch{}); }) {
    return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
      return widen_float16<Arch>(from + static_cast<std::ptrdiff_t>(i) * width, Arch{});
    });
  } else {
    alignas(64) float converted[16];
    for (int j = 0; j < 16; ++j) converted[j] = static_cast<float>(from[j]);
    return Floats<Arch>::load(converted);
  }
}

/// Copies a row of the caller's as floats, to the block's memory.
template <class Arch, class T>
FDROUTE_INLINE void copy_row(const T* from, int experts, int stride, float* to) noexcept {
  constexpr float masked = -std::numeric_limits<float>::infinity();
  int i = 0;
  for (; i + 16 <= experts; i += 16) load_floats<Arch>(from + i).store(to + i);
  if (i < experts) {
    alignas(64) std::array<float, 16> rest;
    rest.fill(masked);
    for (int j = i; j < experts; ++j)
      rest[static_cast<std::size_t>(j - i)] = static_cast<float>(from[j]);
    Floats<Arch>::load(rest.data()).store(to + i);
    i += 16;
  }
  for (; i < stride; i += 16) Floats<Arch>(masked).store(to + i);
}

/// Fills in ordinary, and, if `find_largest`, largest, from the token's row.
template <class Arch, bool find_largest>
FDROUTE_INLINE void scan_row(TokenBlock& block, int token) noexcept {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto t = static_cast<std::size_t>(token);
  const int padded = block.padded_16;
  const float* row = block.rows[t];
  Floats<Arch> most(-inf);
  bool below_inf = true;  // which NaN is not
  const auto scan = [&](const auto& x) FDROUTE_INLINED {
    using Lane = std::remove_cvref_t<decltype(x)>;
    const auto max = [](const auto& a, const auto& b) FDROUTE_INLINED { return larger(a, b); };
    below_inf &= (Lane(inf) > x).all();
    if constexpr (find_largest) {
      if constexpr (Lane::size == 64) {
        most = larger(most, fold(fold(x, max), max));
      } else {
        most = larger(most, x);
      }
    }
  };
  int i = 0;
  for (; i + 64 <= padded; i += 64) scan(Floats<Arch, 64>::load_anywhere(row + i));
  for (; i < padded; i += 16) scan(Floats<Arch>::load_anywhere(row + i));
  block.ordinary[t] = below_inf;
  if constexpr (find_largest) {
    block.largest[t] = largest(most);
    block.ordinary[t] = below_inf && block.largest[t] > -inf;
  }
}

/// load_rows() for one token.
template <class Arch, bool find_largest, class T>
FDROUTE_INLINE void load_row(TokenBlock& block, LogitsView<T> logits, int token) noexcept {
  const auto t = static_cast<std::size_t>(token);
  const float* row = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    if (block.experts == block.stride_64) row = logits.row(token);
  }
  if (row == nullptr) {
    float* copy = block.copy_of(token);
    copy_row<Arch>(logits.row(token), block.experts, block.stride_64, copy);
    row = copy;
  }
  block.rows[t] = row;
  scan_row<Arch, find_largest>(block, token);
}

/// Fills in rows and ordinary, and, if `find_largest`, largest; without it, ordinary may also hold
/// for a row without any finite logit. Rows of floats whose length needs no padding stay where they
/// are.
template <class Arch, bool find_largest, class T>
FDROUTE_KERNEL void load_rows(TokenBlock& block, LogitsView<T> logits) noexcept {
  for (int t = 0; t < block.tokens; ++t) load_row<Arch, find_largest>(block, logits, t);
}

/// Fills in largest of a block whose rows are there, and clears ordinary of those that are not.
template <class Arch>
FDROUTE_KERNEL void find_largest(TokenBlock& block) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    bool& ordinary = block.ordinary[static_cast<std::size_t>(t)];
    if (!ordinary) continue;
    scan_row<Arch, true>(block, t);
  }
}

}  // namespace fdroute::inline v0::detail
