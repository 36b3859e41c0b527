#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "fdroute/arch.hpp"

// The only file that knows registers: what xsimd 8.1 lacks, in intrinsics where they pay, always
// with a generic twin. `batch<T, Arch>` and plain numbers (ScalarArch) have the same functions.

// Kernels are short and their arguments are registers: a call would cost more than most of them.
#define FDROUTE_INLINE __attribute__((always_inline)) inline
#define FDROUTE_INLINED __attribute__((always_inline))  // of a lambda, before its body

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

template <class T>
FDROUTE_INLINE T choose(bool mask, T yes, T no) noexcept {
  return mask ? yes : no;
}
template <class T, class Arch>
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

/// counts + 1 where `mask` holds.
FDROUTE_INLINE std::int32_t count_where(bool mask, std::int32_t counts) noexcept {
  return counts + (mask ? 1 : 0);
}

/// x * factor in the lanes whose bit is set in `bits`, else 0.
FDROUTE_INLINE float multiply_by_bits(std::uint32_t bits, float x, float factor) noexcept {
  return (bits & 1U) != 0 ? x * factor : 0.0F;
}

FDROUTE_INLINE std::uint32_t bits_of(float x) noexcept {
  return std::bit_cast<std::uint32_t>(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> bits_of(
    const xsimd::batch<float, Arch>& x) noexcept {
  return xsimd::bitwise_cast<xsimd::batch<std::uint32_t, Arch>>(x);
}
FDROUTE_INLINE std::uint64_t bits_of(double x) noexcept {
  return std::bit_cast<std::uint64_t>(x);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint64_t, Arch> bits_of(
    const xsimd::batch<double, Arch>& x) noexcept {
  return xsimd::bitwise_cast<xsimd::batch<std::uint64_t, Arch>>(x);
}
FDROUTE_INLINE double double_of(std::uint64_t bits) noexcept {
  return std::bit_cast<double>(bits);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<double, Arch> double_of(
    const xsimd::batch<std::uint64_t, Arch>& bits) noexcept {
  return xsimd::bitwise_cast<xsimd::batch<double, Arch>>(bits);
}
FDROUTE_INLINE float float_of(std::uint32_t bits) noexcept {
  return std::bit_cast<float>(bits);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> float_of(
    const xsimd::batch<std::uint32_t, Arch>& bits) noexcept {
  return xsimd::bitwise_cast<xsimd::batch<float, Arch>>(bits);
}

/// An integer that compares as the number does, -0 = +0.
FDROUTE_INLINE std::int32_t ordered(float x) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(x + 0.0F);  // -0 becomes +0
  return bits ^ ((bits >> 31) & 0x7FFF'FFFF);
}
template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> ordered(
    const xsimd::batch<float, Arch>& x) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  const auto bits = xsimd::bitwise_cast<Int>(x + xsimd::batch<float, Arch>(0.0F));
  return bits ^ ((bits >> 31) & Int(0x7FFF'FFFF));
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

/// The bfloat16 from `from` on, as floats.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from,
                                                        const xsimd::generic&) noexcept {
  std::uint16_t half[xsimd::batch<float, Arch>::size];
  std::memcpy(half, from, sizeof half);
  std::uint32_t bits[xsimd::batch<float, Arch>::size];
  std::transform(std::begin(half), std::end(half), std::begin(bits),
                 [](std::uint16_t x) { return std::uint32_t{x} << 16; });
  return float_of(xsimd::batch<std::uint32_t, Arch>::load_unaligned(bits));
}

/// row[ids[i]] for ids in [0, 64).
FDROUTE_INLINE float pick(const float* row, std::int32_t id) noexcept {
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
    const xsimd::generic&) noexcept requires std::is_same_v<Register, double> {
  const double* x = table[*ids].number;
  return {{x[0], x[1], x[2], x[3]}};
}

// ---- What xsimd 8.1 lacks
// ------------------------------------------------------------------------ Each function has a
// generic form, for any Arch, and forms in intrinsics where these are better. The last argument, an
// Arch, chooses: of its bases, the nearest with a form of its own.

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(const Table8& table,
                                                         const xsimd::batch<std::uint32_t, Arch>& i,
                                                         const xsimd::generic&) noexcept {
  std::uint32_t found[xsimd::batch<std::uint32_t, Arch>::size];
  i.store_unaligned(found);
  for (std::uint32_t& entry : found) entry = table[entry & 7U];
  return xsimd::batch<std::uint32_t, Arch>::load_unaligned(found);
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const xsimd::generic&) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  return counts + xsimd::select(mask, Int(1), Int(0));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> multiply_by_bits(std::uint32_t bits,
                                                          const xsimd::batch<float, Arch>& x,
                                                          const xsimd::batch<float, Arch>& factor,
                                                          const xsimd::generic&) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  alignas(64) static constexpr std::int32_t lane_bit[] = {1, 2, 4, 8, 16, 32, 64, 128};
  static_assert(Int::size <= std::size(lane_bit));
  const Int lanes = Int::load_aligned(lane_bit);
  const auto set = (Int(static_cast<std::int32_t>(bits)) & lanes) == lanes;
  const auto product = xsimd::bitwise_cast<Int>(x * factor);
  return xsimd::bitwise_cast<xsimd::batch<float, Arch>>(product & xsimd::bitwise_cast(set));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> pick(const float* row,
                                              const xsimd::batch<std::int32_t, Arch>& ids,
                                              const xsimd::generic&) noexcept {
  std::int32_t id[xsimd::batch<std::int32_t, Arch>::size];
  ids.store_unaligned(id);
  float picked[std::size(id)];
  for (std::size_t i = 0; i < ids.size; ++i) picked[i] = row[id[i]];
  return xsimd::batch<float, Arch>::load_unaligned(picked);
}

template <class Register>
FDROUTE_INLINE Fields<Register> pick_records(const Record* table, const std::uint32_t* ids,
                                             const xsimd::generic&) noexcept {
  double field[4][Register::size];
  for (std::size_t i = 0; i < Register::size; ++i) {
    for (std::size_t f = 0; f < 4; ++f) field[f][i] = table[ids[i]].number[f];
  }
  Fields<Register> fields;
  for (std::size_t f = 0; f < 4; ++f) fields.field[f] = Register::load_unaligned(field[f]);
  return fields;
}

template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask,
                                       const xsimd::generic&) noexcept {
  bool lane[xsimd::batch_bool<T, Arch>::size];
  mask.store_unaligned(lane);
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < mask.size; ++i) bits |= (lane[i] ? 1U : 0U) << i;
  return bits;
}

template <class T, class Arch>
FDROUTE_INLINE T largest_of(const xsimd::batch<T, Arch>& x, const xsimd::generic&) noexcept {
  T lane[xsimd::batch<T, Arch>::size];
  x.store_unaligned(lane);
  for (std::size_t half = x.size / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] = larger(lane[i], lane[i + half]);
  }
  return lane[0];
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x, const xsimd::generic&) noexcept {
  double lane[xsimd::batch<double, Arch>::size];
  x.store_unaligned(lane);
  for (std::size_t half = x.size / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

/// The lower and the upper half of the lanes, in double.
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::generic&) noexcept {
  using Double = xsimd::batch<double, Arch>;
  float lane[xsimd::batch<float, Arch>::size];
  x.store_unaligned(lane);
  double wide[xsimd::batch<float, Arch>::size];
  for (std::size_t i = 0; i < x.size; ++i) wide[i] = double{lane[i]};
  return {Double::load_unaligned(wide), Double::load_unaligned(wide + Double::size)};
}

/// Writes the numbers j of the bits set in `bits`, plus `base`, and the values[j], in ascending
/// order of j. It may write up to 16 places of each, whatever the number of bits.
FDROUTE_INLINE void compress(std::uint32_t bits, std::int32_t base, const std::int32_t* values,
                             std::int32_t* to_ids, std::int32_t* to_values,
                             const xsimd::generic&) noexcept {
  for (; bits != 0; bits &= bits - 1) {
    const int j = std::countr_zero(bits);
    *to_ids++ = base + j;
    *to_values++ = values[j];
  }
}

#if XSIMD_WITH_SSE2
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from,
                                                        const xsimd::sse2&) noexcept {
  const __m128i half = _mm_loadl_epi64(static_cast<const __m128i*>(from));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
}
FDROUTE_INLINE float largest_lane(__m128 x) noexcept {
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
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
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<std::int32_t, Arch>& mask,
                                       const xsimd::sse2&) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(mask)));
}
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x,
                                    const xsimd::sse2&) noexcept {
  return {_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))};
}
#endif

