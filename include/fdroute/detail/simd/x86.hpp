#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/simd/base.hpp"
#include "fdroute/detail/simd/compiler.hpp"

// The functions of generic.hpp in intrinsics, where these are better: up to AVX2.

namespace fdroute::inline v0::detail {

#if XSIMD_WITH_SSE2
FDROUTE_INLINE __m128 larger(__m128 a, __m128 b) noexcept {
  return _mm_max_ps(a, b);
}
FDROUTE_INLINE __m128d larger(__m128d a, __m128d b) noexcept {
  return _mm_max_pd(a, b);
}
FDROUTE_INLINE __m128 smaller(__m128 a, __m128 b) noexcept {
  return _mm_min_ps(a, b);
}
FDROUTE_INLINE __m128d smaller(__m128d a, __m128d b) noexcept {
  return _mm_min_pd(a, b);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from,
                                                        const xsimd::sse2&) noexcept {
  const __m128i half = _mm_loadl_epi64(static_cast<const __m128i*>(from));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
}
FDROUTE_INLINE float largest_lane(__m128 x) noexcept {
  x = larger(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
FDROUTE_INLINE double largest_lane(__m128d x) noexcept {
  return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
}
FDROUTE_INLINE double sum_lanes(__m128d x) noexcept {
  return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
}
template <class T, class Arch>
FDROUTE_INLINE T largest_of(const xsimd::batch<T, Arch>& x, const xsimd::sse2&) noexcept {
  return largest_lane(x);
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x, const xsimd::sse2&) noexcept {
  return sum_lanes(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const xsimd::sse2&) noexcept {
  return _mm_sub_epi32(counts, mask);
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<float, Arch>& mask,
                                       const xsimd::sse2&) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_ps(mask));
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<double, Arch>& mask,
                                       const xsimd::sse2&) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_pd(mask));
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<std::int32_t, Arch>& mask,
                                       const xsimd::sse2&) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(mask)));
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::sse2&) noexcept {
  return {_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))};
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> narrow(const xsimd::batch<double, Arch>& low,
                                                const xsimd::batch<double, Arch>& high,
                                                const xsimd::sse2&) noexcept {
  return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
template <std::ptrdiff_t columns = 16>
FDROUTE_INLINE void transpose_16(const float* const* rows, float* to, std::ptrdiff_t stride,
                                 const xsimd::sse2&) noexcept {
  for (std::ptrdiff_t i = 0; i < columns; i += 4) {
    for (std::ptrdiff_t t = 0; t < 16; t += 4) {
      __m128 a = _mm_loadu_ps(rows[t] + i);
      __m128 b = _mm_loadu_ps(rows[t + 1] + i);
      __m128 c = _mm_loadu_ps(rows[t + 2] + i);
      __m128 d = _mm_loadu_ps(rows[t + 3] + i);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      float* corner = to + stride * i + t;
      _mm_store_ps(corner, a);
      _mm_store_ps(corner + stride, b);
      _mm_store_ps(corner + 2 * stride, c);
      _mm_store_ps(corner + 3 * stride, d);
    }
  }
}
#endif

#if XSIMD_WITH_AVX
FDROUTE_INLINE __m256 larger(__m256 a, __m256 b) noexcept {
  return _mm256_max_ps(a, b);
}
FDROUTE_INLINE __m256d larger(__m256d a, __m256d b) noexcept {
  return _mm256_max_pd(a, b);
}
FDROUTE_INLINE __m256 smaller(__m256 a, __m256 b) noexcept {
  return _mm256_min_ps(a, b);
}
FDROUTE_INLINE __m256d smaller(__m256d a, __m256d b) noexcept {
  return _mm256_min_pd(a, b);
}
FDROUTE_INLINE float largest_lane(__m256 x) noexcept {
  return largest_lane(larger(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
FDROUTE_INLINE double largest_lane(__m256d x) noexcept {
  return largest_lane(larger(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1)));
}
FDROUTE_INLINE double sum_lanes(__m256d x) noexcept {
  return sum_lanes(_mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1)));
}
template <class T, class Arch>
FDROUTE_INLINE T largest_of(const xsimd::batch<T, Arch>& x, const xsimd::avx&) noexcept {
  return largest_lane(x);
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x, const xsimd::avx&) noexcept {
  return sum_lanes(x);
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<float, Arch>& mask,
                                       const xsimd::avx&) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(mask));
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<double, Arch>& mask,
                                       const xsimd::avx&) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_pd(mask));
}
template <class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<std::int32_t, Arch>& mask,
                                       const xsimd::avx&) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(mask)));
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::avx&) noexcept {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const xsimd::avx&) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  return counts + xsimd::select(mask, Int(1), Int(0));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> narrow(const xsimd::batch<double, Arch>& low,
                                                const xsimd::batch<double, Arch>& high,
                                                const xsimd::avx&) noexcept {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
}
template <std::ptrdiff_t columns = 16>
FDROUTE_INLINE void transpose_16(const float* const* rows, float* to, std::ptrdiff_t stride,
                                 const xsimd::avx&) noexcept {
  for (std::ptrdiff_t i = 0; i < columns; i += 4) {
    for (std::ptrdiff_t t = 0; t < 16; t += 8) {
      // Four numbers of rows t and t + 4, so that nothing has to cross the halves of a register.
      const auto rows_at = [&](std::ptrdiff_t j) FDROUTE_INLINED {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[t + j] + i)),
                                    _mm_loadu_ps(rows[t + j + 4] + i), 1);
      };
      const __m256 r0 = rows_at(0);
      const __m256 r1 = rows_at(1);
      const __m256 r2 = rows_at(2);
      const __m256 r3 = rows_at(3);
      const __m256 low01 = _mm256_unpacklo_ps(r0, r1);
      const __m256 high01 = _mm256_unpackhi_ps(r0, r1);
      const __m256 low23 = _mm256_unpacklo_ps(r2, r3);
      const __m256 high23 = _mm256_unpackhi_ps(r2, r3);
      float* corner = to + stride * i + t;
      _mm256_store_ps(corner, _mm256_shuffle_ps(low01, low23, 0x44));
      _mm256_store_ps(corner + stride, _mm256_shuffle_ps(low01, low23, 0xEE));
      _mm256_store_ps(corner + 2 * stride, _mm256_shuffle_ps(high01, high23, 0x44));
      _mm256_store_ps(corner + 3 * stride, _mm256_shuffle_ps(high01, high23, 0xEE));
    }
  }
}

