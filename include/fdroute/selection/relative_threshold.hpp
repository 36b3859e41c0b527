#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/rounded_sum.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// RelativeThreshold: the experts at least t times as probable as the most probable one.
///
///     count = #{ j : P_j >= t P(1) } = #{ j : logit_j >= largest logit + log t }
///
/// with P the softmax over all m experts and P(1) its largest value. The second form is computed,
/// with the natural log t in double and no other rounding. The count lies in [1, m]: NaN and -inf
/// never count beside a finite logit, and beside a logit of +inf only its equals do. `t` lies in
/// (0, 1]; a Router throws std::invalid_argument otherwise.
struct RelativeThreshold {
  double t = 0.1;

  /// The count of a token whose logits, shape (m), descend, NaN last.
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const float least = detail::rounded_up_sum(sorted_logits.front(), margin());
    return static_cast<int>(
        std::ranges::count_if(sorted_logits, [=](float logit) { return logit >= least; }));
  }

  /// How far the selected logits reach below the largest: see Kernel::margin.
  double margin() const noexcept { return std::log(t); }

  void validate(int) const {
    if (!(t > 0.0 && t <= 1.0)) {
      detail::refuse("RelativeThreshold: t must lie in (0, 1], got ", t);
    }
  }
};

template <>
inline constexpr Kernel kernel_of<RelativeThreshold> = Kernel::margin;

}  // namespace fdroute::inline v0
