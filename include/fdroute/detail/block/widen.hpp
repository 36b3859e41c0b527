#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/simd/lanes.hpp"

namespace fdroute::inline v0::detail {

/// 16 numbers of 16 bits each, from anywhere, as floats. Only where can_widen<Arch, format>.
template <class Arch, LogitFormat format>
FDROUTE_INLINE Floats<Arch> widen_16(const std::byte* from) noexcept {
  constexpr std::size_t bytes = 2 * Floats<Arch>::width;
  return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
    if constexpr (format == LogitFormat::bfloat16) {
      return widen_bfloat16<Arch>(from + i * bytes, Arch{});
    } else {
      return widen_float16<Arch>(from + i * bytes, Arch{});
    }
  });
}

template <class Arch, LogitFormat format>
constexpr bool can_widen() noexcept {
  if constexpr (std::is_same_v<Arch, ScalarArch>) {
    return false;
  } else if constexpr (format == LogitFormat::float16) {
    return requires(const void* from) {
      widen_float16<Arch>(from, Arch{});
    };
  } else {
    return true;
  }
}

/// Rows of numbers of 16 bits, `stride` of them apart, as rows of floats side by side, and whatever
/// in the 15 places after the last one. False, and nothing done, if Arch has no vectors for it.
template <class Arch, LogitFormat format>
FDROUTE_KERNEL bool widen_rows(const std::byte* rows, std::ptrdiff_t stride, std::ptrdiff_t tokens,
                               int experts, float* to) noexcept {
  if constexpr (can_widen<Arch, format>()) {
    for (std::ptrdiff_t token = 0; token < tokens; ++token, to += experts) {
      const std::byte* row = rows + 2 * stride * token;
      int i = 0;
      for (; i + 16 <= experts; i += 16)
        widen_16<Arch, format>(row + std::ptrdiff_t{2} * i).store_anywhere(to + i);
      if (i == experts) continue;
      std::array<std::byte, 32> rest{};
      std::memcpy(rest.data(), row + std::ptrdiff_t{2} * i,
                  static_cast<std::size_t>(2 * (experts - i)));
      widen_16<Arch, format>(rest.data()).store_anywhere(to + i);
    }
    return true;
  } else {
    return false;
  }
}

template <class Arch>
bool widen_rows(LogitFormat format, const std::byte* rows, std::ptrdiff_t stride,
                std::ptrdiff_t tokens, int experts, float* to) noexcept {
  return format == LogitFormat::bfloat16
             ? widen_rows<Arch, LogitFormat::bfloat16>(rows, stride, tokens, experts, to)
             : widen_rows<Arch, LogitFormat::float16>(rows, stride, tokens, experts, to);
}

}  // namespace fdroute::inline v0::detail
