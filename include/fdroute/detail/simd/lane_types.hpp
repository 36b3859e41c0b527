#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/simd/compiler.hpp"
#include "fdroute/detail/simd/registers.hpp"

FDROUTE_BEGIN_INTRINSICS

namespace fdroute::inline v0::detail {

/// body(0), ..., body(n - 1), with no loop left at any level of optimisation. Written out: by an
/// index sequence, every body would cost the compiler one function more.
template <std::size_t n, class Body>
FDROUTE_INLINE void unrolled(const Body& body) noexcept {
  if constexpr (n > 0) body(std::size_t{0});
  if constexpr (n > 1) body(std::size_t{1});
  if constexpr (n > 2) body(std::size_t{2});
  if constexpr (n > 3) body(std::size_t{3});
  if constexpr (n > 4) body(std::size_t{4});
  if constexpr (n > 5) body(std::size_t{5});
  if constexpr (n > 6) body(std::size_t{6});
  if constexpr (n > 7) body(std::size_t{7});
  if constexpr (n > 8) body(std::size_t{8});
  if constexpr (n > 9) body(std::size_t{9});
  if constexpr (n > 10) body(std::size_t{10});
  if constexpr (n > 11) body(std::size_t{11});
  if constexpr (n > 12) body(std::size_t{12});
  if constexpr (n > 13) body(std::size_t{13});
  if constexpr (n > 14) body(std::size_t{14});
  if constexpr (n > 15) body(std::size_t{15});
  if constexpr (n > 16) unrolled<n - 16>([&](std::size_t i) FDROUTE_INLINED { body(i + 16); });
}

/// unrolled(), but a plain loop over registers of one number, ScalarArch's: unrolled, they are much
/// code and no faster.
template <std::size_t width, std::size_t parts, class Body>
FDROUTE_INLINE void each_part(const Body& body) noexcept {
  if constexpr (width == 1) {
    for (std::size_t i = 0; i < parts; ++i) body(i);
  } else {
    unrolled<parts>(body);
  }
}

/// 0, 1, 2 ...
alignas(64) inline constexpr std::array<std::int32_t, 64> lane_numbers = [] {
  std::array<std::int32_t, 64> numbers{};
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}();

/// 16 floats, the first n, 0 to 16, of which are +inf and the others -inf: the smaller of these and
/// a vector is that vector with -inf after its first n lanes.
FDROUTE_INLINE const float* first_lanes(int n) noexcept {
  static constexpr std::array<float, 32> table = [] {
    constexpr float inf = std::numeric_limits<float>::infinity();
    std::array<float, 32> both{};
    for (std::size_t i = 0; i < 32; ++i) both[i] = i < 16 ? inf : -inf;
    return both;
  }();
  return table.data() + (16 - n);
}

/// Whether Lanes::store_first() is one instruction.
template <class Arch>
inline constexpr bool stores_first = requires(const RegisterOf<float, Arch>& x, float* to) {
  store_lanes(x, 1, to, Arch{});
};

/// n numbers, 8, a multiple of 16 or a register of them, in as many registers as Arch needs for
/// them.
///
/// Kernels work on 16 lanes or more whatever the width of a register: a reduction over a row runs
/// lane by lane and then folds the lanes in halves, so that every Arch does the same operations in
/// the same order and gets the same bits. An operation is done on all registers before the next
/// one begins: 64 lanes keep a processor busy where 16 would wait for each result.
template <class T, class Arch, std::size_t n = 16>
struct Lanes {
  using Register = RegisterOf<T, Arch>;
  static constexpr std::size_t width = sizeof(Register) / sizeof(T);
  static constexpr std::size_t size = n;
  static constexpr std::size_t parts = size / width;

  std::array<Register, parts> part;

  Lanes() = default;
  FDROUTE_INLINE explicit Lanes(T value) noexcept {
    const Register all(value);
    each_part<width, parts>([&](std::size_t i) FDROUTE_INLINED { part[i] = all; });
  }

  /// `from` is aligned to 64 bytes, as is `to` below.
  static FDROUTE_INLINE Lanes load(const T* from) noexcept {
    return generate([&](std::size_t i)
                        FDROUTE_INLINED { return load_aligned<Register>(from + i * width); });
  }
  static FDROUTE_INLINE Lanes load_anywhere(const T* from) noexcept {
    return generate([&](std::size_t i)
                        FDROUTE_INLINED { return load_unaligned<Register>(from + i * width); });
  }

