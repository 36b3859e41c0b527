#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/registers.hpp"

namespace fdroute::inline v0::detail {

/// body(0), ..., body(n - 1), with no loop left at any level of optimisation.
template <std::size_t n, class Body>
FDROUTE_INLINE void unrolled(const Body& body) noexcept {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (body(I), ...);
  }
  (std::make_index_sequence<n>{});
}

/// 16 numbers, in as many registers as Arch needs for them.
///
/// Kernels work on 16 lanes whatever the width of a register: a reduction over a row runs lane by
/// lane and then folds the lanes in halves, so that every Arch does the same operations in the same
/// order and gets the same bits.
template <class T, class Arch>
struct Lanes {
  using Register = RegisterOf<T, Arch>;
  static constexpr std::size_t width = sizeof(Register) / sizeof(T);
  static constexpr std::size_t size = 16;
  static constexpr std::size_t parts = size / width;

  std::array<Register, parts> part;

  Lanes() = default;
  FDROUTE_INLINE explicit Lanes(T value) noexcept { part.fill(Register(value)); }

  /// `from` is aligned to 64 bytes, as is `to` below.
  static FDROUTE_INLINE Lanes load(const T* from) noexcept {
    return generate([&](std::size_t i) { return load_aligned<Register>(from + i * width); });
  }
  static FDROUTE_INLINE Lanes load_anywhere(const T* from) noexcept {
    return generate([&](std::size_t i) { return load_unaligned<Register>(from + i * width); });
  }
  FDROUTE_INLINE void store(T* to) const noexcept {
    unrolled<parts>([&](std::size_t i) { store_aligned(part[i], to + i * width); });
  }
  FDROUTE_INLINE void store_anywhere(T* to) const noexcept {
    unrolled<parts>([&](std::size_t i) { store_unaligned(part[i], to + i * width); });
  }

  template <class Make>
  static FDROUTE_INLINE Lanes generate(const Make& make) noexcept {
    Lanes result;
    unrolled<parts>([&](std::size_t i) { result.part[i] = make(i); });
    return result;
  }
};

/// Which of the 16 lanes a comparison holds for.
template <class T, class Arch>
struct LaneMask {
  using Register = MaskOf<T, Arch>;
  static constexpr std::size_t parts = Lanes<T, Arch>::parts;

  std::array<Register, parts> part;

  /// Bit j tells of lane j.
  FDROUTE_INLINE std::uint32_t bits() const noexcept {
    std::uint32_t all = 0;
    unrolled<parts>(
        [&](std::size_t i) { all |= mask_bits(part[i]) << (i * Lanes<T, Arch>::width); });
    return all;
  }

  template <class Make>
  static FDROUTE_INLINE LaneMask generate(const Make& make) noexcept {
    LaneMask result;
    unrolled<parts>([&](std::size_t i) { result.part[i] = make(i); });
    return result;
  }
};

template <class Arch>
using Floats = Lanes<float, Arch>;
template <class Arch>
using Doubles = Lanes<double, Arch>;

template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> operator+(const Lanes<T, Arch>& a, const Lanes<T, Arch>& b) noexcept {
  return a.generate([&](std::size_t i) { return a.part[i] + b.part[i]; });
}
template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> operator-(const Lanes<T, Arch>& a, const Lanes<T, Arch>& b) noexcept {
  return a.generate([&](std::size_t i) { return a.part[i] - b.part[i]; });
}
/// A rounded product: no sum that follows fuses with it, whatever the compiler may do.
template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> operator*(const Lanes<T, Arch>& a, const Lanes<T, Arch>& b) noexcept {
  return a.generate([&](std::size_t i) { return rounded(a.part[i] * b.part[i]); });
}
template <class T, class Arch>
FDROUTE_INLINE LaneMask<T, Arch> operator>(const Lanes<T, Arch>& a,
                                           const Lanes<T, Arch>& b) noexcept {
  return LaneMask<T, Arch>::generate([&](std::size_t i) { return a.part[i] > b.part[i]; });
}
template <class T, class Arch>
FDROUTE_INLINE LaneMask<T, Arch> operator>=(const Lanes<T, Arch>& a,
                                            const Lanes<T, Arch>& b) noexcept {
  return LaneMask<T, Arch>::generate([&](std::size_t i) { return a.part[i] >= b.part[i]; });
}

