#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/registers.hpp"

namespace fdroute::inline v0::detail {

/// body(0), ..., body(n - 1), with no loop left at any level of optimisation.
template <std::size_t n, class Body>
FDROUTE_INLINE void unrolled(const Body& body) noexcept {
  [&]<std::size_t... I>(std::index_sequence<I...>) FDROUTE_INLINED {
    (body(I), ...);
  }
  (std::make_index_sequence<n>{});
}

/// 0, 1, 2 ...
alignas(64) inline constexpr std::array<std::int32_t, 64> lane_numbers = [] {
  std::array<std::int32_t, 64> numbers{};
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}();

/// n numbers, 8 or a multiple of 16, in as many registers as Arch needs for them.
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
  FDROUTE_INLINE explicit Lanes(T value) noexcept { part.fill(Register(value)); }

  /// `from` is aligned to 64 bytes, as is `to` below.
  static FDROUTE_INLINE Lanes load(const T* from) noexcept {
    return generate([&](std::size_t i)
                        FDROUTE_INLINED { return load_aligned<Register>(from + i * width); });
  }
  static FDROUTE_INLINE Lanes load_anywhere(const T* from) noexcept {
    return generate([&](std::size_t i)
                        FDROUTE_INLINED { return load_unaligned<Register>(from + i * width); });
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
    if constexpr (requires { store_lanes(part[0], count, to, Arch{}); }) {
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
    unrolled<parts>([&](std::size_t i) FDROUTE_INLINED { result.part[i] = make(i); });
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
    unrolled<parts>([&](std::size_t i) FDROUTE_INLINED { result.part[i] = make(i); });
    return result;
  }
};

template <class Arch, std::size_t n = 16>
using Floats = Lanes<float, Arch, n>;
template <class Arch>
using Doubles = Lanes<double, Arch>;
template <class Arch>
using Ints = Lanes<std::int32_t, Arch>;

template <class T, class Arch, std::size_t n>
FDROUTE_INLINE Lanes<T, Arch, n> operator+(const Lanes<T, Arch, n>& a,
                                           const Lanes<T, Arch, n>& b) noexcept {
  return a.generate([&](std::size_t i) FDROUTE_INLINED { return a.part[i] + b.part[i]; });
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
template <class Arch>
FDROUTE_INLINE Doubles<Arch> square_root(const Doubles<Arch>& x) noexcept {
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
template <class Arch>
FDROUTE_INLINE Lanes<std::uint64_t, Arch> bits_of(const Doubles<Arch>& x) noexcept {
  return Lanes<std::uint64_t, Arch>::generate([&](std::size_t i)
                                                  FDROUTE_INLINED { return bits_of(x.part[i]); });
}
template <class Arch>
FDROUTE_INLINE Doubles<Arch> double_of(const Lanes<std::uint64_t, Arch>& bits) noexcept {
  return Doubles<Arch>::generate([&](std::size_t i)
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

/// row[ids[i]] for ids in [0, 64).
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> pick(const float* row,
                                    const Lanes<std::int32_t, Arch, n>& ids) noexcept {
  return Floats<Arch, n>::generate([&](std::size_t i)
                                       FDROUTE_INLINED { return pick(row, ids.part[i]); });
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

/// The same numbers in double.
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

/// Half as many lanes: lane j combined with lane j + n / 2.
template <class T, class Arch, std::size_t n, class Combine>
FDROUTE_INLINE Lanes<T, Arch, n / 2> halved(const Lanes<T, Arch, n>& x,
                                            const Combine& combine) noexcept {
  return Lanes<T, Arch, n / 2>::generate(
      [&](std::size_t i) FDROUTE_INLINED { return combine(x.part[i], x.part[i + x.parts / 2]); });
}

/// Folds the lanes in halves: lane j with lane j + n / 2, then with j + n / 4, ... and j + 1.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE T largest(const Lanes<T, Arch, n>& x) noexcept {
  if constexpr (Lanes<T, Arch, n>::parts > 1) {
    return largest(
        halved(x, [](const auto& a, const auto& b) FDROUTE_INLINED { return larger(a, b); }));
  } else {
    return largest_of(x.part[0]);
  }
}

/// Likewise.
template <class T, class Arch, std::size_t n>
FDROUTE_INLINE T sum(const Lanes<T, Arch, n>& x) noexcept {
  using Register = RegisterOf<T, Arch>;
  if constexpr (Lanes<T, Arch, n>::parts > 1) {
    return sum(halved(
        x, [](const Register& a, const Register& b) FDROUTE_INLINED -> Register { return a + b; }));
  } else {
    return sum_of(x.part[0]);
  }
}

}  // namespace fdroute::inline v0::detail
