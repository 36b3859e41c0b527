#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/rule/survival_table.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/null/provenance.hpp"

namespace fdroute::inline v0 {

/// TabulatedNull: a survival function p = P(S >= score), given on a grid of n scores.
///
/// It is made from one of two tables, each of two arrays of shape (n):
///
/// * `from_log_survival(score, log_sf, provenance)`: log_sf[i] = ln P(S >= score[i]). Between grid
///   points ln p is linear, below the grid it is log_sf[0]. Above the grid it goes on along the
///   last segment, an exponential tail: the strongest scores keep distinct p-values until p
///   underflows.
/// * `from_cdf(score, cdf, provenance)`: p = 1 - cdf, cdf linear between grid points and constant
///   outside. Where the table ends at cdf = 1, all larger scores have p = 0: prefer the other form.
///
/// p lies in [0, 1] and does not increase with the score, before and after rounding: selection
/// relies on it. Interpolation and power are our own (detail/rule/survival_table.hpp), in double
/// and the same bits on every machine. The relative error of p is at most 2^-51 (1 + |ln p|) by the
/// first form, the absolute error 2^-52 by the second.
///
/// Both functions throw std::invalid_argument if the arrays differ in length, have fewer than two
/// points or hold a value that is not finite; if the scores do not ascend strictly; if log_sf
/// increases, exceeds 0 or has no slope in its last segment; if cdf decreases or leaves [0, 1]; and
/// if provenance.score is empty.
class TabulatedNull {
 public:
  /// From ln P(S >= score) at ascending scores; see the class.
  static TabulatedNull from_log_survival(std::vector<double> score, std::vector<double> log_sf,
                                         NullProvenance provenance) {
    check(
        score, "log_sf", log_sf, provenance,
        [](double before, double value) { return value <= before; }, "must not increase");
    if (log_sf.front() > 0.0) {
      detail::refuse("TabulatedNull: log_sf must be <= 0, got ", log_sf.front());
    }
    if (log_sf.back() == log_sf[log_sf.size() - 2]) {
      detail::refuse("TabulatedNull: the last two log_sf are equal; their slope defines the tail");
    }
    return {{std::move(score), std::move(log_sf), Form::log_survival}, std::move(provenance)};
  }

  /// From a cumulative distribution function at ascending scores; see the class.
  static TabulatedNull from_cdf(std::vector<double> score, std::vector<double> cdf,
                                NullProvenance provenance) {
    check(
        score, "cdf", cdf, provenance, [](double before, double value) { return value >= before; },
        "must not decrease");
    if (cdf.front() < 0.0 || cdf.back() > 1.0) {
      detail::refuse("TabulatedNull: cdf must lie in [0, 1], got ", cdf.front(), " .. ",
                     cdf.back());
    }
    return {{std::move(score), std::move(cdf), Form::cdf}, std::move(provenance)};
  }

  /// The p-value of a score, which may be infinite, not NaN.
  double operator()(double score) const noexcept { return table_(score); }

  /// Name of the score it was fitted on.
  std::string_view fitted_on() const noexcept { return provenance_.score; }

  /// Where the table comes from.
  const NullProvenance& provenance() const noexcept { return provenance_; }

  /// Number of grid points.
  std::size_t size() const noexcept { return table_.size(); }

  /// The table, for kernels that look up many scores at once (Kernel::table). Never a null pointer.
  const detail::SurvivalTable* table() const noexcept { return &table_; }

 private:
  using Form = detail::SurvivalTable::Form;

  TabulatedNull(detail::SurvivalTable table, NullProvenance provenance)
      : table_(std::move(table)), provenance_(std::move(provenance)) {}

  template <class InOrder>
  static void check(const std::vector<double>& score, const char* name,
                    const std::vector<double>& values, const NullProvenance& provenance,
                    InOrder in_order, const char* demand) {
    const auto fail = [](const std::string& fact) { detail::refuse("TabulatedNull: ", fact); };
    const auto at = [](const char* array, std::size_t i, double value) {
      return std::string(array) + "[" + std::to_string(i) + "] = " + detail::to_text(value);
    };
    if (provenance.score.empty()) fail("provenance.score must name the score of the fit");
    if (score.size() != values.size()) {
      fail("score has " + std::to_string(score.size()) + " points, " + name + " has " +
           std::to_string(values.size()));
    }
    if (score.size() < 2) fail("at least two grid points are needed");
    for (std::size_t i = 0; i < score.size(); ++i) {
      if (!std::isfinite(score[i])) fail(at("score", i, score[i]) + " is not finite");
      if (!std::isfinite(values[i])) fail(at(name, i, values[i]) + " is not finite");
      if (i == 0) continue;
      if (!(score[i] > score[i - 1])) {
        fail(at("score", i, score[i]) + " after " + detail::to_text(score[i - 1]) +
             ": scores must ascend strictly");
      }
      if (!in_order(values[i - 1], values[i])) {
        fail(at(name, i, values[i]) + " after " + detail::to_text(values[i - 1]) + ": " + name +
             " " + demand);
      }
    }
  }

  detail::SurvivalTable table_;
  NullProvenance provenance_;
};

template <>
inline constexpr Kernel kernel_of<TabulatedNull> = Kernel::table;

}  // namespace fdroute::inline v0