// AVX alone has no integers to widen with: elements are converted one by one.
template <class Arch>
void widen_float16(const void* from, const xsimd::avx&) = delete;

// Registers narrower than an Arch's own, for what is too small for these. Not xsimd's batches:
// their functions, compiled here with all of this translation unit's instructions, might by the
// linker become those of another one.
struct FourFloats {
  __m128 x;
  static FDROUTE_INLINE FourFloats load_aligned(const float* from) noexcept {
    return {_mm_load_ps(from)};
  }
};
struct EightFloats {
  __m256 x;
  static FDROUTE_INLINE EightFloats load_aligned(const float* from) noexcept {
    return {_mm256_load_ps(from)};
  }
};
FDROUTE_INLINE void store_aligned(const FourFloats& a, float* to) noexcept {
  _mm_store_ps(to, a.x);
}
FDROUTE_INLINE void store_aligned(const EightFloats& a, float* to) noexcept {
  _mm256_store_ps(to, a.x);
}
FDROUTE_INLINE FourFloats larger(const FourFloats& a, const FourFloats& b) noexcept {
  return {larger(a.x, b.x)};
}
FDROUTE_INLINE EightFloats larger(const EightFloats& a, const EightFloats& b) noexcept {
  return {larger(a.x, b.x)};
}
FDROUTE_INLINE FourFloats smaller(const FourFloats& a, const FourFloats& b) noexcept {
  return {smaller(a.x, b.x)};
}
FDROUTE_INLINE EightFloats smaller(const EightFloats& a, const EightFloats& b) noexcept {
  return {smaller(a.x, b.x)};
}
template <class Arch>
struct NarrowRegister<16, 8, Arch> {
  using type = EightFloats;
};
template <class Arch>
struct NarrowRegister<16, 4, Arch> {
  using type = FourFloats;
};
template <class Arch>
struct NarrowRegister<8, 4, Arch> {
  using type = FourFloats;
};
#endif

