#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/config.hpp"
#include "fdroute/detail/exp_sum.hpp"
#include "fdroute/detail/lanes.hpp"

namespace fdroute::inline v0::detail {

/// Scratch memory for one number per expert, to be read 16 at a time.
struct alignas(64) LaneArray : std::array<float, max_experts> {};

constexpr int padded_to_64(int experts) noexcept {
  return (experts + 63) & -64;
}

/// A row of logits in float, -inf after its end up to a multiple of 64. The kernels below are for
/// *ordinary* rows: neither NaN nor +inf, and some logit finite. -inf, a masked expert, is
/// ordinary.
template <class Arch>
struct PaddedRow {
  float* x;  // aligned to 64 bytes, padded_to_64(experts) long
  int experts;
  int padded;  // to a multiple of 16: what the kernels read
  float largest;

  /// Returns whether the row is ordinary; only then is it complete.
  template <class T>
  bool load(const T* logits, int n) noexcept {
    using Lane = Floats<Arch>;
    experts = n;
    padded = (n + 15) & -16;
    int i = 0;
    const Lane infinity(std::numeric_limits<float>::infinity());
    Lane maximum(-std::numeric_limits<float>::infinity());
    std::uint32_t below_infinity = 0xFFFF;  // neither NaN nor +inf
    const auto take = [&](const Lane& lane) {
      below_infinity &= (infinity > lane).bits();
      maximum = larger(maximum, lane);
      lane.store(x + i);
    };
    for (; i + 16 <= n; i += 16) take(load_floats(logits + i));
    if (i < n) {
      float* to = x + i;
      std::fill(to, to + 16, -std::numeric_limits<float>::infinity());
      std::transform(logits + i, logits + n, to, [](const T& v) { return static_cast<float>(v); });
      take(Lane::load(x + i));
      i += 16;
    }
    for (; (i & 63) != 0; i += 16) Lane(-std::numeric_limits<float>::infinity()).store(x + i);
    largest = detail::largest(maximum);
    return below_infinity == 0xFFFF && largest > -std::numeric_limits<float>::infinity();
  }

  std::span<const float> logits() const noexcept { return {x, static_cast<std::size_t>(experts)}; }

 private:
  template <class T>
  static FDROUTE_INLINE Floats<Arch> load_floats(const T* from) noexcept {
    if constexpr (std::is_same_v<T, float>) {
      return Floats<Arch>::load_anywhere(from);
    } else {
      alignas(64) float converted[16];
      for (int j = 0; j < 16; ++j) converted[j] = static_cast<float>(from[j]);
      return Floats<Arch>::load(converted);
    }
  }
};

/// LogSoftmax's map, given the sum of the exps of the differences from the largest logit.
inline ScoreMap log_softmax_map(float largest, double sum) noexcept {
  const double shift = static_cast<double>(largest) + log_of_sum(sum);
  // log(1024) above the largest float can leave float's range; the map must stay finite.
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(std::min(shift, limit)), 1.0F};
}

/// ZScore's map: mean and deviation of the finite logits, in double, by sums of the differences
/// from the largest and of their squares.
///
/// One pass is safe: the largest logit c is one of the n points, so n variance >= (mean - c)^2, and
/// the subtraction mean square - squared mean multiplies the rounding error, 2^-52 or so, by at
/// most n + 1.
template <class Arch>
ScoreMap zscore_map(const PaddedRow<Arch>& row) noexcept {
  using Lane = Floats<Arch>;
  const Lane largest(row.largest);
  const Lane masked(-std::numeric_limits<float>::infinity());
  const Doubles<Arch> origin(static_cast<double>(row.largest));
  Doubles<Arch> differences(0.0);
  Doubles<Arch> squares(0.0);
  int n = 0;
  for (int i = 0; i < row.padded; i += 16) {
    const Lane x = Lane::load(row.x + i);
    const auto finite = x > masked;
    n += std::popcount(finite.bits());
    const Doubles<Arch> difference = widen(choose(finite, x, largest)) - origin;
    differences = differences + difference;
    squares = squares + difference * difference;
  }
  const double mean_difference = sum(differences) / n;
  const double variance = sum(squares) / n - rounded(mean_difference * mean_difference);
  const double inverse_sd = 1.0 / std::sqrt(std::max(variance, 0.0));
  constexpr double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(static_cast<double>(row.largest) + mean_difference),
          static_cast<float>(std::min(inverse_sd, limit))};
}

/// Any row with its finite logits, the others as masked ones: what a score reads. At least one is
/// finite.
class FiniteRow {
 public:
  explicit FiniteRow(std::span<const float> logits) noexcept {
    LaneArray finite;
    std::transform(logits.begin(), logits.end(), finite.begin(), [](float x) {
      return std::isfinite(x) ? x : -std::numeric_limits<float>::infinity();
    });
    row_.x = x_.data();
    row_.load(finite.data(), static_cast<int>(logits.size()));
  }

  const PaddedRow<ScalarArch>& operator*() const noexcept { return row_; }

 private:
  LaneArray x_;
  PaddedRow<ScalarArch> row_;
};

}  // namespace fdroute::inline v0::detail
