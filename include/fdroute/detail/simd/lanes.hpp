#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fdroute/detail/simd/compiler.hpp"
#include "fdroute/detail/simd/lane_types.hpp"
#include "fdroute/detail/simd/registers.hpp"

FDROUTE_BEGIN_INTRINSICS

// What is done with Lanes: a function of registers or numbers, on all of them.

namespace fdroute::inline v0::detail {

template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator+(const Lanes<T, Arch, n>& a,
                                           const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return add(a.part[i], b.part[i]); });
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator-(const Lanes<T, Arch, n>& a,
                                           const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return a.part[i] - b.part[i]; });
}
/// A rounded product: no sum that follows fuses with it, whatever the compiler may do.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator*(const Lanes<T, Arch, n>& a,
                                           const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return rounded(a.part[i] * b.part[i]); });
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> product(const Lanes<T, Arch, n>& a,
                                         const Lanes<T, Arch, n>& b) noexcept {
  return a * b;
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator/(const Lanes<T, Arch, n>& a,
                                           const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return a.part[i] / b.part[i]; });
}
template <class Arch, std::size_t n>
FDROUTE_INLINE Doubles<Arch, n> square_root(const Doubles<Arch, n>& x) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED { return square_root(x.part[i]); });
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE LaneMask<T, Arch, n> operator>(const Lanes<T, Arch, n>& a,
                                              const Lanes<T, Arch, n>& b) noexcept {
  return LaneMask<T, Arch, n>::generate([&](std::size_t i)
                                            FDROUTE_INLINED { return a.part[i] > b.part[i]; });
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE LaneMask<T, Arch, n> operator>=(const Lanes<T, Arch, n>& a,
                                               const Lanes<T, Arch, n>& b) noexcept {
  return LaneMask<T, Arch, n>::generate([&](std::size_t i)
                                            FDROUTE_INLINED { return a.part[i] >= b.part[i]; });
}

template <class T, class Arch, std::size_t n>
FDROUTE_INLINE LaneMask<T, Arch, n> operator<=(const Lanes<T, Arch, n>& a,
                                               const Lanes<T, Arch, n>& b) noexcept {
  return LaneMask<T, Arch, n>::generate([&](std::size_t i)
                                            FDROUTE_INLINED { return a.part[i] <= b.part[i]; });
}
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE LaneMask<T, Arch, n> operator==(const Lanes<T, Arch, n>& a,
                                               const Lanes<T, Arch, n>& b) noexcept {
  return LaneMask<T, Arch, n>::generate([&](std::size_t i)
                                            FDROUTE_INLINED { return a.part[i] == b.part[i]; });
}

/// The larger numbers; of -0 and +0, either.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> larger(const Lanes<T, Arch, n>& a,
                                        const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return larger(a.part[i], b.part[i]); });
}

/// The smaller numbers; of -0 and +0, either.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> smaller(const Lanes<T, Arch, n>& a,
                                         const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return smaller(a.part[i], b.part[i]); });
}

/// x * y + z for an exact product.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> add_exact_product(const Lanes<T, Arch, n>& x,
                                                   const Lanes<T, Arch, n>& y,
                                                   const Lanes<T, Arch, n>& z) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED {
    return add_exact_product(x.part[i], y.part[i], z.part[i]);
  });
}

template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> choose(const LaneMask<T, Arch, n>& mask,
                                        const Lanes<T, Arch, n>& yes,
                                        const Lanes<T, Arch, n>& no) noexcept {
  return yes.generate(
      [&](std::size_t i) FDROUTE_INLINED { return choose(mask.part[i], yes.part[i], no.part[i]); });
}

/// counts + 1 where `mask` holds.
template <class Arch, std::size_t n>
FDROUTE_INLINE Lanes<std::int32_t, Arch, n> count_where(
    const LaneMask<std::int32_t, Arch, n>& mask,
    const Lanes<std::int32_t, Arch, n>& counts) noexcept {
  return counts.generate([&](std::size_t i)
                             FDROUTE_INLINED { return count_where(mask.part[i], counts.part[i]); });
}

/// table[i mod 8].
template <class Arch, std::size_t n>
FDROUTE_INLINE Lanes<std::uint32_t, Arch, n> look_up(
    const Table8& table, const Lanes<std::uint32_t, Arch, n>& i) noexcept {
  return i.generate([&](std::size_t part) FDROUTE_INLINED { return look_up(table, i.part[part]); });
}

template <std::unsigned_integral T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator<<(const Lanes<T, Arch, n>& x, int by) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED { return x.part[i] << by; });
}
template <std::unsigned_integral T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator>>(const Lanes<T, Arch, n>& x, int by) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED { return x.part[i] >> by; });
}

template <class Arch, std::size_t n>
FDROUTE_INLINE Lanes<std::uint32_t, Arch, n> bits_of(const Floats<Arch, n>& x) noexcept {
  return Lanes<std::uint32_t, Arch, n>::generate(
      [&](std::size_t i) FDROUTE_INLINED { return bits_of(x.part[i]); });
}
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> float_of(const Lanes<std::uint32_t, Arch, n>& bits) noexcept {
  return Floats<Arch, n>::generate([&](std::size_t i)
                                       FDROUTE_INLINED { return float_of(bits.part[i]); });
}
template <class Arch, std::size_t n>
FDROUTE_INLINE Lanes<std::uint64_t, Arch, n> bits_of(const Doubles<Arch, n>& x) noexcept {
  return Lanes<std::uint64_t, Arch, n>::generate(
      [&](std::size_t i) FDROUTE_INLINED { return bits_of(x.part[i]); });
}
template <class Arch, std::size_t n>
FDROUTE_INLINE Doubles<Arch, n> double_of(const Lanes<std::uint64_t, Arch, n>& bits) noexcept {
  return Doubles<Arch, n>::generate([&](std::size_t i)
                                        FDROUTE_INLINED { return double_of(bits.part[i]); });
}

