#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/config.hpp"
#include "fdroute/detail/exp_sum.hpp"
#include "fdroute/detail/lanes.hpp"

namespace fdroute::inline v0::detail {

constexpr int padded_to(int multiple, int experts) noexcept {
  return (experts + multiple - 1) / multiple * multiple;
}

/// LogSoftmax's map, given the logarithm of the sum of the exps of the differences from the largest
/// logit.
FDROUTE_INLINE ScoreMap log_softmax_map(float largest, double log) noexcept {
  const double shift = static_cast<double>(largest) + log;
  // log(1024) above the largest float can leave float's range; the map must stay finite.
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(std::min(shift, limit)), 1.0F};
}

struct Moments {
  double differences = 0.0;  // sum of x - largest
  double squares = 0.0;      // and of their squares
  int n = 0;
};

/// The moments of the finite ones among `padded` logits, a multiple of 16. With `masked` false, the
/// first `n` of them must all be finite; otherwise the result is not.
template <class Arch, bool masked>
FDROUTE_INLINE Moments moments(const float* x, int padded, float largest, int n) noexcept {
  using Lane = Floats<Arch>;
  const Lane infinity(std::numeric_limits<float>::infinity());
  const Lane zero(0.0F);
  const Doubles<Arch> origin(static_cast<double>(largest));
  Doubles<Arch> differences(0.0);
  Doubles<Arch> squares(0.0);
  Moments result;
  result.n = n;
  for (int i = 0; i < padded; i += 16) {
    Lane at = Lane::load_anywhere(x + i);
    if constexpr (masked) {
      const auto finite = at > zero - infinity;
      result.n += std::popcount(finite.bits());
      at = choose(finite, at, Lane(largest));
    }
    const Doubles<Arch> difference = widen(at) - origin;
    differences = differences + difference;
    squares = squares + difference * difference;
  }
  result.differences = sum(differences);
  result.squares = sum(squares);
  return result;
}

/// ZScore's map: mean and deviation of the finite logits, in double, by sums of the differences
/// from the largest and of their squares. `x` is `padded` long, a multiple of 16; the padding is
/// -inf.
///
/// One pass is safe: the largest logit c is one of the n points, so n variance >= (mean - c)^2, and
/// the subtraction mean square - squared mean multiplies the rounding error, 2^-52 or so, by at
/// most n + 1.
template <class Arch>
FDROUTE_INLINE ScoreMap zscore_map(const float* x, int experts, int padded,
                                   float largest) noexcept {
  Moments sums;
  sums.squares = std::numeric_limits<double>::infinity();
  if (experts == padded) sums = moments<Arch, false>(x, padded, largest, experts);
  // A logit was -inf.
  if (!(sums.squares < std::numeric_limits<double>::infinity()))
    sums = moments<Arch, true>(x, padded, largest, 0);
  const double mean_difference = sums.differences / sums.n;
  const double variance = sums.squares / sums.n - rounded(mean_difference * mean_difference);
  const double inverse_sd = 1.0 / std::sqrt(std::max(variance, 0.0));
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(static_cast<double>(largest) + mean_difference),
          static_cast<float>(std::min(inverse_sd, limit))};
}

/// The finite logits of any row, the others as masked ones, -inf after the end: what a score reads.
/// At least one is finite.
class FiniteRow {
 public:
  explicit FiniteRow(std::span<const float> logits) noexcept
      : experts_(static_cast<int>(logits.size())), padded_(padded_to(16, experts_)) {
    constexpr float masked = -std::numeric_limits<float>::infinity();
    std::transform(logits.begin(), logits.end(), x_.begin(),
                   [](float x) { return std::isfinite(x) ? x : masked; });
    largest_ = *std::max_element(x_.begin(), x_.begin() + experts_);
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
