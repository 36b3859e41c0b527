#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0::detail {

/// A row's logits within (-cap, cap): cap tanh(logit / cap), in double, rounded once. A logit of
/// -inf, which masks its expert, and NaN stay what they are.
class SoftCapped {
 public:
  SoftCapped(std::span<const float> logits, float cap) noexcept : size_(logits.size()) {
    const auto c = static_cast<double>(cap);
    for (std::size_t j = 0; j < size_; ++j) {
      const auto x = static_cast<double>(logits[j]);
      capped_[j] = logits[j] == -std::numeric_limits<float>::infinity()
                       ? logits[j]
                       : static_cast<float>(c * std::tanh(x / c));
    }
  }

  std::span<const float> logits() const noexcept { return {capped_.data(), size_}; }

 private:
  std::array<float, max_experts> capped_;
  std::size_t size_;
};

inline void check_cap(std::string_view name, float cap) {
  if (!(cap > 0.0F && cap <= std::numeric_limits<float>::max()))
    detail::refuse(name, ": cap must be positive and finite, got ", cap);
}

}  // namespace fdroute::inline v0::detail