/// x * factor where `mask` holds, else 0. Not to be added to anything.
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> multiply_where(const LaneMask<float, Arch, n>& mask,
                                              const Floats<Arch, n>& x,
                                              const Floats<Arch, n>& factor) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED {
    return multiply_where(mask.part[i], x.part[i], factor.part[i]);
  });
}

/// x * factor in the lanes whose bit is set, else 0. Not to be added to anything.
template <class Arch>
FDROUTE_INLINE Floats<Arch> multiply_by_bits(std::uint32_t bits, const Floats<Arch>& x,
                                             const Floats<Arch>& factor) noexcept {
  return x.generate([&](std::size_t i) FDROUTE_INLINED {
    return multiply_by_bits(bits >> (i * x.width), x.part[i], factor.part[i]);
  });
}

/// Integers that compare as the numbers do, -0 = +0; none is NaN.
template <class Arch, std::size_t n>
FDROUTE_INLINE Lanes<std::int32_t, Arch, n> ordered(const Floats<Arch, n>& x) noexcept {
  Lanes<std::int32_t, Arch, n> result;
  unrolled<result.parts>([&](std::size_t i)
                             FDROUTE_INLINED { result.part[i] = ordered(x.part[i]); });
  return result;
}

/// The inverse of ordered(), +0 of 0.
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> from_ordered(const Lanes<std::int32_t, Arch, n>& x) noexcept {
  return Floats<Arch, n>::generate([&](std::size_t i)
                                       FDROUTE_INLINED { return from_ordered(x.part[i]); });
}

/// row[ids[i]] for ids in [0, 64).
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> pick(const float* row,
                                    const Lanes<std::int32_t, Arch, n>& ids) noexcept {
  return Floats<Arch, n>::generate([&](std::size_t i)
                                       FDROUTE_INLINED { return pick(row, ids.part[i]); });
}

/// row[ids[i]].
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> gather(const float* row,
                                      const Lanes<std::int32_t, Arch, n>& ids) noexcept {
  return Floats<Arch, n>::generate([&](std::size_t i)
                                       FDROUTE_INLINED { return gather(row, ids.part[i]); });
}

/// The records of 16 ids, a field of all of them together.
template <class Arch>
FDROUTE_INLINE Fields<Doubles<Arch>> pick_records(const Record* table,
                                                  const std::uint32_t* ids) noexcept {
  using Lane = Doubles<Arch>;
  Fields<Lane> fields;
  unrolled<Lane::parts>([&](std::size_t i) FDROUTE_INLINED {
    const auto part = pick_records<typename Lane::Register>(table, ids + i * Lane::width, Arch{});
    unrolled<4>([&](std::size_t f) FDROUTE_INLINED { fields.field[f].part[i] = part.field[f]; });
  });
  return fields;
}

/// Every lane as a double.
template <class Arch>
FDROUTE_INLINE Doubles<Arch> widen(const Floats<Arch>& x) noexcept {
  Doubles<Arch> result;
  unrolled<Floats<Arch>::parts>([&](std::size_t i) FDROUTE_INLINED {
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

/// Every lane as a float.
template <class Arch>
FDROUTE_INLINE Floats<Arch> narrow(const Doubles<Arch>& x) noexcept {
  return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
    if constexpr (std::is_same_v<Arch, ScalarArch>) {
      return static_cast<float>(x.part[i]);
    } else {
      return narrow(x.part[2 * i], x.part[2 * i + 1]);
    }
  });
}

/// Half as many lanes: lane j combined with lane j + n / 2.
template <class T, class Arch, std::size_t n, class Combine>
FDROUTE_INLINE Lanes<T, Arch, n / 2> fold(const Lanes<T, Arch, n>& x,
                                          const Combine& combine) noexcept {
  return Lanes<T, Arch, n / 2>::generate(
      [&](std::size_t i) FDROUTE_INLINED { return combine(x.part[i], x.part[i + x.parts / 2]); });
}

/// The largest lane. Folds the lanes in halves: lane j with lane j + n / 2, then with j + n / 4,
/// ... and j + 1.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE T largest(const Lanes<T, Arch, n>& x) noexcept {
  if constexpr (Lanes<T, Arch, n>::parts > 1) {
    return largest(
        fold(x, [](const auto& a, const auto& b) FDROUTE_INLINED { return larger(a, b); }));
  } else {
    return largest_of(x.part[0]);
  }
}

/// The sum of the lanes, folded in the order of largest().
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE T sum(const Lanes<T, Arch, n>& x) noexcept {
  using Register = RegisterOf<T, Arch>;
  if constexpr (Lanes<T, Arch, n>::parts > 1) {
    return sum(fold(
        x, [](const Register& a, const Register& b) FDROUTE_INLINED -> Register { return a + b; }));
  } else {
    return sum_of(x.part[0]);
  }
}

}  // namespace fdroute::inline v0::detail

FDROUTE_END_INTRINSICS
