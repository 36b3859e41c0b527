#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>

#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/rule/survival_table.hpp"
#include "fdroute/limits.hpp"

// What SoftmaxWeights with a mass_exponent are made of, for the definition and for the kernels.

namespace fdroute::inline v0::detail {

/// (most / kept)^exponent exp(-(1 - exponent) gap), in double, for sums of fixed_point() in
/// [1, 1024] and a gap >= 0: exactly 1 for equal sums and no gap. Within a relative 2^-38. Every
/// operation is the same on every machine; V is double or Doubles.
template <class V>
FDROUTE_INLINE V mass_factor(const V& most, const V& kept, const V& gap, double exponent) noexcept {
  constexpr double log2_of_e = 0x1.71547652b82fep0;
  const V lost = product(log_of_sum(most) - log_of_sum(kept), V(exponent * log2_of_e));
  const V level = lost - product(gap, V((1.0 - exponent) * log2_of_e));
  // At most 2^10, and power_of_two() takes no exponent above 0.
  return power_of_two(level - V(10.0)) * V(1024.0);
}

/// How far the largest of the selected logits is below the row's largest, where it matters: at
/// exponent 1 it does not.
inline double mass_gap(float largest, float largest_selected, double temperature,
                       double exponent) noexcept {
  if (largest == largest_selected || exponent == 1.0) return 0.0;
  return (static_cast<double>(largest) - static_cast<double>(largest_selected)) / temperature;
}

/// The sum of the k largest logits' numerators, as fixed points. k is at least 1; more than there
/// are means all. `numerator_of(j)` is expert j's, in [0, 1]; of equal logits it is equal.
template <class NumeratorOf>
double sum_of_largest(std::span<const float> logits, int k,
                      const NumeratorOf& numerator_of) noexcept {
  std::array<float, max_experts> numbers;
  const auto number = [](float x) {
    return std::isnan(x) ? -std::numeric_limits<float>::infinity() : x;
  };
  const auto n = static_cast<std::ptrdiff_t>(logits.size());
  const auto kth = std::min(static_cast<std::ptrdiff_t>(k), n) - 1;
  std::transform(logits.begin(), logits.end(), numbers.begin(), number);
  std::nth_element(numbers.begin(), numbers.begin() + kth, numbers.begin() + n,
                   std::greater<float>());
  const float least = numbers[static_cast<std::size_t>(kth)];
  double sum = 0.0;
  double of_least = 0.0;
  std::ptrdiff_t equal = kth + 1;  // those of the k that are not larger than the least
  for (std::size_t j = 0; j < logits.size(); ++j) {
    const float x = number(logits[j]);
    if (!(x >= least)) continue;
    const double numerator = fixed_point(static_cast<double>(numerator_of(j)));
    if (x == least) {
      of_least = numerator;
    } else {
      sum += numerator;
      --equal;
    }
  }
  return sum + product(of_least, static_cast<double>(equal));
}

}  // namespace fdroute::inline v0::detail
