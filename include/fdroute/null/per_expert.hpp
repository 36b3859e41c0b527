#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// PerExpertNull: a null distribution for each expert,
///
///     p_j = P(S_j >= score) = nulls[j](score)
///
/// for experts whose logits differ in level or spread. `nulls` has shape (experts); `score` may be
/// infinite, not NaN; p_j lies in [0, 1]. Experts then rank by p-value, not by logit: equal
/// p-values by the ranking's key, then by index. A Router throws std::invalid_argument unless there
/// is one null for each of its experts, each null is valid, and all were fitted on the same score.
template <class N>
struct PerExpertNull {
  static_assert(sizeof(detail::NullRequirements<N>) > 0);
  static_assert(NullDistribution<N> || !ExpertNull<N>,
                "fdroute::PerExpertNull: N is a null distribution for every expert already");

  std::vector<N> nulls;  ///< (experts)

  double operator()(double score, int expert) const noexcept {
    return nulls[static_cast<std::size_t>(expert)](score);
  }

  /// Name of the score that the nulls were fitted on.
  std::string_view fitted_on() const noexcept requires FittedNull<N> {
    return nulls.front().fitted_on();
  }

  void validate(int experts) const {
    if (nulls.size() != static_cast<std::size_t>(experts)) {
      detail::refuse("PerExpertNull: ", nulls.size(), " nulls for ", experts, " experts");
    }
    for (std::size_t j = 0; j < nulls.size(); ++j) {
      detail::validate_policy(nulls[j], experts);
      if constexpr (FittedNull<N>) {
        const std::string_view score = nulls[j].fitted_on();
        if (score != fitted_on()) {
          detail::refuse("PerExpertNull: null 0 was fitted on score ", detail::Quoted{fitted_on()},
                         ", null ", j, " on ", detail::Quoted{score});
        }
      }
    }
  }
};

}  // namespace fdroute::inline v0
