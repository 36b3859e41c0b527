#pragma once

#include <cstdint>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/simd/avx512.hpp"
#include "fdroute/detail/simd/base.hpp"
#include "fdroute/detail/simd/compiler.hpp"
#include "fdroute/detail/simd/generic.hpp"
#include "fdroute/detail/simd/x86.hpp"

// The only headers with intrinsics: base, generic, x86, avx512. This one gives every function that
// has several implementations its public overload, which picks the best for its arguments' Arch.
// `batch<T, Arch>` and plain numbers, the registers of ScalarArch, have the same functions.

namespace fdroute::inline v0::detail {

/// The binary16 from `from` on, as floats; NaN stays NaN. Not in generic.hpp, for it
/// calls what has other forms.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_float16(const void* from, const AnyArch&) noexcept
    requires(!std::is_same_v<Arch, ScalarArch>) {
  return float16_in_upper_half(widen_bfloat16<Arch>(from, Arch{}));
}

/// The instructions on x86 for a maximum and a minimum give the second of two numbers that do not
/// compare. Others do not, and of two xsimd the one does and the other (14) does not.
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> larger(const xsimd::batch<T, Arch>& a,
                                            const xsimd::batch<T, Arch>& b) noexcept {
  using Native = typename xsimd::batch<T, Arch>::register_type;
  if constexpr (requires(Native x) { larger(x, x); }) {
    return larger(static_cast<Native>(a), static_cast<Native>(b));
  } else {
    return xsimd::select(a > b, a, b);
  }
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> smaller(const xsimd::batch<T, Arch>& a,
                                             const xsimd::batch<T, Arch>& b) noexcept {
  using Native = typename xsimd::batch<T, Arch>::register_type;
  if constexpr (requires(Native x) { smaller(x, x); }) {
    return smaller(static_cast<Native>(a), static_cast<Native>(b));
  } else {
    return xsimd::select(a < b, a, b);
  }
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(
    const Table8& table, const xsimd::batch<std::uint32_t, Arch>& i) noexcept {
  return look_up(table, i, Arch{});
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> choose(
    const xsimd::batch_bool<std::int32_t, Arch>& mask, const xsimd::batch<std::int32_t, Arch>& yes,
    const xsimd::batch<std::int32_t, Arch>& no) noexcept {
  return choose(mask, yes, no, Arch{});
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts) noexcept {
  return count_where(mask, counts, Arch{});
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> multiply_by_bits(
    std::uint32_t bits, const xsimd::batch<float, Arch>& x,
    const xsimd::batch<float, Arch>& factor) noexcept {
  return multiply_by_bits(bits, x, factor, Arch{});
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> pick(
    const float* row, const xsimd::batch<std::int32_t, Arch>& ids) noexcept {
  return pick(row, ids, Arch{});
}
template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask) noexcept {
  return mask_bits(mask, Arch{});
}
template <class T, class Arch>
FDROUTE_INLINE T largest_of(const xsimd::batch<T, Arch>& x) noexcept {
  return largest_of(x, Arch{});
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x) noexcept {
  return sum_of(x, Arch{});
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x) noexcept {
  return widen(x, Arch{});
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> narrow(const xsimd::batch<double, Arch>& low,
                                                const xsimd::batch<double, Arch>& high) noexcept {
  return narrow(low, high, Arch{});
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> gather(
    const float* row, const xsimd::batch<std::int32_t, Arch>& ids) noexcept {
  return gather(row, ids, Arch{});
}

}  // namespace fdroute::inline v0::detail
