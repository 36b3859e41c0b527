#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/simd/lanes.hpp"

namespace fdroute::inline v0::detail {

/// sigmoid(x) = 1 / (1 + exp(-x)) in float, within 3 ulp where it is a normal number; in [0, 1], 0
/// of -inf and 1 of +inf. Our own exp, so the same bits on every machine; NaN gives anything.
///
/// With e = exp(-|x|) it is e / (1 + e) below 0 and 1 / (1 + e) from 0 on: no power overflows, and
/// what is small keeps its digits.
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> sigmoid(const Floats<Arch, n>& x) noexcept {
  using Lane = Floats<Arch, n>;
  const Lane e = exp_of_negative<Arch>(smaller(x, Lane(0.0F) - x));
  return choose(x >= Lane(0.0F), Lane(1.0F), e) / (e + Lane(1.0F));
}

/// The sigmoid of one number; NaN of NaN.
inline float sigmoid(float x) noexcept {
  using Lane = Floats<ScalarArch, 1>;
  return x == x ? sigmoid<ScalarArch>(Lane(x)).part[0] : x;
}

/// The sum of some weights in double, by 16 lanes: lane i adds those of ranks i, i + 16, ..., and
/// the lanes are folded in halves.
inline double sum_by_rank(std::span<const float> weights) noexcept {
  Doubles<ScalarArch> lanes(0.0);
  for (std::size_t i = 0; i < weights.size(); ++i)
    lanes.part[i % 16] += static_cast<double>(weights[i]);
  return sum(lanes);
}

}  // namespace fdroute::inline v0::detail
