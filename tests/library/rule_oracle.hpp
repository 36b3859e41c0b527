#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "library/oracle.hpp"

/// The written definitions of the multiple-testing rules, like oracle.hpp: sorted p-values to the
/// number of rejections, in plain code that shares nothing with fdroute.
namespace oracle {

using PValues = std::vector<double>;

inline double nth(const PValues& sorted_p, int i) {
  return sorted_p[static_cast<std::size_t>(i - 1)];
}

inline int size(const PValues& sorted_p) {
  return static_cast<int>(sorted_p.size());
}

/// #{ j : p_j <= level }.
inline int at_most(const PValues& sorted_p, double level) {
  return static_cast<int>(
      std::count_if(sorted_p.begin(), sorted_p.end(), [&](double p) { return p <= level; }));
}

inline int bonferroni(const PValues& p, double alpha) {
  return at_most(p, alpha / size(p));
}

inline int sidak(const PValues& p, double alpha) {
  return at_most(
      p, static_cast<double>(1 - std::pow(1 - static_cast<long double>(alpha), 1.0L / size(p))));
}

/// max { k : p(k) <= alpha k / (m H) }, H = 1 + 1/2 + ... + 1/m.
inline int benjamini_yekutieli(const PValues& p, double alpha) {
  const int m = size(p);
  long double harmonic = 0;
  for (int i = 1; i <= m; ++i) harmonic += 1.0L / i;
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    if (nth(p, k) <= static_cast<double>(alpha * k / (m * harmonic))) count = k;
  }
  return count;
}

/// max { k : p(k) <= alpha / (m - k + 1) }.
inline int hochberg(const PValues& p, double alpha) {
  const int m = size(p);
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    if (nth(p, k) <= alpha / (m - k + 1)) count = k;
  }
  return count;
}

/// Whether Simes' test rejects the intersection of these hypotheses.
inline bool simes(const PValues& sorted_p, double alpha) {
  for (int k = 1; k <= size(sorted_p); ++k) {
    if (nth(sorted_p, k) <= alpha * k / size(sorted_p)) return true;
  }
  return false;
}

/// The closure of Simes' test, by name: a hypothesis is rejected if Simes' test rejects every
/// intersection that it is part of. 2^m tests.
inline int hommel_by_closure(const PValues& p, double alpha) {
  int count = 0;
  for (int j = 0; j < size(p); ++j) {
    bool rejected = true;
    for (unsigned set = 0; set < (1U << p.size()); ++set) {
      if ((set >> j & 1U) == 0) continue;
      PValues members;
      for (int i = 0; i < size(p); ++i) {
        if ((set >> i & 1U) != 0) members.push_back(nth(p, i + 1));
      }
      rejected = rejected && simes(members, alpha);
    }
    count += static_cast<int>(rejected);
  }
  return count;
}

/// Hommel's own shortcut, from the largest i down.
inline int hommel(const PValues& p, double alpha) {
  const int m = size(p);
  for (int i = m; i >= 1; --i) {
    bool all_above = true;
    for (int k = 1; k <= i; ++k) all_above = all_above && nth(p, m - i + k) > alpha * k / i;
    if (all_above) return at_most(p, alpha / i);
  }
  return m;
}

/// max { k : e(k) >= m / (alpha k) } with e = kappa p^(kappa - 1), largest first.
inline int ebh(const PValues& p, double alpha, double kappa) {
  const int m = size(p);
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    const double e = kappa * std::pow(nth(p, k), kappa - 1.0);
    if (e >= m / (alpha * k)) count = k;
  }
  return count;
}

/// Benjamini-Hochberg at alpha / pi0 among the p-values up to lambda.
inline int storey(const PValues& p, double alpha, double lambda) {
  const int m = size(p);
  const double pi0 = (1.0 + (m - at_most(p, lambda))) / (m * (1.0 - lambda));
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    if (nth(p, k) <= lambda && nth(p, k) <= alpha * k / (m * pi0)) count = k;
  }
  return count;
}

inline int two_stage(const PValues& p, double alpha) {
  const int m = size(p);
  const double q = alpha / (1.0 + alpha);
  const int first = benjamini_hochberg(p, q);
  if (first == 0 || first == m) return first;
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    if (nth(p, k) < 1.0 && nth(p, k) <= q * k / (m - first)) count = k;
  }
  return count;
}

/// The i of the largest statistic among i <= search m, i < m, p(i) < i/m; the last one of equals.
template <class Statistic>
int argmax_deviation(const PValues& p, double search, double critical, Statistic statistic) {
  const int m = size(p);
  int best = 0;
  double largest = -1.0;
  for (int i = 1; i < m && i <= search * m; ++i) {
    const double x = static_cast<double>(i) / m;
    if (nth(p, i) >= x) continue;
    const double value = statistic(x, nth(p, i), m);
    if (value >= largest) {
      largest = value;
      best = i;
    }
  }
  return largest >= critical ? best : 0;
}

inline double higher_criticism_of_p(double x, double p, int m) {
  return std::sqrt(static_cast<double>(m)) * (x - p) / std::sqrt(p * (1.0 - p));
}

inline double higher_criticism_of_rank(double x, double p, int m) {
  return std::sqrt(static_cast<double>(m)) * (x - p) / std::sqrt(x * (1.0 - x));
}

inline double berk_jones(double x, double p, int m) {
  if (p == 0.0) return std::numeric_limits<double>::infinity();
  // x / p may be more than a double holds.
  return m * (x * (std::log(x) - std::log(p)) + (1.0 - x) * std::log((1.0 - x) / (1.0 - p)));
}

/// #{ j : 1 / f(p_j) <= alpha }, f the left slope of the least concave majorant of the empirical
/// distribution function, built vertex by vertex.
inline int local_fdr(const PValues& p, double alpha) {
  const int m = size(p);
  int from = 0;  // a vertex of the majorant: (p(from), from / m), with p(0) = 0
  const auto at = [&](int i) { return i == 0 ? 0.0 : nth(p, i); };
  while (from < m) {
    // The steepest way up from here, the farthest of equals.
    int to = from;
    double slope = -1.0;
    for (int i = from + 1; i <= m; ++i) {
      const double run = at(i) - at(from);
      const double rise = static_cast<double>(i - from) / m;
      const double way = run > 0.0 ? rise / run : std::numeric_limits<double>::infinity();
      if (way >= slope) {
        slope = way;
        to = i;
      }
    }
    if (!(1.0 / slope <= alpha)) break;
    from = to;
  }
  return from;
}

}  // namespace oracle