#if XSIMD_WITH_AVX2
template <class Register>
FDROUTE_INLINE Fields<Register> pick_records(const Record* table, const std::uint32_t* ids,
                                             const xsimd::avx2&) noexcept {
  const auto record = [&](int i) FDROUTE_INLINED { return _mm256_load_pd(table[ids[i]].number); };
  const __m256d even01 = _mm256_unpacklo_pd(record(0), record(1));
  const __m256d even23 = _mm256_unpacklo_pd(record(2), record(3));
  const __m256d odd01 = _mm256_unpackhi_pd(record(0), record(1));
  const __m256d odd23 = _mm256_unpackhi_pd(record(2), record(3));
  return {{_mm256_permute2f128_pd(even01, even23, 0x20), _mm256_permute2f128_pd(odd01, odd23, 0x20),
           _mm256_permute2f128_pd(even01, even23, 0x31),
           _mm256_permute2f128_pd(odd01, odd23, 0x31)}};
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from,
                                                        const xsimd::avx2&) noexcept {
  const __m128i half = _mm_loadu_si128(static_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(const Table8& table,
                                                         const xsimd::batch<std::uint32_t, Arch>& i,
                                                         const xsimd::avx2&) noexcept {
  return _mm256_permutevar8x32_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(table)), i);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const xsimd::avx2&) noexcept {
  return _mm256_sub_epi32(counts, mask);
}

/// The numbers from `first` on, four, each shifted by p groups of 2^log_group bits.
template <int log_group>
FDROUTE_INLINE __m256i in_place(long long first, __m128i p) noexcept {
  const __m256i numbers = _mm256_set_epi64x(first + 3, first + 2, first + 1, first);
  return _mm256_sllv_epi64(numbers, _mm256_slli_epi64(_mm256_cvtepu32_epi64(p), log_group));
}
FDROUTE_INLINE __m128i joined_quarters(__m256i x) noexcept {
  const __m128i two = _mm_or_si128(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return _mm_or_si128(two, _mm_unpackhi_epi64(two, two));
}

/// A permutation of 0 ... 7, or 0 ... 15, the other way: lane p[i] holds i.
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 1> inverse(
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& p, const xsimd::avx2&) noexcept {
  // The result as bytes: i goes to byte p[i].
  const __m256i i03 = in_place<3>(0, _mm256_castsi256_si128(p[0]));
  const __m256i i47 = in_place<3>(4, _mm256_extracti128_si256(p[0], 1));
  return {_mm256_cvtepu8_epi32(joined_quarters(_mm256_or_si256(i03, i47)))};
}
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 2> inverse(
    const std::array<xsimd::batch<std::int32_t, Arch>, 2>& p, const xsimd::avx2&) noexcept {
  // As 16 groups of four bits.
  const auto eight = [&](std::size_t half) FDROUTE_INLINED {
    const auto base = static_cast<long long>(8 * half);
    return _mm256_or_si256(in_place<2>(base, _mm256_castsi256_si128(p[half])),
                           in_place<2>(base + 4, _mm256_extracti128_si256(p[half], 1)));
  };
  const __m128i all = joined_quarters(_mm256_or_si256(eight(0), eight(1)));
  const __m256i shift = _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0);
  const auto spread = [&](__m128i groups) FDROUTE_INLINED {
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_broadcastd_epi32(groups), shift),
                            _mm256_set1_epi32(15));
  };
  return {spread(all), spread(_mm_srli_epi64(all, 32))};
}
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 1> permute(
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& x,
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& i, const xsimd::avx2&) noexcept {
  return {_mm256_permutevar8x32_epi32(x[0], i[0])};
}
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 2> permute(
    const std::array<xsimd::batch<std::int32_t, Arch>, 2>& x,
    const std::array<xsimd::batch<std::int32_t, Arch>, 2>& i, const xsimd::avx2&) noexcept {
  const auto half = [&](__m256i lanes) FDROUTE_INLINED {
    const __m256i low = _mm256_permutevar8x32_epi32(x[0], lanes);
    const __m256i high = _mm256_permutevar8x32_epi32(x[1], lanes);
    return _mm256_blendv_epi8(low, high, _mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(7)));
  };
  return {half(i[0]), half(i[1])};
}

// An Arch does not tell of F16C. Of two translation units with the same Arch, one with F16C and one
// without, the linker may keep either's form: values are the same, and every processor with AVX2
// has F16C.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_float16(const void* from,
                                                       const xsimd::avx2&) noexcept {
#if defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
#else
  return float16_in_upper_half(widen_bfloat16<Arch>(from, xsimd::avx2{}));
#endif
}
#endif

}  // namespace fdroute::inline v0::detail
