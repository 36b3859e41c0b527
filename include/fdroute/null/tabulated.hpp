#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fdroute/detail/text.hpp"
#include "fdroute/null/provenance.hpp"

namespace fdroute::inline v0 {

/// TabulatedNull: a survival function P(S >= score) given on a grid of scores.
///
/// Made from one of two tables:
///
/// * `from_log_survival(score, log_sf, provenance)`: log p is linear between grid points, equal to
///   log_sf[0] below the grid, and goes on along the last segment above it, an exponential tail:
///   the strongest scores keep distinct p-values until p underflows.
/// * `from_cdf(score, cdf, provenance)`: p = 1 - cdf, cdf linear between grid points and constant
///   outside. Where the table ends at cdf = 1, all larger scores tie at p = 0: prefer the other
///   form.
///
/// Both throw std::invalid_argument when the arrays differ in length, have fewer than two points,
/// hold a non-finite value, when scores do not ascend strictly, log_sf increases, exceeds 0 or has
/// no slope in its last segment, when cdf decreases or leaves [0, 1], and when provenance.score is
/// empty. In floating point the result is monotone too: selection relies on it.
class TabulatedNull {
 public:
  static TabulatedNull from_log_survival(std::vector<double> score, std::vector<double> log_sf,
                                         NullProvenance provenance) {
    TabulatedNull null{std::move(score), std::move(log_sf), Form::log_survival,
                       std::move(provenance)};
    null.check(
        "log_sf", [](double before, double value) { return value <= before; }, "must not increase");
    if (null.value_.front() > 0.0) {
      throw std::invalid_argument("TabulatedNull: log_sf must be <= 0, got " +
                                  detail::to_text(null.value_.front()));
    }
    if (null.value_.back() == null.value_[null.value_.size() - 2]) {
      throw std::invalid_argument(
          "TabulatedNull: the last two log_sf are equal; their slope defines the tail");
    }
    return null;
  }

  static TabulatedNull from_cdf(std::vector<double> score, std::vector<double> cdf,
                                NullProvenance provenance) {
    TabulatedNull null{std::move(score), std::move(cdf), Form::cdf, std::move(provenance)};
    null.check(
        "cdf", [](double before, double value) { return value >= before; }, "must not decrease");
    if (null.value_.front() < 0.0 || null.value_.back() > 1.0) {
      throw std::invalid_argument("TabulatedNull: cdf must lie in [0, 1], got " +
                                  detail::to_text(null.value_.front()) + " .. " +
                                  detail::to_text(null.value_.back()));
    }
    return null;
  }

  /// P(S >= score); `score` may be infinite, not NaN.
  double operator()(double score) const noexcept {
    return form_ == Form::cdf ? 1.0 - interpolate(score) : std::exp(interpolate(score));
  }

  /// Name of the score it was fitted on.
  std::string_view fitted_on() const noexcept { return provenance_.score; }

  const NullProvenance& provenance() const noexcept { return provenance_; }

  /// Number of grid points.
  std::size_t size() const noexcept { return score_.size(); }

 private:
  enum class Form : std::uint8_t { log_survival, cdf };

  TabulatedNull(std::vector<double> score, std::vector<double> value, Form form,
                NullProvenance provenance)
      : score_(std::move(score)),
        value_(std::move(value)),
        provenance_(std::move(provenance)),
        form_(form) {}

  template <class InOrder>
  void check(const char* name, InOrder in_order, const char* demand) const {
    const auto fail = [](const std::string& fact) {
      throw std::invalid_argument("TabulatedNull: " + fact);
    };
    const auto at = [](const char* array, std::size_t i, double value) {
      return std::string(array) + "[" + std::to_string(i) + "] = " + detail::to_text(value);
    };
    if (provenance_.score.empty()) fail("provenance.score must name the score of the fit");
    if (score_.size() != value_.size()) {
      fail("score has " + std::to_string(score_.size()) + " points, " + name + " has " +
           std::to_string(value_.size()));
    }
    if (score_.size() < 2) fail("at least two grid points are needed");
    for (std::size_t i = 0; i < score_.size(); ++i) {
      if (!std::isfinite(score_[i])) fail(at("score", i, score_[i]) + " is not finite");
      if (!std::isfinite(value_[i])) fail(at(name, i, value_[i]) + " is not finite");
      if (i == 0) continue;
      if (!(score_[i] > score_[i - 1])) {
        fail(at("score", i, score_[i]) + " after " + detail::to_text(score_[i - 1]) +
             ": scores must ascend strictly");
      }
      if (!in_order(value_[i - 1], value_[i])) {
        fail(at(name, i, value_[i]) + " after " + detail::to_text(value_[i - 1]) + ": " + name +
             " " + demand);
      }
    }
  }

  // Fused explicitly: a compiler that may fuse would else give other bits on some machines.
  double interpolate(double score) const noexcept {
    if (score <= score_.front()) return value_.front();
    const std::size_t last = score_.size() - 1;
    if (score >= score_[last]) {
      if (form_ == Form::cdf || score == score_[last]) return value_[last];
      const double slope = (value_[last] - value_[last - 1]) / (score_[last] - score_[last - 1]);
      return std::fma(slope, score - score_[last], value_[last]);
    }
    const auto above = std::upper_bound(score_.begin(), score_.end(), score);
    const auto i = static_cast<std::size_t>(above - score_.begin()) - 1;
    const double t = (score - score_[i]) / (score_[i + 1] - score_[i]);
    const double value = std::fma(t, value_[i + 1] - value_[i], value_[i]);
    // Rounding may carry the end of a segment past the start of the next one.
    return form_ == Form::cdf ? std::min(value, value_[i + 1]) : std::max(value, value_[i + 1]);
  }

  std::vector<double> score_;
  std::vector<double> value_;
  NullProvenance provenance_;
  Form form_;
};

}  // namespace fdroute::inline v0
