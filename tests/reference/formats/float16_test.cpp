#include "formats/float16.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace {

using olmoe::BFloat16;
using olmoe::Half;
using olmoe::to_float;

struct HalfFormat {
  using Type = Half;
  static constexpr int mantissa_bits = 10;
  static constexpr int exponent_bits = 5;
  static Half round(float x) { return olmoe::to_half(x); }
};

struct BFloat16Format {
  using Type = BFloat16;
  static constexpr int mantissa_bits = 7;
  static constexpr int exponent_bits = 8;
  static BFloat16 round(float x) { return olmoe::to_bfloat16(x); }
};

// Bit patterns of positive infinity and, one less, of the largest finite number.
template <class Format>
constexpr int infinity_bits = ((1 << Format::exponent_bits) - 1) << Format::mantissa_bits;

template <class Format>
typename Format::Type from_bits(int bits) {
  return {static_cast<std::uint16_t>(bits)};
}

// IEEE 754, section 3.4, in arithmetic.
template <class Format>
double defined_value(int bits) {
  const int mantissa = bits & ((1 << Format::mantissa_bits) - 1);
  const int exponent = (bits & 0x7fff) >> Format::mantissa_bits;
  const int bias = (1 << (Format::exponent_bits - 1)) - 1;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - Format::mantissa_bits)
                                         : std::ldexp(mantissa + (1 << Format::mantissa_bits),
                                                      exponent - bias - Format::mantissa_bits);
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE_TEMPLATE("16-bit to float is exact for all bit patterns, and back", Format, HalfFormat,
                   BFloat16Format) {
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(from_bits<Format>(bits));
    const int magnitude = bits & 0x7fff;
    if (magnitude > infinity_bits<Format>) {
      const int quiet = bits | 1 << (Format::mantissa_bits - 1);
      wrong += !std::isnan(value) || Format::round(value).bits != quiet;
      continue;
    }
    if (magnitude == infinity_bits<Format>) {
      wrong += !std::isinf(value);
    } else {
      wrong += value != defined_value<Format>(bits);
    }
    wrong += std::signbit(value) != (bits >= 0x8000) || Format::round(value).bits != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("float to 16-bit rounds to nearest, ties to even", Format, HalfFormat,
                   BFloat16Format) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  int wrong = 0;
  // Between each number and the next; above the largest, as if infinity were the next power of two.
  for (int below = 0; below < infinity_bits<Format>; ++below) {
    const int above = below + 1;
    const auto halfway =
        static_cast<float>((defined_value<Format>(below) + defined_value<Format>(above)) / 2);
    wrong += Format::round(halfway).bits != (below % 2 == 0 ? below : above);
    wrong += Format::round(std::nextafter(halfway, 0.0F)).bits != below;
    wrong += Format::round(std::nextafter(halfway, inf)).bits != above;
    wrong += Format::round(-halfway).bits != 0x8000 + (below % 2 == 0 ? below : above);
  }
  CHECK(wrong == 0);
  CHECK(Format::round(std::numeric_limits<float>::max()).bits == infinity_bits<Format>);
  CHECK(Format::round(-inf).bits == 0x8000 + infinity_bits<Format>);
  CHECK(Format::round(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(Format::round(-std::numeric_limits<float>::denorm_min()).bits == 0x8000);
}

TEST_CASE("a NaN whose payload lies in the dropped bits stays a NaN") {
  const auto nan = std::bit_cast<float>(0xff800001U);
  CHECK(olmoe::to_half(nan).bits == 0xfe00);
  CHECK(olmoe::to_bfloat16(nan).bits == 0xffc0);
}
