#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0::detail {

constexpr int padded_to(int multiple, int experts) noexcept {
  return (experts + multiple - 1) / multiple * multiple;
}

/// A score's map, if it keeps the order of the logits; otherwise the process ends with a message.
FDROUTE_INLINE ScoreMap checked(const ScoreMap& map) noexcept {
  constexpr float limit = std::numeric_limits<float>::max();
  expects(map.scale > 0.0F && map.scale <= limit && std::abs(map.shift) <= limit,
          "a score's scale is positive and finite, its shift finite");
  return map;
}

/// LogSoftmax's map, given the logarithm of the sum of the exps of the differences from the largest
/// logit.
FDROUTE_INLINE ScoreMap log_softmax_map(float largest, double log) noexcept {
  const double shift = static_cast<double>(largest) + log;
  // log(1024) above the largest float can leave float's range; the map must stay finite.
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(std::min(shift, limit)), 1.0F};
}

/// The number of some logits, the sum of their differences from an origin, and of the squares.
template <class V>
struct Moments {
  V n;
  V sum;
  V squares;
};

/// The moments of a row's finite logits, about 0. The row is `padded` long, a multiple of 16; the
/// padding is -inf. Any other -inf makes the squares infinite.
template <class Arch>
FDROUTE_INLINE Moments<double> moments(const float* x, int experts, int padded) noexcept {
  using Lane = Floats<Arch>;
  Doubles<Arch> sums(0.0);
  Doubles<Arch> squares(0.0);
  const auto add = [&](const Lane& lane) FDROUTE_INLINED {
    const Doubles<Arch> at = widen(lane);
    sums = sums + at;
    squares = add_exact_product(at, at, squares);
  };
  int i = 0;
  for (; i + 16 <= experts; i += 16) add(Lane::load_anywhere(x + i));
  int n = experts;
  if (i < padded) {
    const Lane rest = Lane::load_anywhere(x + i);
    const auto finite = rest > Lane(-std::numeric_limits<float>::infinity());
    n = i + std::popcount(finite.bits());
    add(choose(finite, rest, Lane(0.0F)));
  }
  return {static_cast<double>(n), sum(sums), sum(squares)};
}

/// The moments of a row's finite logits about the largest one, with any number of -inf.
///
/// One pass is safe: the largest logit c is one of the n points, so n variance >= (mean - c)^2, and
/// the subtraction mean square - squared mean multiplies the rounding error, 2^-52 or so, by at
/// most n + 1.
template <class Arch>
FDROUTE_INLINE Moments<double> moments_about(float largest, const float* x, int padded) noexcept {
  using Lane = Floats<Arch>;
  const Doubles<Arch> origin(static_cast<double>(largest));
  Doubles<Arch> sums(0.0);
  Doubles<Arch> squares(0.0);
  int n = 0;
  for (int i = 0; i < padded; i += 16) {
    const Lane at = Lane::load_anywhere(x + i);
    const auto finite = at > Lane(-std::numeric_limits<float>::infinity());
    n += std::popcount(finite.bits());
    const Doubles<Arch> difference = widen(choose(finite, at, Lane(largest))) - origin;
    sums = sums + difference;
    squares = squares + difference * difference;
  }
  return {static_cast<double>(n), sum(sums), sum(squares)};
}

/// Mean, mean squared deviation and the inverse of its root; V is double or Doubles.
template <class V>
struct Deviation {
  V mean;
  V variance;
  V inverse_sd;

  FDROUTE_INLINE explicit Deviation(const Moments<V>& sums) noexcept
      : mean(sums.sum / sums.n),
        variance(sums.squares / sums.n - product(mean, mean)),
        inverse_sd(V(1.0) / square_root(larger(variance, V(0.0)))) {}
};

/// ZScore's map: both rounded to float, the second at most to the largest one.
FDROUTE_INLINE ScoreMap zscore_map(double mean, double inverse_sd) noexcept {
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(mean), static_cast<float>(std::min(inverse_sd, limit))};
}

/// A variance from moments about 0 has lost at most 16 bits to the mean, of 52. Not true of any
/// with an infinity or NaN.
FDROUTE_INLINE bool accurate(double mean, double variance) noexcept {
  return mean * mean <= 0x1p16 * variance && variance <= std::numeric_limits<double>::max();
}

/// ZScore's map by moments about the largest logit.
template <class Arch>
FDROUTE_INLINE ScoreMap careful_zscore_map(const float* x, int padded, float largest) noexcept {
  const Deviation<double> about(moments_about<Arch>(largest, x, padded));
  return zscore_map(static_cast<double>(largest) + about.mean, about.inverse_sd);
}

/// ZScore's map, in double by sums of the logits and of their squares, or, where that is not
/// accurate, by those of the differences from the largest. `x` is `padded` long, a multiple of 16;
/// the padding is -inf.
template <class Arch>
FDROUTE_INLINE ScoreMap zscore_map(const float* x, int experts, int padded,
                                   float largest) noexcept {
  const Deviation<double> row(moments<Arch>(x, experts, padded));
  if (!accurate(row.mean, row.variance)) return careful_zscore_map<Arch>(x, padded, largest);
  return zscore_map(row.mean, row.inverse_sd);
}

/// The finite logits of any row, the others as masked ones, -inf after the end: what a score reads.
/// At least one is finite.
class FiniteRow {
 public:
  explicit FiniteRow(std::span<const float> logits) noexcept
      : experts_(static_cast<int>(logits.size())), padded_(padded_to(16, experts_)) {
    const float masked = -std::numeric_limits<float>::infinity();
    std::transform(logits.begin(), logits.end(), x_.begin(),
                   [=](float x) { return std::isfinite(x) ? x : masked; });
    // Not by max_element: g++ 16 warns that it may read an empty row.
    largest_ = std::accumulate(x_.begin(), x_.begin() + experts_, masked,
                               [](float x, float y) { return std::max(x, y); });
    std::fill(x_.begin() + experts_, x_.begin() + padded_, masked);
  }

  ScoreMap log_softmax() const noexcept {
    alignas(64) std::array<float, max_experts> exps;
    const double sum = exp_sum<ScalarArch>(x_.data(), padded_, largest_, exps.data());
    return log_softmax_map(largest_, log_of_sum(sum));
  }

  ScoreMap zscore() const noexcept {
    return zscore_map<ScalarArch>(x_.data(), experts_, padded_, largest_);
  }

 private:
  alignas(64) std::array<float, max_experts> x_;
  int experts_;
  int padded_;
  float largest_;
};

}  // namespace fdroute::inline v0::detail
