#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "fdroute/arch.hpp"

// The only file that knows registers: what xsimd 8.1 lacks, in intrinsics where they pay, always
// with a generic twin. `batch<T, Arch>` and plain numbers (ScalarArch) have the same functions.

// Kernels are short and their arguments are registers: a call would cost more than most of them.
#define FDROUTE_INLINE __attribute__((always_inline)) inline

namespace fdroute::inline v0::detail {

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

template <std::floating_point T>
FDROUTE_INLINE void store_aligned(T x, T* to) noexcept {
  *to = x;
}
template <class T, class Arch>
FDROUTE_INLINE void store_aligned(const xsimd::batch<T, Arch>& x, T* to) noexcept {
  x.store_aligned(to);
}

template <std::floating_point T>
FDROUTE_INLINE void store_unaligned(T x, T* to) noexcept {
  *to = x;
}
template <class T, class Arch>
FDROUTE_INLINE void store_unaligned(const xsimd::batch<T, Arch>& x, T* to) noexcept {
  x.store_unaligned(to);
}

// ---- Arithmetic
// ----------------------------------------------------------------------------------

/// x as it stands. What the compiler cannot see through it cannot fuse: a product that has passed
/// here is rounded before it is added.
template <class T>
FDROUTE_INLINE T rounded(T x) noexcept {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> rounded(const xsimd::batch<T, Arch>& x) noexcept {
  return rounded(static_cast<typename xsimd::batch<T, Arch>::register_type>(x));
}

template <std::floating_point T>
FDROUTE_INLINE T larger(T a, T b) noexcept {
  return a > b ? a : b;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> larger(const xsimd::batch<T, Arch>& a,
                                            const xsimd::batch<T, Arch>& b) noexcept {
  return xsimd::max(a, b);
}

template <std::floating_point T>
FDROUTE_INLINE T smaller(T a, T b) noexcept {
  return a < b ? a : b;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> smaller(const xsimd::batch<T, Arch>& a,
                                             const xsimd::batch<T, Arch>& b) noexcept {
  return xsimd::min(a, b);
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

template <std::floating_point T>
FDROUTE_INLINE T choose(bool mask, T yes, T no) noexcept {
  return mask ? yes : no;
}
template <class T, class Arch>
FDROUTE_INLINE xsimd::batch<T, Arch> choose(const xsimd::batch_bool<T, Arch>& mask,
                                            const xsimd::batch<T, Arch>& yes,
                                            const xsimd::batch<T, Arch>& no) noexcept {
  return xsimd::select(mask, yes, no);
}

/// x * 2^n, rounded once, where `mask` holds, else 0; n an integer in [-150, 0], x in [0.5, 2]. In
/// two factors: where 2^n itself lies below float's range, the product, a subnormal, need not.
FDROUTE_INLINE float scale(bool mask, float x, float n) noexcept {
  if (!mask) return 0.0F;
  const float first = larger(n, -100.0F);
  const auto power = [](float e) {
    return std::bit_cast<float>((static_cast<std::int32_t>(e) + 127) << 23);
  };
  return x * power(first) * power(n - first);
}

// ---- What xsimd 8.1 lacks
// ------------------------------------------------------------------------ Each function has a
// generic form, for any Arch, and forms in intrinsics where these are better. The last argument, an
// Arch, chooses: of its bases, the nearest with a form of its own.

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> scale(const xsimd::batch_bool<float, Arch>& mask,
                                               const xsimd::batch<float, Arch>& x,
                                               const xsimd::batch<float, Arch>& n,
                                               const xsimd::generic&) noexcept {
  using Float = xsimd::batch<float, Arch>;
  const Float first = larger(n, Float(-100.0F));
  const auto power = [](const Float& e) {
    return xsimd::bitwise_cast<Float>((xsimd::to_int(e) + 127) << 23);
  };
  return choose(mask, x * power(first) * power(n - first), Float(0.0F));
}

/// Bit j tells of lane j.
FDROUTE_INLINE std::uint32_t mask_bits(bool mask) noexcept {
  return mask ? 1U : 0U;
}
template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask,
                                       const xsimd::generic&) noexcept {
  bool lane[mask.size];
  mask.store_unaligned(lane);
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < mask.size; ++i) bits |= (lane[i] ? 1U : 0U) << i;
  return bits;
}

/// Lane 0.
template <class T, class Arch>
FDROUTE_INLINE T first_lane(const xsimd::batch<T, Arch>& x, const xsimd::generic&) noexcept {
  return x.get(0);
}

template <class Arch>
struct WidePair {
  xsimd::batch<double, Arch> low;
  xsimd::batch<double, Arch> high;
};

/// The lower and the upper half of the lanes, in double.
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::generic&) noexcept {
  using Double = xsimd::batch<double, Arch>;
  float lane[x.size];
  x.store_unaligned(lane);
  double wide[x.size];
  for (std::size_t i = 0; i < x.size; ++i) wide[i] = double{lane[i]};
  return {Double::load_unaligned(wide), Double::load_unaligned(wide + Double::size)};
}

/// Writes the numbers j of the bits set in `bits`, plus `base`, and the values[j], in ascending
/// order of j. It may write up to 16 places of each, whatever the number of bits.
FDROUTE_INLINE void compress(std::uint32_t bits, std::int32_t base, const float* values,
                             std::int32_t* to_ids, float* to_values,
                             const xsimd::generic&) noexcept {
  for (; bits != 0; bits &= bits - 1) {
    const int j = std::countr_zero(bits);
    *to_ids++ = base + j;
    *to_values++ = values[j];
  }
}

#if XSIMD_WITH_SSE2
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<float, Arch>& mask,
                                       const xsimd::sse2&) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_ps(mask));
}
template <class Arch>
FDROUTE_INLINE float first_lane(const xsimd::batch<float, Arch>& x, const xsimd::sse2&) noexcept {
  return _mm_cvtss_f32(x);
}
template <class Arch>
FDROUTE_INLINE double first_lane(const xsimd::batch<double, Arch>& x, const xsimd::sse2&) noexcept {
  return _mm_cvtsd_f64(x);
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::sse2&) noexcept {
  return {_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))};
}
#endif

