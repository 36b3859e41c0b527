#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <xsimd/xsimd.hpp>

#include "fdroute/detail/simd/base.hpp"
#include "fdroute/detail/simd/compiler.hpp"

// What xsimd 8.1 lacks, for any Arch. The last argument, an Arch, chooses between these and forms
// in intrinsics (x86.hpp, avx512.hpp): of its bases, the nearest with a form of
// its own.

namespace fdroute::inline v0::detail {

/// The bfloat16 from `from` on, as floats.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> widen_bfloat16(const void* from, const AnyArch&) noexcept {
  std::uint16_t half[xsimd::batch<float, Arch>::size];
  std::memcpy(half, from, sizeof half);
  std::uint32_t bits[xsimd::batch<float, Arch>::size];
  std::transform(std::begin(half), std::end(half), std::begin(bits),
                 [](std::uint16_t x) { return std::uint32_t{x} << 16; });
  return float_of(xsimd::batch<std::uint32_t, Arch>::load_unaligned(bits));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::uint32_t, Arch> look_up(const Table8& table,
                                                         const xsimd::batch<std::uint32_t, Arch>& i,
                                                         const AnyArch&) noexcept {
  std::uint32_t found[xsimd::batch<std::uint32_t, Arch>::size];
  i.store_unaligned(found);
  for (std::uint32_t& entry : found) entry = table[entry & 7U];
  return xsimd::batch<std::uint32_t, Arch>::load_unaligned(found);
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> choose(
    const xsimd::batch_bool<std::int32_t, Arch>& mask, const xsimd::batch<std::int32_t, Arch>& yes,
    const xsimd::batch<std::int32_t, Arch>& no, const AnyArch&) noexcept {
  return xsimd::select(mask, yes, no);
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<std::int32_t, Arch> count_where(
    const xsimd::batch_bool<std::int32_t, Arch>& mask,
    const xsimd::batch<std::int32_t, Arch>& counts, const AnyArch&) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  return counts + xsimd::select(mask, Int(1), Int(0));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> multiply_by_bits(std::uint32_t bits,
                                                          const xsimd::batch<float, Arch>& x,
                                                          const xsimd::batch<float, Arch>& factor,
                                                          const AnyArch&) noexcept {
  using Int = xsimd::batch<std::int32_t, Arch>;
  alignas(64) static constexpr std::int32_t lane_bit[] = {1, 2, 4, 8, 16, 32, 64, 128};
  static_assert(Int::size <= std::size(lane_bit));
  const Int lanes = Int::load_aligned(lane_bit);
  const auto set = (Int(static_cast<std::int32_t>(bits)) & lanes) == lanes;
  const auto product = cast_bits<std::int32_t>(x * factor);
  return cast_bits<float>(product & xsimd::bitwise_cast(set));
}

template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> pick(const float* row,
                                              const xsimd::batch<std::int32_t, Arch>& ids,
                                              const AnyArch&) noexcept {
  std::int32_t id[xsimd::batch<std::int32_t, Arch>::size];
  ids.store_unaligned(id);
  float picked[std::size(id)];
  for (std::size_t i = 0; i < ids.size; ++i) picked[i] = row[id[i]];
  return xsimd::batch<float, Arch>::load_unaligned(picked);
}

template <class Register>
FDROUTE_INLINE Fields<Register> pick_records(const Record* table, const std::uint32_t* ids,
                                             const AnyArch&) noexcept {
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
                                       const AnyArch&) noexcept {
  bool lane[xsimd::batch_bool<T, Arch>::size];
  mask.store_unaligned(lane);
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < mask.size; ++i) bits |= (lane[i] ? 1U : 0U) << i;
  return bits;
}

template <class T, class Arch>
FDROUTE_INLINE T largest_of(const xsimd::batch<T, Arch>& x, const AnyArch&) noexcept {
  T lane[xsimd::batch<T, Arch>::size];
  x.store_unaligned(lane);
  for (std::size_t half = x.size / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] = larger(lane[i], lane[i + half]);
  }
  return lane[0];
}
template <class Arch>
FDROUTE_INLINE double sum_of(const xsimd::batch<double, Arch>& x, const AnyArch&) noexcept {
  double lane[xsimd::batch<double, Arch>::size];
  x.store_unaligned(lane);
  for (std::size_t half = x.size / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

/// The lower and the upper half of the lanes, in double.
template <class Arch>
FDROUTE_INLINE WidePair<Arch> widen(const xsimd::batch<float, Arch>& x, const AnyArch&) noexcept {
  using Double = xsimd::batch<double, Arch>;
  float lane[xsimd::batch<float, Arch>::size];
  x.store_unaligned(lane);
  double wide[xsimd::batch<float, Arch>::size];
  for (std::size_t i = 0; i < x.size; ++i) wide[i] = double{lane[i]};
  return {Double::load_unaligned(wide), Double::load_unaligned(wide + Double::size)};
}

/// The numbers of two registers as floats.
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> narrow(const xsimd::batch<double, Arch>& low,
                                                const xsimd::batch<double, Arch>& high,
                                                const AnyArch&) noexcept {
  double wide[xsimd::batch<float, Arch>::size];
  low.store_unaligned(wide);
  high.store_unaligned(wide + low.size);
  float lane[std::size(wide)];
  for (std::size_t i = 0; i < std::size(wide); ++i) lane[i] = static_cast<float>(wide[i]);
  return xsimd::batch<float, Arch>::load_unaligned(lane);
}

/// row[ids[i]].
template <class Arch>
FDROUTE_INLINE xsimd::batch<float, Arch> gather(const float* row,
                                                const xsimd::batch<std::int32_t, Arch>& ids,
                                                const AnyArch& any) noexcept {
  return pick(row, ids, any);
}

/// The first `columns` numbers, a multiple of 4 up to 16, of sixteen rows as columns:
/// to[stride i + t] = rows[t][i]. Sixteen of `to`, aligned to 64 bytes, are written at a time.
template <std::ptrdiff_t columns = 16>
FDROUTE_INLINE void transpose_16(const float* const* rows, float* to, std::ptrdiff_t stride,
                                 const AnyArch&) noexcept {
  for (std::ptrdiff_t i = 0; i < columns; ++i) {
    for (std::ptrdiff_t t = 0; t < 16; ++t) to[stride * i + t] = rows[t][i];
  }
}

/// Writes the numbers j of the bits set in `bits`, plus `base`, in ascending order. It may write up
/// to 16 places, whatever the number of bits.
FDROUTE_INLINE void compress_ids(std::uint32_t bits, std::int32_t base, std::int32_t* to,
                                 const AnyArch&) noexcept {
  for (; bits != 0; bits &= bits - 1) *to++ = base + std::countr_zero(bits);
}

}  // namespace fdroute::inline v0::detail
