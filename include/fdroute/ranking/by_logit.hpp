#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace fdroute::inline v0 {

/// Which of two experts with equal keys ranks first.
enum class TieOrder : std::uint8_t {
  lowest_index,
  highest_index,
};

/// ByLogit: experts rank by their logits, key_j = logit_j. The default, and what a softmax or
/// sigmoid router without bias does.
struct ByLogit {
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }
};

}  // namespace fdroute::inline v0
