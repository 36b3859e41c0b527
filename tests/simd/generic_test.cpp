// The functions of registers that an instruction set may have in intrinsics, in the form for any
// Arch: of those that the tests run on, most have one of their own.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fdroute/detail/simd/lanes.hpp"

#if defined(__SSE2__) || defined(__aarch64__)

namespace {

namespace detail = fdroute::detail;
using Arch = std::conditional_t<XSIMD_WITH_SSE2, xsimd::sse2, fdroute::DefaultArch>;
using Float = xsimd::batch<float, Arch>;
using Double = xsimd::batch<double, Arch>;
using Int = xsimd::batch<std::int32_t, Arch>;
using Unsigned = xsimd::batch<std::uint32_t, Arch>;
constexpr detail::AnyArch generic;

template <class T>
using Numbers = std::array<T, xsimd::batch<T, Arch>::size>;

template <class T>
Numbers<T> numbers(const xsimd::batch<T, Arch>& x) {
  Numbers<T> result;
  x.store_unaligned(result.data());
  return result;
}

/// 2, 4, 8 ... but `most` in one lane.
template <class T>
Numbers<T> powers(std::size_t lane, T most) {
  Numbers<T> result;
  T power = 1;
  for (T& x : result) x = power *= 2;
  result[lane] = most;
  return result;
}

}  // namespace

TEST_CASE("the largest lane is found wherever it is") {
  for (std::size_t lane = 0; lane < Float::size; ++lane) {
    const Numbers<float> x = powers(lane, 1e9F);
    CHECK(detail::largest_of(Float::load_unaligned(x.data()), generic) == 1e9F);
  }
  for (std::size_t lane = 0; lane < Double::size; ++lane) {
    const Numbers<double> x = powers(lane, 1e99);
    CHECK(detail::largest_of(Double::load_unaligned(x.data()), generic) == 1e99);
  }
}

TEST_CASE("the sum is of all lanes") {
  const Numbers<double> x = powers(0, 2.0);  // 2 + 4 + ... + 2^n = 2^(n+1) - 2
  const double expected = 2.0 * static_cast<double>(std::size_t{1} << Double::size) - 2.0;
  CHECK(detail::sum_of(Double::load_unaligned(x.data()), generic) == expected);
}

TEST_CASE("floats are widened in order") {
  const Numbers<float> x = powers(0, 2.0F);
  const auto wide = detail::widen(Float::load_unaligned(x.data()), generic);
  const Numbers<double> low = numbers(wide.low);
  const Numbers<double> high = numbers(wide.high);
  for (std::size_t i = 0; i < Double::size; ++i) {
    CHECK(low[i] == x[i]);
    CHECK(high[i] == x[i + Double::size]);
  }

  Numbers<std::uint16_t> half{};
  for (std::size_t i = 0; i < Float::size; ++i)
    half[i] = static_cast<std::uint16_t>(0x3F80U + 0x80U * i);  // 2^i
  const Numbers<float> floats = numbers<float>(detail::widen_bfloat16<Arch>(half.data(), generic));
  for (std::size_t i = 0; i < Float::size; ++i) CHECK(floats[i] == float(1U << i));
}

TEST_CASE("lanes are picked and looked up by their ids") {
  alignas(64) detail::Table8 table;
  for (std::uint32_t i = 0; i < 16; ++i) table[i] = 100 + i % 8;
  std::array<float, 64> row;
  std::array<detail::Record, 64> records;
  for (std::size_t i = 0; i < 64; ++i) {
    const auto x = static_cast<float>(i);
    row[i] = x;
    records[i] = {{x, x + 100, x + 200, x + 300}};
  }
  Numbers<std::uint32_t> entry;
  Numbers<std::int32_t> id;
  std::array<std::uint32_t, Float::size> record;
  for (std::uint32_t i = 0; i < Float::size; ++i) {
    entry[i] = 5 * i + 7;
    id[i] = static_cast<std::int32_t>(63 - 9 * i);
    record[i] = 63 - 9 * i;
  }
  const auto found =
      numbers(detail::look_up(table, Unsigned::load_unaligned(entry.data()), generic));
  const auto picked =
      numbers<float>(detail::pick(row.data(), Int::load_unaligned(id.data()), generic));
  for (std::size_t i = 0; i < Float::size; ++i) {
    CHECK(found[i] == 100 + entry[i] % 8);
    CHECK(picked[i] == static_cast<float>(id[i]));
  }
  const auto fields = detail::pick_records<Double>(records.data(), record.data(), generic);
  for (std::size_t f = 0; f < 4; ++f) {
    const Numbers<double> field = numbers(fields.field[f]);
    for (std::size_t i = 0; i < Double::size; ++i) CHECK(field[i] == record[i] + 100.0 * double(f));
  }
}