#if XSIMD_WITH_AVX
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<float, Arch>& mask,
                                       const xsimd::avx&) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(mask));
}
template <class Arch>
FDROUTE_INLINE float first_lane(const xsimd::batch<float, Arch>& x, const xsimd::avx&) noexcept {
  return _mm256_cvtss_f32(x);
}
template <class Arch>
FDROUTE_INLINE double first_lane(const xsimd::batch<double, Arch>& x, const xsimd::avx&) noexcept {
  return _mm256_cvtsd_f64(x);
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::avx&) noexcept {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
#endif

#if XSIMD_WITH_AVX512F
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> scale(const xsimd::batch_bool<float, Arch>& mask,
                                               const xsimd::batch<float, Arch>& x,
                                               const xsimd::batch<float, Arch>& n,
                                               const xsimd::avx512f&) noexcept {
  return _mm512_maskz_scalef_ps(mask, x, n);
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<float, Arch>& mask,
                                       const xsimd::avx512f&) noexcept {
  return std::uint32_t{static_cast<__mmask16>(mask)};
}
template <class Arch>
FDROUTE_INLINE float first_lane(const xsimd::batch<float, Arch>& x,
                                const xsimd::avx512f&) noexcept {
  return _mm512_cvtss_f32(x);
}
template <class Arch>
FDROUTE_INLINE double first_lane(const xsimd::batch<double, Arch>& x,
                                 const xsimd::avx512f&) noexcept {
  return _mm512_cvtsd_f64(x);
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::avx512f&) noexcept {
  const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(x), 1);
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm256_castpd_ps(high))};
}
FDROUTE_INLINE void compress(std::uint32_t bits, std::int32_t base, const float* values,
                             std::int32_t* to_ids, float* to_values,
                             const xsimd::avx512f&) noexcept {
  const auto mask = static_cast<__mmask16>(bits);
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i id = _mm512_add_epi32(_mm512_set1_epi32(base), step);
  _mm512_storeu_si512(to_ids, _mm512_maskz_compress_epi32(mask, id));
  _mm512_storeu_ps(to_values, _mm512_maskz_compress_ps(mask, _mm512_load_ps(values)));
}
#endif

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> scale(const xsimd::batch_bool<float, Arch>& mask,
                                               const xsimd::batch<float, Arch>& x,
                                               const xsimd::batch<float, Arch>& n) noexcept {
  return scale(mask, x, n, Arch{});
}
template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask) noexcept {
  return mask_bits(mask, Arch{});
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x) noexcept {
  return widen(x, Arch{});
}

// Lane i of the result is lane i ^ distance of x.
template <class Arch, class T, std::size_t distance, std::size_t... I>
FDROUTE_INLINE xsimd::batch<T, Arch> exchange(const xsimd::batch<T, Arch>& x,
                                              std::index_sequence<I...>) noexcept {
  using Index = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return xsimd::swizzle(x, xsimd::batch_constant<xsimd::batch<Index, Arch>, (I ^ distance)...>{});
}

/// Folds a register in halves, as fold() does. Every lane ends up with the result.
template <std::floating_point T, std::size_t half, class Combine>
FDROUTE_INLINE T fold_register(T x, const Combine&) noexcept {
  return x;
}
template <class T, std::size_t half, class Arch, class Combine>
FDROUTE_INLINE T fold_register(const xsimd::batch<T, Arch>& x, const Combine& combine) noexcept {
  if constexpr (half == 0) {
    return first_lane(x, Arch{});
  } else {
    const auto other =
        exchange<Arch, T, half>(x, std::make_index_sequence<sizeof(x) / sizeof(T)>{});
    return fold_register<T, half / 2>(xsimd::batch<T, Arch>(combine(x, other)), combine);
  }
}

}  // namespace fdroute::inline v0::detail
