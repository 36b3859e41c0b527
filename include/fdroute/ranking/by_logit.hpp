#pragma once

#include <algorithm>
#include <span>

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
};

}  // namespace fdroute::inline v0