TEST_CASE("masks and bits choose lanes, whichever these are") {
  const Numbers<float> x = powers(0, 2.0F);
  for (std::uint32_t bits = 0; bits < 1U << Int::size; ++bits) {
    CAPTURE(bits);
    Numbers<std::int32_t> set;
    for (std::size_t i = 0; i < Int::size; ++i) set[i] = static_cast<std::int32_t>(bits >> i & 1U);
    const auto mask = Int::load_unaligned(set.data()) > Int(0);
    CHECK(detail::mask_bits(mask, generic) == bits);
    const auto chosen = numbers(detail::choose(mask, Int(7), Int(-3), generic));
    const auto counts = numbers(detail::count_where(mask, Int(4), generic));
    const auto products = numbers(
        detail::multiply_by_bits(bits, Float::load_unaligned(x.data()), Float(0.5F), generic));
    for (std::size_t i = 0; i < Int::size; ++i) {
      CHECK(chosen[i] == (set[i] != 0 ? 7 : -3));
      CHECK(counts[i] == 4 + set[i]);
      CHECK(products[i] == (set[i] != 0 ? x[i] / 2 : 0.0F));
    }
  }
}

TEST_CASE("the numbers of bits are listed") {
  for (std::uint32_t bits = 0; bits < 1U << 16; bits += 257) {
    std::array<std::int32_t, 16> ids;
    detail::compress_ids(bits, 48, ids.data(), generic);
    std::size_t n = 0;
    for (std::int32_t j = 0; j < 16; ++j) {
      if ((bits >> j & 1U) != 0) CHECK(ids[n++] == 48 + j);
    }
  }
}

TEST_CASE("doubles become floats in their lanes, and numbers are gathered from anywhere") {
  const Numbers<double> low = powers(0, 1.0 + 0x1p-30);
  const Numbers<double> high = powers(1, -0x1p-140);
  const auto narrow = numbers(detail::narrow(Double::load_unaligned(low.data()),
                                             Double::load_unaligned(high.data()), generic));
  for (std::size_t i = 0; i < Double::size; ++i) {
    CHECK(narrow[i] == static_cast<float>(low[i]));
    CHECK(narrow[Double::size + i] == static_cast<float>(high[i]));
  }
  std::array<float, 1024> row;
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = static_cast<float>(j);
  Numbers<std::int32_t> id;
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::int32_t>(1023 - 300 * i);
  const auto gathered =
      numbers<float>(detail::gather(row.data(), Int::load_unaligned(id.data()), generic));
  for (std::size_t i = 0; i < id.size(); ++i) CHECK(gathered[i] == static_cast<float>(id[i]));
}

TEST_CASE("rows become columns, from anywhere and at any distance") {
  alignas(64) std::array<float, std::size_t{16} * 32> columns;
  std::array<float, std::size_t{16} * 17> numbers;
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  std::array<const float*, 16> rows;
  for (std::size_t t = 0; t < 16; ++t) rows[t] = numbers.data() + 17 * t;
  const auto check = [&](const auto& arch) {
    columns.fill(-1.0F);
    detail::transpose_16(rows.data(), columns.data(), 32, arch);
    for (std::size_t i = 0; i < 16; ++i) {
      for (std::size_t t = 0; t < 32; ++t)
        CHECK(columns[32 * i + t] == (t < 16 ? static_cast<float>(17 * t + i) : -1.0F));
    }
  };
  check(generic);
  check(Arch{});
}

#endif
