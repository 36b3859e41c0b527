#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/simd/base.hpp"
#include "fdroute/detail/simd/compiler.hpp"
#include "fdroute/detail/simd/x86.hpp"

FDROUTE_BEGIN_INTRINSICS

// The functions of generic.hpp in AVX-512's intrinsics.

namespace fdroute::inline v0::detail {

#if XSIMD_WITH_AVX512F
FDROUTE_INLINE __m512 larger(__m512 a, __m512 b) noexcept {
  return _mm512_max_ps(a, b);
}
FDROUTE_INLINE __m512d larger(__m512d a, __m512d b) noexcept {
  return _mm512_max_pd(a, b);
}
FDROUTE_INLINE __m512 smaller(__m512 a, __m512 b) noexcept {
  return _mm512_min_ps(a, b);
}
FDROUTE_INLINE __m512d smaller(__m512d a, __m512d b) noexcept {
  return _mm512_min_pd(a, b);
}
// xsimd's own for avx512bw does not compile without optimisation.
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> choose(
    const xsimd::batch_bool<std::int32_t, Arch>& mask, const xsimd::batch<std::int32_t, Arch>& yes,
    const xsimd::batch<std::int32_t, Arch>& no, const xsimd::avx512f&) noexcept {
  return _mm512_mask_blend_epi32(mask, no, yes);
}
template <class Register>
FDROUTE_INLINE Fields<Register> pick_records(const Record* table, const std::uint32_t* ids,
                                             const xsimd::avx512f&) noexcept {
  const auto records = [&](int i, int j) FDROUTE_INLINED {
    return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_load_pd(table[ids[i]].number)),
                              _mm256_load_pd(table[ids[j]].number), 1);
  };
  const __m512d r02 = records(0, 2);
  const __m512d r13 = records(1, 3);
  const __m512d r46 = records(4, 6);
  const __m512d r57 = records(5, 7);
  const __m512d even0123 = _mm512_unpacklo_pd(r02, r13);
  const __m512d even4567 = _mm512_unpacklo_pd(r46, r57);
  const __m512d odd0123 = _mm512_unpackhi_pd(r02, r13);
  const __m512d odd4567 = _mm512_unpackhi_pd(r46, r57);
  return {{_mm512_shuffle_f64x2(even0123, even4567, 0x88),
           _mm512_shuffle_f64x2(odd0123, odd4567, 0x88),
           _mm512_shuffle_f64x2(even0123, even4567, 0xDD),
           _mm512_shuffle_f64x2(odd0123, odd4567, 0xDD)}};
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from,
                                                        const xsimd::avx512f&) noexcept {
  const __m256i half = _mm256_loadu_si256(static_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_float16(const void* from,
                                                       const xsimd::avx512f&) noexcept {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(const Table8& table,
                                                         const xsimd::batch<std::uint32_t, Arch>& i,
                                                         const xsimd::avx512f&) noexcept {
  return _mm512_permutexvar_epi32(i, _mm512_load_si512(table));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const xsimd::avx512f&) noexcept {
  return _mm512_mask_add_epi32(counts, mask, counts, _mm512_set1_epi32(1));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> multiply_by_bits(std::uint32_t bits,
                                                          const xsimd::batch<float, Arch>& x,
                                                          const xsimd::batch<float, Arch>& factor,
                                                          const xsimd::avx512f&) noexcept {
  return _mm512_maskz_mul_ps(static_cast<__mmask16>(bits), x, factor);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> pick(const float* row,
                                              const xsimd::batch<std::int32_t, Arch>& ids,
                                              const xsimd::avx512f&) noexcept {
  const auto of_32 = [&](const float* half) FDROUTE_INLINED {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(half), ids, _mm512_loadu_ps(half + 16));
  };
  const __mmask16 high = _mm512_cmpge_epi32_mask(ids, _mm512_set1_epi32(32));
  return _mm512_mask_blend_ps(high, of_32(row), of_32(row + 32));
}
/// row[ids[i]] for ids in [0, 128).
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> pick_of_128(
    const float* row, const xsimd::batch<std::int32_t, Arch>& ids) noexcept {
  const auto high = _mm512_cmpgt_epi32_mask(ids, _mm512_set1_epi32(63));
  const xsimd::batch<std::int32_t, Arch> from_64 = _mm512_sub_epi32(ids, _mm512_set1_epi32(64));
  return _mm512_mask_blend_ps(high, pick(row, ids, Arch{}), pick(row + 64, from_64, Arch{}));
}
template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask,
                                       const xsimd::avx512f&) noexcept {
  return std::uint32_t{static_cast<__mmask16>(mask)};
}
template <class Arch>
FDROUTE_INLINE float largest_of(const xsimd::batch<float, Arch>& x,
                                const xsimd::avx512f&) noexcept {
  const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(x), 1);
  return largest_lane(larger(_mm512_castps512_ps256(x), _mm256_castpd_ps(high)));
}
template <class Arch>
FDROUTE_INLINE double largest_of(const xsimd::batch<double, Arch>& x,
                                 const xsimd::avx512f&) noexcept {
  return largest_lane(larger(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x, const xsimd::avx512f&) noexcept {
  return sum_lanes(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::avx512f&) noexcept {
  const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(x), 1);
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm256_castpd_ps(high))};
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> narrow(const xsimd::batch<double, Arch>& low,
                                                const xsimd::batch<double, Arch>& high,
                                                const xsimd::avx512f&) noexcept {
  const __m256d upper = _mm256_castps_pd(_mm512_cvtpd_ps(high));
  return _mm512_castpd_ps(
      _mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(_mm512_cvtpd_ps(low))), upper, 1));
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> gather(const float* row,
                                                const xsimd::batch<std::int32_t, Arch>& ids,
                                                const xsimd::avx512f&) noexcept {
  return _mm512_i32gather_ps(ids, row, 4);
}
template <std::ptrdiff_t columns = 16>
FDROUTE_INLINE void transpose_16(const float* const* rows, float* to, std::ptrdiff_t stride,
                                 const xsimd::avx512f&) noexcept {
  // Quarters of four rows each, four numbers from `at` on: a transpose of 4 x 4 in every quarter.
  const auto four_columns = [&](std::ptrdiff_t at) FDROUTE_INLINED {
    const auto quarters = [&](std::ptrdiff_t t) FDROUTE_INLINED {
      const auto four = [&](std::ptrdiff_t j)
                            FDROUTE_INLINED { return _mm_loadu_ps(rows[t + j] + at); };
      const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(four(0)), four(4), 1);
      const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(four(8)), four(12), 1);
      return _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(low)),
                                                 _mm256_castps_pd(high), 1));
    };
    const __m512 r0 = quarters(0);
    const __m512 r1 = quarters(1);
    const __m512 r2 = quarters(2);
    const __m512 r3 = quarters(3);
    const __m512 low01 = _mm512_unpacklo_ps(r0, r1);
    const __m512 high01 = _mm512_unpackhi_ps(r0, r1);
    const __m512 low23 = _mm512_unpacklo_ps(r2, r3);
    const __m512 high23 = _mm512_unpackhi_ps(r2, r3);
    float* corner = to + stride * at;
    _mm512_store_ps(corner, _mm512_shuffle_ps(low01, low23, 0x44));
    _mm512_store_ps(corner + stride, _mm512_shuffle_ps(low01, low23, 0xEE));
    _mm512_store_ps(corner + 2 * stride, _mm512_shuffle_ps(high01, high23, 0x44));
    _mm512_store_ps(corner + 3 * stride, _mm512_shuffle_ps(high01, high23, 0xEE));
  };
  for (std::ptrdiff_t at = 0; at < columns; at += 4) four_columns(at);
}