/// The larger numbers; of -0 and +0, either.
template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> larger(const Lanes<T, Arch>& a, const Lanes<T, Arch>& b) noexcept {
  return a.generate([&](std::size_t i) { return larger(a.part[i], b.part[i]); });
}
template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> smaller(const Lanes<T, Arch>& a, const Lanes<T, Arch>& b) noexcept {
  return a.generate([&](std::size_t i) { return smaller(a.part[i], b.part[i]); });
}

/// x * y + z for an exact product.
template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> add_exact_product(const Lanes<T, Arch>& x, const Lanes<T, Arch>& y,
                                                const Lanes<T, Arch>& z) noexcept {
  return x.generate(
      [&](std::size_t i) { return add_exact_product(x.part[i], y.part[i], z.part[i]); });
}

template <class T, class Arch>
FDROUTE_INLINE Lanes<T, Arch> choose(const LaneMask<T, Arch>& mask, const Lanes<T, Arch>& yes,
                                     const Lanes<T, Arch>& no) noexcept {
  return yes.generate([&](std::size_t i) { return choose(mask.part[i], yes.part[i], no.part[i]); });
}

/// x * 2^n, rounded once, where `mask` holds, else 0; n holds integers in [-150, 0] there, x
/// numbers in [0.5, 2].
template <class Arch>
FDROUTE_INLINE Floats<Arch> scale(const LaneMask<float, Arch>& mask, const Floats<Arch>& x,
                                  const Floats<Arch>& n) noexcept {
  return x.generate([&](std::size_t i) { return scale(mask.part[i], x.part[i], n.part[i]); });
}

/// The same numbers in double.
template <class Arch>
FDROUTE_INLINE Doubles<Arch> widen(const Floats<Arch>& x) noexcept {
  Doubles<Arch> result;
  unrolled<Floats<Arch>::parts>([&](std::size_t i) {
    if constexpr (std::is_same_v<Arch, ScalarArch>) {
      result.part[i] = double{x.part[i]};
    } else {
      const auto wide = widen(x.part[i]);
      result.part[2 * i] = wide.low;
      result.part[2 * i + 1] = wide.high;
    }
  });
  return result;
}

/// Combines the lanes in halves: lane j with lane j + 8, then with j + 4, j + 2 and j + 1.
template <class T, class Arch, class Combine>
FDROUTE_INLINE T fold(Lanes<T, Arch> x, const Combine& combine) noexcept {
  using L = Lanes<T, Arch>;
  const auto halve = [&]<std::size_t half>(std::integral_constant<std::size_t, half>) {
    if constexpr (L::parts >= 2 * half)
      unrolled<half>([&](std::size_t i) { x.part[i] = combine(x.part[i], x.part[i + half]); });
  };
  halve(std::integral_constant<std::size_t, 8>{});
  halve(std::integral_constant<std::size_t, 4>{});
  halve(std::integral_constant<std::size_t, 2>{});
  halve(std::integral_constant<std::size_t, 1>{});
  return fold_register<T, L::width / 2>(x.part[0], combine);
}

template <class T, class Arch>
FDROUTE_INLINE T largest(const Lanes<T, Arch>& x) noexcept {
  return fold(x, [](const auto& a, const auto& b) { return larger(a, b); });
}

template <class T, class Arch>
FDROUTE_INLINE T sum(const Lanes<T, Arch>& x) noexcept {
  using Register = RegisterOf<T, Arch>;
  return fold(x, [](const Register& a, const Register& b) -> Register { return a + b; });
}

}  // namespace fdroute::inline v0::detail
