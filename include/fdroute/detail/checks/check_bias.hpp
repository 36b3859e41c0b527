#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0::detail {

/// Throws unless `bias`, a selection bias of the ranking `name`, is empty or has a value for every
/// expert, each finite or -inf and not all -inf.
inline void check_bias(std::string_view name, std::span<const float> bias, int experts) {
  constexpr float masked = -std::numeric_limits<float>::infinity();
  if (!bias.empty() && bias.size() != static_cast<std::size_t>(experts)) {
    detail::refuse(name, ": bias has ", bias.size(), " values for ", experts, " experts");
  }
  bool any_finite = bias.empty();
  for (std::size_t j = 0; j < bias.size(); ++j) {
    if (!(bias[j] <= std::numeric_limits<float>::max())) {
      detail::refuse(name, ": bias[", j, "] must be finite or -inf, got ", bias[j]);
    }
    any_finite |= bias[j] > masked;
  }
  if (!any_finite) detail::refuse(name, ": every bias is -inf");
}

}  // namespace fdroute::inline v0::detail