/// Writes the first `count` lanes.
template <class T, class Arch>
FDROUTE_INLINE void store_lanes(const xsimd::batch<T, Arch>& x, int count, T* to,
                                const xsimd::avx512f&) noexcept requires(sizeof(T) == 4) {
  const auto mask = static_cast<__mmask16>((1U << count) - 1U);
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(to, mask, x);
  } else {
    _mm512_mask_storeu_epi32(to, mask, x);
  }
}
/// A permutation of 0 ... 15 the other way: lane p[i] holds i. (Lanes keep to their low four bits.)
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 1> inverse(
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& of, const xsimd::avx512f&) noexcept {
  const __m512i p = of[0];
  // The result as 16 groups of four bits: i goes to group p[i].
  const auto in_place = [](__m512i numbers, __m256i p_of_8) FDROUTE_INLINED {
    return _mm512_sllv_epi64(numbers, _mm512_slli_epi64(_mm512_cvtepu32_epi64(p_of_8), 2));
  };
  const __m512i low = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i high = _mm512_set_epi64(15, 14, 13, 12, 11, 10, 9, 8);
  const __m512i eight = _mm512_or_si512(in_place(low, _mm512_castsi512_si256(p)),
                                        in_place(high, _mm512_extracti64x4_epi64(p, 1)));
  const __m256i four =
      _mm256_or_si256(_mm512_castsi512_si256(eight), _mm512_extracti64x4_epi64(eight, 1));
  const __m128i two = _mm_or_si128(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  const __m128i one = _mm_or_si128(two, _mm_unpackhi_epi64(two, two));
  // Groups 0 to 7 are the lower half.
  const __m512i half = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i shift = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
  return {_mm512_srlv_epi32(_mm512_permutexvar_epi32(half, _mm512_castsi128_si512(one)), shift)};
}
template <class Arch>
FDROUTE_INLINE std::array<xsimd::batch<std::int32_t, Arch>, 1> permute(
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& x,
    const std::array<xsimd::batch<std::int32_t, Arch>, 1>& i, const xsimd::avx512f&) noexcept {
  return {_mm512_permutexvar_epi32(i[0], x[0])};
}

/// The first `count` lanes from `from` on, and those of `rest`.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> load_lanes(const float* from, int count,
                                                    const xsimd::batch<float, Arch>& rest,
                                                    const xsimd::avx512f&) noexcept {
  return _mm512_mask_loadu_ps(rest, static_cast<__mmask16>((1U << count) - 1U), from);
}

