#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace fdroute::inline v0::detail {

/// Whether a term of a sum and all after it are less than `limit`. The terms are log-concave, as
/// those of convolutions and parts of such sequences are: once they fall, they go on falling.
inline bool negligible(double term, double before, double limit) noexcept {
  return term < before && term < limit;
}

/// The probabilities of 0, 1, 2 ... points of a Poisson variable, up to `last` or to the largest
/// number whose probability is not 0 in double.
inline void poisson_probabilities(double mean, std::size_t last, std::vector<double>& out) {
  out.clear();
  double probability = std::exp(-mean);
  for (std::size_t k = 0; k <= last && probability > 0.0; ++k) {
    out.push_back(probability);
    probability *= mean / static_cast<double>(k + 1);
  }
}

/// P(U(i) <= bounds[i-1] for some i), with U(1) <= ... <= U(n) independent uniform variables in
/// ascending order. `bounds` ascend in [0, 1) and are at most n. Relative error below 1e-11 for
/// probabilities from 1e-300 on; O(n^2) but for the length of the Poisson tails.
///
/// The number of points up to t is a Poisson process of rate n, given its value n at t = 1. Along
/// the bounds, `stays[j]` is the probability that the process has j points and was never at i or
/// above when it passed bounds[i-1]. Poisson increments do not depend on j, so each step is a
/// convolution. What a step carries to i or above crosses there first: the sum of these
/// probabilities, each times that of the condition, is the result. No term is negative, so nothing
/// cancels however small the result is. (One less the probability of staying below all bounds is
/// the same number, less its first digits.)
///
/// E. Khmaladze and E. Shinjikashvili, Calculation of noncrossing probabilities for Poisson
/// processes and its corollaries, Adv. Appl. Probab. 33 (2001)
inline double boundary_crossing_probability(int n, std::span<const double> bounds) {
  const auto points = static_cast<std::size_t>(n);
  std::vector<double> stays{1.0};
  std::vector<double> next;
  std::vector<double> increment;
  double crossing = 0.0;
  double reached = 0.0;
  double log_falling = 0.0;  // log(n (n - 1) ... (n - i + 1) / n^i)
  for (std::size_t i = 1; i <= bounds.size(); ++i) {
    const double bound = std::max(bounds[i - 1], reached);
    poisson_probabilities(n * (bound - reached), points, increment);
    reached = bound;
    const auto arrives = [&](std::size_t j) {
      double sum = 0.0;
      double before = 0.0;
      const std::size_t first = j < stays.size() ? 0 : j - stays.size() + 1;
      for (std::size_t k = first; k < std::min(j + 1, increment.size()); ++k) {
        const double term = stays[j - k] * increment[k];
        sum += term;
        if (negligible(term, before, 1e-18 * sum)) break;
        before = term;
      }
      return sum;
    };

    // The condition: P(n - j more points) / P(n points), from j = i on.
    log_falling += std::log1p(-static_cast<double>(i - 1) / n);
    double condition = std::exp(
        n * reached + static_cast<double>(points - i) * std::log1p(-reached) + log_falling);
    double before = 0.0;
    for (std::size_t j = i; j <= points; ++j) {
      const double term = arrives(j) * condition;
      crossing += term;
      if (negligible(term, before, 1e-18 * crossing)) break;
      before = term;
      condition *= static_cast<double>(points - j) / (n * (1.0 - reached));
    }

    // The condition is at most e sqrt(n), so what is left out adds less than 1e-27 n^2.5 of the
    // result.
    next.clear();
    before = 0.0;
    for (std::size_t j = 0; j < i; ++j) {
      const double probability = arrives(j);
      if (negligible(probability, before, 1e-28 * crossing)) break;
      next.push_back(probability);
      before = probability;
    }
    std::swap(stays, next);
  }
  return std::min(crossing, 1.0);
}

}  // namespace fdroute::inline v0::detail
