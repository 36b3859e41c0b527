#pragma once

#include <bit>
#include <cstdint>

namespace olmoe {

/// IEEE 754 binary16, as its bits.
struct Half {
  std::uint16_t bits;
};

/// bfloat16 (the upper half of a binary32), as its bits.
struct BFloat16 {
  std::uint16_t bits;
};

/// The value of `x`. Exact for every Half and BFloat16, denormals, infinities and NaN payloads
/// included, whatever the processor's denormal mode. The float overload lets a kernel be generic
/// over the storage type.
inline float to_float(float x) {
  return x;
}

inline float to_float(BFloat16 x) {
  return std::bit_cast<float>(std::uint32_t{x.bits} << 16);
}

inline float to_float(Half x) {
  const std::uint32_t sign = (std::uint32_t{x.bits} & 0x8000u) << 16;
  // Exponent and mantissa at float's place; float's exponent bias is larger by 112.
  const std::uint32_t magnitude = (std::uint32_t{x.bits} & 0x7fffu) << 13;
  std::uint32_t result = magnitude + (112u << 23);
  if (magnitude >= 0x7c00u << 13) {
    result = magnitude | 0x7f800000u;
  } else if (magnitude < 0x0400u << 13) {
    // Denormal, m * 2^-24: under the exponent of 2^-14 it reads 2^-14 + m * 2^-24.
    result =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + (113u << 23)) - 0x1p-14f);
  }
  return std::bit_cast<float>(result | sign);
}

/// `x` rounded to nearest, ties to even; too large becomes infinity, NaN stays a (quiet) NaN with
/// its sign.
inline BFloat16 to_bfloat16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = nan ? bits | 0x00400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
  return {static_cast<std::uint16_t>(rounded >> 16)};
}

/// `x` rounded to nearest, ties to even, denormals included; too large becomes infinity, NaN stays
/// a (quiet) NaN with its sign.
inline Half to_half(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u | ((magnitude >> 13) & 0x03ffu);
  } else if (magnitude >= 143u << 23) {  // 2^16 and beyond, infinity included
    result = 0x7c00u;
  } else if (magnitude < 113u << 23) {
    // Below 2^-14 the spacing of halfs is 2^-24, that of floats in [0.5, 1): adding 0.5 rounds.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    result = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f);
  } else {
    // A carry out of the mantissa steps the exponent: 65520 and above become infinity so.
    result = (magnitude - (112u << 23) + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return {static_cast<std::uint16_t>(result | sign)};
}

}  // namespace olmoe
