#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/rule/strongest_deviation.hpp"

namespace fdroute::inline v0 {

/// HigherCriticism: cut where the p-values deviate most, in standard units, from uniform ones.
///
///     HC(i) = sqrt(m) (i/m - p(i)) / sqrt(v(i)),   v(i) = i/m (1 - i/m)      Deviation::of_rank
///                                                       = p(i) (1 - p(i))    Deviation::of_p
///     count = argmax { HC(i) : i <= search m, i < m, p(i) < i/m },  the last i of equals;
///             0 if there is none or its HC is below `critical`
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, search m]. HC is computed in
/// double, within a relative 1e-15; p = 0 has an infinite HC of_p. Without a gate
/// (`critical` = 0) noise is cut as readily as signal: some p(i) nearly always lies below i/m.
/// critical_statistic() gives the gate that noise passes with a given probability.
///
/// `search` lies in (0, 1); `critical` is finite and at least 0. A Router throws
/// std::invalid_argument otherwise.
///
/// of_rank, and the cut at the argmax, are those of D. Donoho and J. Jin, Higher criticism
/// thresholding, PNAS 105 (2008), doi:10.1073/pnas.0807471105. of_p is the statistic HC* of the
/// same authors' Higher criticism for detecting sparse heterogeneous mixtures, Ann. Stat. 32
/// (2004), doi:10.1214/009053604000000265, a test of the whole row: to cut at the argmax of HC* is
/// in neither paper, but fdroute's combination. As a router it is degenerate: a tiny p(1) has a
/// huge HC*(1), so nearly every token gets one expert. (HC+ of 2004 also leaves out p-values below
/// 1/m: a router's strongest experts. It is not offered.)
struct HigherCriticism {
  /// Which v(i) the deviation is divided by: that of the rank i or that of p(i).
  enum class Deviation : std::uint8_t { of_rank, of_p };

  double search = 0.5;
  Deviation deviation = Deviation::of_rank;
  double critical = 0.0;

  int operator()(std::span<const double> sorted_p) const noexcept {
    return detail::strongest_deviation(
        sorted_p, search, critical, [this](double p, int i, int m) { return statistic(p, i, m); });
  }

  /// The count by vectors of an Arch, with the call operator's result: see Kernel::vectors_of_p.
  /// `sorted_p` is aligned to 64 bytes and holds the reads(experts) smallest p-values, ascending,
  /// filled up to a multiple of 16.
  template <class Arch>
  FDROUTE_INLINE int count(const double* sorted_p, int experts) const noexcept {
    return detail::strongest_deviation<Arch>(
        sorted_p, experts, search, critical,
        [&](const auto& p, const auto& share, double root_of_m) FDROUTE_INLINED {
          return statistic_of(p, share, std::remove_cvref_t<decltype(p)>(root_of_m));
        });
  }

  /// How many of the smallest p-values the count depends on.
  constexpr int reads(int experts) const noexcept { return detail::searched(search, experts); }

  /// HC(i) of p(i) = p, for 0 <= p < i/m.
  double statistic(double p, int i, int m) const noexcept {
    return statistic_of(p, static_cast<double>(i) / m, std::sqrt(static_cast<double>(m)));
  }

  /// The largest p(i) whose HC(i) is at least `value`; 0 if there is none.
  double boundary(double value, int i, int m) const noexcept {
    const double x = static_cast<double>(i) / m;
    const double s = value / std::sqrt(static_cast<double>(m));
    if (deviation == Deviation::of_rank) return std::fmax(0.0, x - s * std::sqrt(x * (1.0 - x)));
    // The smaller root of (x - p)^2 = s^2 p (1 - p), with x and s over c: s^4 may overflow.
    const double c = std::fmax(s, 1.0);
    const double a = s / c;
    const double b = x / c;
    return 2.0 * (b * b) / (2.0 * b / c + a * (a + std::sqrt(a * a + 4.0 * (b / c) * (1.0 - x))));
  }

  void validate(int) const { detail::validate_deviation_rule("HigherCriticism", search, critical); }

 private:
  // sqrt(m) last: v/m would underflow where v is subnormal.
  template <class V>
  FDROUTE_INLINE V statistic_of(const V& p, const V& share, const V& root_of_m) const noexcept {
    const V& of = deviation == Deviation::of_p ? p : share;
    return detail::product(root_of_m, (share - p) / detail::square_root(of * (V(1.0) - of)));
  }
};

template <>
inline constexpr Kernel kernel_of<HigherCriticism> = Kernel::vectors_of_p;

}  // namespace fdroute::inline v0