  /// The first `count` lanes; `rest` in the others. Where registers end with the lanes, or Arch has
  /// masks, not by way of memory, whose last store the load would wait for.
  static FDROUTE_INLINE Lanes load_first(const T* from, int count, T rest) noexcept {
    return generate([&](std::size_t i) FDROUTE_INLINED -> Register {
      const int here = count - static_cast<int>(i * width);
      if (here >= int{width}) return load_unaligned<Register>(from + i * width);
      if constexpr (requires { load_lanes(from, here, Register(rest), Arch{}); }) {
        return load_lanes(from, std::max(here, 0), Register(rest), Arch{});
      } else {
        if (here <= 0) return Register(rest);
        alignas(64) std::array<T, width> some;
        some.fill(rest);
        std::copy_n(from + i * width, here, some.begin());
        return load_aligned<Register>(some.data());
      }
    });
  }

  FDROUTE_INLINE void store(T* to) const noexcept {
    unrolled<parts>([&](std::size_t i) FDROUTE_INLINED { store_aligned(part[i], to + i * width); });
  }
  FDROUTE_INLINE void store_anywhere(T* to) const noexcept {
    unrolled<parts>([&](std::size_t i)
                        FDROUTE_INLINED { store_unaligned(part[i], to + i * width); });
  }

  /// The first `count` lanes.
  FDROUTE_INLINE void store_first(int count, T* to) const noexcept {
    if constexpr (stores_first<Arch>) {
      unrolled<parts>([&](std::size_t i) FDROUTE_INLINED {
        const auto from = static_cast<int>(i * width);
        store_lanes(part[i], std::clamp(count - from, 0, int{width}), to + from, Arch{});
      });
    } else {
      int i = 0;
      unrolled<parts>([&](std::size_t p) FDROUTE_INLINED {
        if (i + int{width} > count) return;
        store_unaligned(part[p], to + i);
        i += int{width};
      });
      if (i == count) return;
      alignas(64) std::array<T, size> all;
      store(all.data());
      for (; i < count; ++i) to[i] = all[static_cast<std::size_t>(i)];
    }
  }

  template <class Make>
  static FDROUTE_INLINE Lanes generate(const Make& make) noexcept {
    Lanes result;
    each_part<width, parts>([&](std::size_t i) FDROUTE_INLINED { result.part[i] = make(i); });
    return result;
  }
};

/// Which of the n lanes a comparison holds for; n <= 64.
template <class T, class Arch, std::size_t n = 16>
struct LaneMask {
  using Register = MaskOf<T, Arch>;
  static constexpr std::size_t parts = Lanes<T, Arch, n>::parts;

  std::array<Register, parts> part;

  /// Bit j tells of lane j.
  FDROUTE_INLINE std::uint64_t bits() const noexcept {
    if constexpr (requires { joined_bits(part[0], part[1], part[2], part[3], Arch{}); }) {
      if constexpr (parts == 4 && n == 64)
        return joined_bits(part[0], part[1], part[2], part[3], Arch{});
    }
    std::uint64_t all = 0;
    unrolled<parts>([&](std::size_t i) FDROUTE_INLINED {
      all |= std::uint64_t{mask_bits(part[i])} << (i * Lanes<T, Arch, n>::width);
    });
    return all;
  }

  FDROUTE_INLINE bool all() const noexcept {
    Register both = part[0];
    unrolled<parts - 1>([&](std::size_t i) FDROUTE_INLINED { both = both & part[i + 1]; });
    return mask_bits(both) == (std::uint64_t{1} << Lanes<T, Arch, n>::width) - 1;
  }

  template <class Make>
  static FDROUTE_INLINE LaneMask generate(const Make& make) noexcept {
    LaneMask result;
    each_part<Lanes<T, Arch, n>::width, parts>([&](std::size_t i)
                                                   FDROUTE_INLINED { result.part[i] = make(i); });
    return result;
  }
};

template <class Arch, std::size_t n = 16>
using Floats = Lanes<float, Arch, n>;
template <class Arch, std::size_t n = 16>
using Doubles = Lanes<double, Arch, n>;
template <class Arch>
using Ints = Lanes<std::int32_t, Arch>;

}  // namespace fdroute::inline v0::detail

FDROUTE_END_INTRINSICS
