#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "fdroute/arch.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/detail/simd/compiler.hpp"

FDROUTE_BEGIN_INTRINSICS

// Plain numbers, the registers of ScalarArch, and what xsimd has under another name. registers.hpp
// is the header to include.

namespace fdroute::inline v0::detail {

/// What every Arch converts to, as it does to its bases: of functions that take an Arch last, the
/// one for AnyArch is called where no base of the Arch has one.
struct AnyArch {
  AnyArch() = default;
  template <class Arch>
  FDROUTE_INLINE AnyArch(const Arch&) noexcept {}  // NOLINT(google-explicit-constructor)
};

template <class T, class Arch>
struct Registers {
  using type = xsimd::batch<T, Arch>;
  using mask = xsimd::batch_bool<T, Arch>;
};
template <class T>
struct Registers<T, ScalarArch> {
  using type = T;
  using mask = bool;
};

template <class T, class Arch>
using RegisterOf = typename Registers<T, Arch>::type;
template <class T, class Arch>
using MaskOf = typename Registers<T, Arch>::mask;

/// A register for `lanes` floats at a time: an Arch's own, of `width`, unless that is wider and
/// there is a narrower one (x86.hpp).
template <std::size_t width, int lanes, class Arch>
struct NarrowRegister {
  using type = RegisterOf<float, Arch>;
};
template <int lanes, class Arch>
using RegisterOfAtMost =
    typename NarrowRegister<sizeof(RegisterOf<float, Arch>) / sizeof(float), lanes, Arch>::type;

// ---- Memory
// --------------------------------------------------------------------------------------

template <class Register, class T>
FDROUTE_INLINE Register load_aligned(const T* from) noexcept {
  if constexpr (std::is_same_v<Register, T>) {
    return *from;
  } else {
    return Register::load_aligned(from);
  }
}

template <class Register, class T>
FDROUTE_INLINE Register load_unaligned(const T* from) noexcept {
  if constexpr (std::is_same_v<Register, T>) {
    return *from;
  } else {
    return Register::load_unaligned(from);
  }
}

template <class T>
FDROUTE_INLINE void store_aligned(T x, T* to) noexcept {
  *to = x;
}
template <class T, class Arch>
FDROUTE_INLINE void store_aligned(const xsimd::batch<T, Arch>& x, T* to) noexcept {
  x.store_aligned(to);
}

template <class T>
FDROUTE_INLINE void store_unaligned(T x, T* to) noexcept {
  *to = x;
}
template <class T, class Arch>
FDROUTE_INLINE void store_unaligned(const xsimd::batch<T, Arch>& x, T* to) noexcept {
  x.store_unaligned(to);
}

// ---- Arithmetic
// ----------------------------------------------------------------------------------

/// The bits of x as numbers of another type. xsimd's own takes the type of the result up to version
/// 10, of its lanes from 11 on.
template <class To, class From, class Arch>
FDROUTE_INLINE xsimd::batch<To, Arch> cast_bits(const xsimd::batch<From, Arch>& x) noexcept {
  using Lanes = xsimd::batch<To, Arch>;
  return xsimd::bitwise_cast<std::conditional_t<(XSIMD_VERSION_MAJOR < 11), Lanes, To>>(x);
}
FDROUTE_INLINE std::uint32_t bits_of(float x) noexcept {
  return std::bit_cast<std::uint32_t>(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> bits_of(
    const xsimd::batch<float, Arch>& x) noexcept {
  return cast_bits<std::uint32_t>(x);
}
FDROUTE_INLINE std::uint64_t bits_of(double x) noexcept {
  return std::bit_cast<std::uint64_t>(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint64_t, Arch> bits_of(
    const xsimd::batch<double, Arch>& x) noexcept {
  return cast_bits<std::uint64_t>(x);
}
FDROUTE_INLINE double double_of(std::uint64_t bits) noexcept {
  return std::bit_cast<double>(bits);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<double, Arch> double_of(
    const xsimd::batch<std::uint64_t, Arch>& bits) noexcept {
  return cast_bits<double>(bits);
}
FDROUTE_INLINE float float_of(std::uint32_t bits) noexcept {
  return std::bit_cast<float>(bits);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> float_of(
    const xsimd::batch<std::uint32_t, Arch>& bits) noexcept {
  return cast_bits<float>(bits);
}

/// Returns x, whose value the optimiser does not know: a product that passes through is rounded and
/// cannot be fused into a multiply-add.
#if defined(FDROUTE_FLOATS)
template <std::floating_point T>
FDROUTE_INLINE T rounded(T x) noexcept {
  FDROUTE_HIDE(FDROUTE_FLOATS, x);
  return x;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> rounded(const xsimd::batch<T, Arch>& x) noexcept {
  auto native = static_cast<typename xsimd::batch<T, Arch>::register_type>(x);
  FDROUTE_HIDE(FDROUTE_FLOATS, native);
  return native;
}
#else
inline const volatile std::uint32_t opaque_zero = 0;
FDROUTE_INLINE float rounded(float x) noexcept {
  return float_of(bits_of(x) ^ opaque_zero);
}
FDROUTE_INLINE double rounded(double x) noexcept {
  return double_of(bits_of(x) ^ opaque_zero);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> rounded(const xsimd::batch<float, Arch>& x) noexcept {
  return float_of(bits_of(x) ^ xsimd::batch<std::uint32_t, Arch>(opaque_zero));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<double, Arch> rounded(const xsimd::batch<double, Arch>& x) noexcept {
  return double_of(bits_of(x) ^ xsimd::batch<std::uint64_t, Arch>(opaque_zero));
}
#endif

/// A rounded product.
FDROUTE_INLINE double product(double x, double y) noexcept {
  return rounded(x * y);
}

FDROUTE_INLINE double square_root(double x) noexcept {
  return std::sqrt(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<double, Arch> square_root(
    const xsimd::batch<double, Arch>& x) noexcept {
  return xsimd::sqrt(x);
}

/// The larger number, or the smaller one; the second, if one is NaN.
template <std::floating_point T>
FDROUTE_INLINE T larger(T a, T b) noexcept {
  return a > b ? a : b;
}
template <std::floating_point T>
FDROUTE_INLINE T smaller(T a, T b) noexcept {
  return a < b ? a : b;
}

/// x * y + z for an exact product: fused or not, the result is the same.
template <std::floating_point T>
FDROUTE_INLINE T add_exact_product(T x, T y, T z) noexcept {
  return x * y + z;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> add_exact_product(const xsimd::batch<T, Arch>& x,
                                                       const xsimd::batch<T, Arch>& y,
                                                       const xsimd::batch<T, Arch>& z) noexcept {
  return xsimd::fma(x, y, z);
}

template <class T>
FDROUTE_INLINE T choose(bool mask, T yes, T no) noexcept {
  return mask ? yes : no;
}
template <std::floating_point T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> choose(const xsimd::batch_bool<T, Arch>& mask,
                                            const xsimd::batch<T, Arch>& yes,
                                            const xsimd::batch<T, Arch>& no) noexcept {
  return xsimd::select(mask, yes, no);
}

/// table[i mod 8], of 8 entries that stand there twice, aligned to 64 bytes.
using Table8 = std::uint32_t[16];
FDROUTE_INLINE std::uint32_t look_up(const Table8& table, std::uint32_t i) noexcept {
  return table[i & 7U];
}

/// x * factor where `mask` holds, else 0.
FDROUTE_INLINE float multiply_where(bool mask, float x, float factor) noexcept {
  return mask ? x * factor : 0.0F;
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> multiply_where(
    const xsimd::batch_bool<float, Arch>& mask, const xsimd::batch<float, Arch>& x,
    const xsimd::batch<float, Arch>& factor) noexcept {
  return choose(mask, x * factor, xsimd::batch<float, Arch>(0.0F));
}

/// a + b; of integers modulo 2^32, as registers add them.
template <class T>
FDROUTE_INLINE T add(const T& a, const T& b) noexcept {
  if constexpr (std::is_same_v<T, std::int32_t>)
    return static_cast<T>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  else
    return a + b;
}

/// counts + 1 where `mask` holds.
FDROUTE_INLINE std::int32_t count_where(bool mask, std::int32_t counts) noexcept {
  return counts + (mask ? 1 : 0);
}

/// x * factor in the lanes whose bit is set in `bits`, else 0.
FDROUTE_INLINE float multiply_by_bits(std::uint32_t bits, float x, float factor) noexcept {
  return (bits & 1U) != 0 ? x * factor : 0.0F;
}

/// The binary16 whose bits are the upper halves of these lanes', as floats; NaN stays NaN.
///
/// In the places of a float's, a half's bits are its value times 2^-112, subnormal or not, and the
/// product with 2^112 is exact. The exponent of infinities and NaN is then that of 2^16, beyond
/// all finite halves, and becomes the largest one.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> float16_in_upper_half(
    const xsimd::batch<float, Arch>& x) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  using Float = xsimd::batch<float, Arch>;
  const Int bits = cast_bits<std::int32_t>(x);
  const Int magnitude = bits & Int(0x7FFF'0000);
  const Float scaled = cast_bits<float>(magnitude >> 3) * Float(0x1p112F);
  const Int beyond = xsimd::bitwise_cast(magnitude > Int(0x7BFF'0000)) & Int(0x7F80'0000);
  return cast_bits<float>(cast_bits<std::int32_t>(scaled) | beyond | (bits ^ magnitude));
}

/// ordered() of a register (detail/number/total_order.hpp); none is NaN.
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> ordered(
    const xsimd::batch<float, Arch>& x) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  const auto bits = cast_bits<std::int32_t>(x);
  const Int sign = bits >> 31;
  return (bits ^ (sign & Int(0x7FFF'FFFF))) - sign;
}

/// The inverse of ordered(), +0 of 0.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> from_ordered(
    const xsimd::batch<std::int32_t, Arch>& x) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  const Int sign = x >> 31;
  return cast_bits<float>((x + sign) ^ (sign & Int(0x7FFF'FFFF)));
}

/// The largest lane, and the sum of the lanes, folded in halves as Lanes are.
FDROUTE_INLINE float largest_of(float x) noexcept {
  return x;
}
FDROUTE_INLINE double largest_of(double x) noexcept {
  return x;
}
FDROUTE_INLINE double sum_of(double x) noexcept {
  return x;
}

/// Bit j tells of lane j.
FDROUTE_INLINE std::uint32_t mask_bits(bool mask) noexcept {
  return mask ? 1U : 0U;
}

/// row[ids[i]] for ids in [0, 64).
FDROUTE_INLINE float pick(const float* row, std::int32_t id) noexcept {
  return row[id];
}

/// row[id].
FDROUTE_INLINE float gather(const float* row, std::int32_t id) noexcept {
  return row[id];
}

template <class Arch>
struct WidePair {
  xsimd::batch<double, Arch> low;
  xsimd::batch<double, Arch> high;
};

/// Four numbers that are looked up together.
struct alignas(32) Record {
  double number[4];
};
template <class Register>
struct Fields {
  Register field[4];
};

/// The records of some ids, a field of all of them in one register.
template <class Register>
FDROUTE_INLINE Fields<double> pick_records(
    const Record* table, const std::uint32_t* ids,
    const AnyArch&) noexcept requires std::is_same_v<Register, double> {
  const double* x = table[*ids].number;
  return {{x[0], x[1], x[2], x[3]}};
}

}  // namespace fdroute::inline v0::detail

FDROUTE_END_INTRINSICS