#if XSIMD_WITH_AVX
FDROUTE_INLINE float largest_lane(__m256 x) noexcept {
  return largest_lane(_mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
FDROUTE_INLINE double largest_lane(__m256d x) noexcept {
  return largest_lane(_mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1)));
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
#endif

#if XSIMD_WITH_AVX512F
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
template <class T, class Arch>
FDROUTE_INLINE std::uint32_t mask_bits(const xsimd::batch_bool<T, Arch>& mask,
                                       const xsimd::avx512f&) noexcept {
  return std::uint32_t{static_cast<__mmask16>(mask)};
}
template <class Arch>
FDROUTE_INLINE float largest_of(const xsimd::batch<float, Arch>& x,
                                const xsimd::avx512f&) noexcept {
  const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(x), 1);
  return largest_lane(_mm256_max_ps(_mm512_castps512_ps256(x), _mm256_castpd_ps(high)));
}
template <class Arch>
FDROUTE_INLINE double largest_of(const xsimd::batch<double, Arch>& x,
                                 const xsimd::avx512f&) noexcept {
  return largest_lane(_mm256_max_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
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
FDROUTE_INLINE void compress(std::uint32_t bits, std::int32_t base, const std::int32_t* values,
                             std::int32_t* to_ids, std::int32_t* to_values,
                             const xsimd::avx512f&) noexcept {
  const auto mask = static_cast<__mmask16>(bits);
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i id = _mm512_add_epi32(_mm512_set1_epi32(base), step);
  _mm512_storeu_si512(to_ids, _mm512_maskz_compress_epi32(mask, id));
  _mm512_storeu_si512(to_values, _mm512_maskz_compress_epi32(mask, _mm512_load_si512(values)));
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
  asm("" : "+r"(joined));  // moved out of the mask register once, whatever is done with it
  return joined;
}
#endif

// The same, for the Arch of their arguments.

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(
    const Table8& table, const xsimd::batch<std::uint32_t, Arch>& i) noexcept {
  return look_up(table, i, Arch{});
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

}  // namespace fdroute::inline v0::detail
