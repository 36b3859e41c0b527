#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "fdroute/detail/text.hpp"

namespace fdroute::inline v0::detail {

inline void validate_deviation_rule(const char* rule, double search, double critical) {
  if (!(search > 0.0 && search < 1.0)) {
    throw std::invalid_argument(std::string(rule) + ": search must lie in (0, 1), got " +
                                to_text(search));
  }
  if (!(critical >= 0.0 && std::isfinite(critical))) {
    throw std::invalid_argument(std::string(rule) + ": critical must be finite and >= 0, got " +
                                to_text(critical));
  }
}

/// The places 1 .. n - 1 that a statistic over sorted p-values searches: 1 <= i <= search n.
constexpr int searched(double search, int n) noexcept {
  return std::min(n - 1, static_cast<int>(search * n));
}

/// The place i of the largest `statistic(p(i), i, n)` among those searched that have p(i) < i/n,
/// the last one of equals; 0 if there is none or the largest lies below `critical`.
template <class Statistic>
int strongest_deviation(std::span<const double> sorted_p, double search, double critical,
                        const Statistic& statistic) noexcept {
  const int n = static_cast<int>(sorted_p.size());
  double largest = critical;
  int place = 0;
  for (int i = 1; i <= searched(search, n); ++i) {
    const double p = sorted_p[static_cast<std::size_t>(i - 1)];
    if (!(p < static_cast<double>(i) / n)) continue;
    const double value = statistic(p, i, n);
    if (value >= largest) {
      largest = value;
      place = i;
    }
  }
  return place;
}

}  // namespace fdroute::inline v0::detail
