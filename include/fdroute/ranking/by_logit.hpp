#pragma once

#include <algorithm>
#include <span>

#include "fdroute/ties.hpp"

namespace fdroute::inline v0 {

/// ByLogit: experts rank by their logits, key_j = logit_j. The default, and what a softmax or
/// sigmoid router without bias does.
struct ByLogit {
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }
};

}  // namespace fdroute::inline v0
