#pragma once

#include <algorithm>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/ties.hpp"

namespace fdroute::inline v0 {

/// ByLogit: experts rank by their logits, the default,
///
///     key_j = logit_j
///
/// as in a softmax or sigmoid router without bias. Logits and keys have shape (experts); NaN ranks
/// last. `ties` says which of two equal keys ranks first.
struct ByLogit {
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }

  /// How kernels make these keys (Kernel::key_recipe).
  constexpr detail::KeyRecipe recipe() const noexcept { return {}; }
};

template <>
inline constexpr Kernel kernel_of<ByLogit> = Kernel::key_recipe;

}  // namespace fdroute::inline v0