/// The first n lanes of one register, and then those of another.
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> append(const xsimd::batch<std::int32_t, Arch>& x,
                                                       int n,
                                                       const xsimd::batch<std::int32_t, Arch>& next,
                                                       const xsimd::avx512f&) noexcept {
  return _mm512_mask_expand_epi32(x, static_cast<__mmask16>(0xFFFFU << n), next);
}

/// The lanes of four registers whose bits are set, at most 16 of them, in order; 0 after them.
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> compress(
    std::uint64_t bits, const std::array<xsimd::batch<std::int32_t, Arch>, 4>& x,
    const xsimd::avx512f&) noexcept {
  const auto of_16 = [&](std::size_t i) FDROUTE_INLINED {
    return _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits >> (16 * i)), x[i]);
  };
  using Int = xsimd::batch<std::int32_t, Arch>;
  const auto joined = [](const Int& low, const Int& high, std::uint64_t low_bits) FDROUTE_INLINED {
    return append(low, std::popcount(low_bits), high, Arch{});
  };
  const Int low = joined(of_16(0), of_16(1), bits & 0xFFFFU);
  const Int high = joined(of_16(2), of_16(3), bits >> 32 & 0xFFFFU);
  return joined(low, high, bits & 0xFFFF'FFFFU);
}
FDROUTE_INLINE void compress_ids(std::uint32_t bits, std::int32_t base, std::int32_t* to,
                                 const xsimd::avx512f&) noexcept {
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(base), step);
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), ids));
}
#endif

#if XSIMD_WITH_AVX512BW
/// The bits of four masks of 16 lanes, where there is a way that beats one after the other.
template <class T, class Arch>
FDROUTE_INLINE std::uint64_t joined_bits(const xsimd::batch_bool<T, Arch>& a,
                                         const xsimd::batch_bool<T, Arch>& b,
                                         const xsimd::batch_bool<T, Arch>& c,
                                         const xsimd::batch_bool<T, Arch>& d,
                                         const xsimd::avx512bw&) noexcept {
  const auto bits = [](const auto& mask) FDROUTE_INLINED {
    return static_cast<__mmask32>(static_cast<__mmask16>(mask));
  };
  std::uint64_t joined =
      _mm512_kunpackd(_mm512_kunpackw(bits(d), bits(c)), _mm512_kunpackw(bits(b), bits(a)));
  FDROUTE_HIDE("+r", joined);  // moved out of the mask register once
  return joined;
}
#endif

}  // namespace fdroute::inline v0::detail

FDROUTE_END_INTRINSICS
