#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace fdroute::inline v0::detail {

/// P(U(i) <= bounds[i-1] for some i), with U(1) <= ... <= U(n) independent uniform variables in
/// ascending order. `bounds` ascend in [0, 1) and are at most n. Absolute error about 1e-13;
/// O(n^2).
///
/// The number of points up to t is a Poisson process of rate n, given its value n at t = 1. Along
/// the bounds, `stays[j]` is the probability that the process has j points and was never at i or
/// above when it passed bounds[i-1]. Poisson increments do not depend on j, so each step is a
/// convolution, and no term is negative.
///
/// E. Khmaladze and E. Shinjikashvili, Calculation of noncrossing probabilities for Poisson
/// processes and its corollaries, Adv. Appl. Probab. 33 (2001)
inline double boundary_crossing_probability(int n, std::span<const double> bounds) {
  std::vector<double> stays(bounds.size(), 0.0);
  std::vector<double> next(bounds.size());
  std::vector<double> increment;
  if (bounds.empty()) return 0.0;
  stays[0] = 1.0;
  double reached = 0.0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const double mean = n * (bounds[i] - reached);
    reached = bounds[i];
    increment.clear();
    double probability = std::exp(-mean);
    for (std::size_t k = 0; k <= i; ++k) {
      // What is left of the tail is too small to change any sum.
      if (static_cast<double>(k) > mean && probability < 1e-30) break;
      increment.push_back(probability);
      probability *= mean / static_cast<double>(k + 1);
    }
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (std::size_t k = 0; k < std::min(j + 1, increment.size()); ++k)
        sum += stays[j - k] * increment[k];
      next[j] = sum;
    }
    std::swap(stays, next);
  }
  // log of P(n - j more points) / P(n points), the condition.
  double log_weight = n * (std::log1p(-reached) + reached);
  double probability = 0.0;
  for (std::size_t j = 0; j < bounds.size(); ++j) {
    probability += stays[j] * std::exp(log_weight);
    log_weight += std::log(static_cast<double>(n - static_cast<int>(j)) / (n * (1.0 - reached)));
  }
  return std::clamp(1.0 - probability, 0.0, 1.0);
}

}  // namespace fdroute::inline v0::detail
