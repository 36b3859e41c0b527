#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/rule/weighted_p.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// WeightedNull: p-values divided by the experts' prior weights,
///
///     p_j = min(1, P(S >= score) / weights[j]),   1 where weights[j] = 0
///
/// in double, in [0, 1]. `weights` has shape (experts); `score` may be infinite, not NaN.
/// Benjamini-Hochberg on these p-values is the weighted procedure: experts thought to matter more
/// need less evidence, at the same false discovery rate, if the weights do not depend on the token.
/// Experts then rank by p-value, not by logit: equal p-values by the ranking's key, then by index.
/// A Router throws std::invalid_argument unless there is one weight for each of its experts, all
/// finite, at least 0 and of mean 1 (to 1e-6).
///
/// C. R. Genovese, K. Roeder and L. Wasserman, False discovery control with p-value weighting,
/// Biometrika 93 (2006), doi:10.1093/biomet/93.3.509
template <class N>
struct WeightedNull {
  static_assert(sizeof(detail::NullRequirements<N>) > 0);
  static_assert(NullDistribution<N> || !ExpertNull<N>,
                "fdroute::WeightedNull: N is a null distribution for every expert already");

  N null;
  std::vector<double> weights;  ///< (experts)

  double operator()(double score, int expert) const noexcept {
    return detail::weighted_p(null(score), weights[static_cast<std::size_t>(expert)]);
  }

  /// Name of the score that the null was fitted on.
  std::string_view fitted_on() const noexcept requires FittedNull<N> { return null.fitted_on(); }

  void validate(int experts) const {
    detail::validate_policy(null, experts);
    if (weights.size() != static_cast<std::size_t>(experts)) {
      detail::refuse("WeightedNull: ", weights.size(), " weights for ", experts, " experts");
    }
    detail::validate_p_value_weights("WeightedNull", weights);
  }
};

template <class N>
WeightedNull(N, std::vector<double>) -> WeightedNull<N>;

}  // namespace fdroute::inline v0
