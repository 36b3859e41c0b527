#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <span>

#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0::detail {

inline void validate_deviation_rule(const char* rule, double search, double critical) {
  if (!(search > 0.0 && search < 1.0)) {
    refuse(rule, ": search must lie in (0, 1), got ", search);
  }
  if (!(critical >= 0.0 && std::isfinite(critical))) {
    refuse(rule, ": critical must be finite and >= 0, got ", critical);
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

/// strongest_deviation() by vectors: `statistic(p, i/n, sqrt(n))` of vectors p and i/n has the bits
/// of the scalar one. `sorted_p` is aligned to 64 bytes, and its searched places are filled up to a
/// multiple of 16.
template <class Arch, class Statistic>
FDROUTE_INLINE int strongest_deviation(const double* sorted_p, int n, double search,
                                       double critical, const Statistic& statistic) noexcept {
  using Lane = Doubles<Arch>;
  alignas(64) static constexpr std::array<double, 16> numbers = {1, 2,  3,  4,  5,  6,  7,  8,
                                                                 9, 10, 11, 12, 13, 14, 15, 16};
  const int last = searched(search, n);
  const Lane all(static_cast<double>(n));
  const double root_of_n = std::sqrt(static_cast<double>(n));
  double largest_yet = critical;
  int place = 0;
  for (int from = 0; from < last; from += 16) {
    const Lane i = Lane::load(numbers.data()) + Lane(static_cast<double>(from));
    const Lane share = i / all;
    const Lane p = Lane::load(sorted_p + from);
    const auto is_searched = Lane(static_cast<double>(last)) >= i;
    const auto counts = choose(is_searched, share, Lane(0.0)) > p;
    const Lane value = choose(counts, statistic(p, share, root_of_n), Lane(-1.0));
    const double most = largest(value);
    const bool reached = most >= largest_yet;
    const int at = from + static_cast<int>(std::bit_width((value == Lane(most)).bits()));
    largest_yet = reached ? most : largest_yet;
    place = reached ? at : place;
  }
  return place;
}

}  // namespace fdroute::inline v0::detail
