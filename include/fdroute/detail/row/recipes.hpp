#pragma once

#include <cstdint>
#include <limits>

namespace fdroute::inline v0 {
struct SoftmaxWeights;
}

namespace fdroute::inline v0::detail {

// What rankings and weights do, as data: block kernels are compiled for these steps, not for the
// types of the policies (Kernel::key_recipe, Kernel::weight_recipe).

/// How keys come from logits: they are these or, if `sigmoid`, BySigmoid's, and then, if `limited`,
/// GroupLimited's.
struct KeyRecipe {
  static constexpr int most_groups = 16;  // that kernels know

  bool sigmoid = false;
  const float* bias = nullptr;  // of the sigmoids, shape (experts), or null
  bool limited = false;
  int groups = 1;  // 0: these steps are not known
  int kept = 1;
  bool sum_of_top2 = false;
  float masked = -std::numeric_limits<float>::infinity();  // not +inf, not NaN

  constexpr bool copies_logits() const noexcept { return !sigmoid && !limited && groups > 0; }

  constexpr bool has_kernel() const noexcept {
    return groups > 0 && (kept == groups || groups <= most_groups);
  }
};

/// How weights come from the logits of the selected experts.
struct WeightRecipe {
  enum class Of : std::uint8_t {
    other,    // none of these: by the policy's call operator
    sigmoid,  // or, renormalised, over the sum of the selected ones' plus epsilon
    softmax,  // exps over the sum of all experts', or, renormalised, over that of the selected
              // ones'
    mass,     // as softmax not renormalised, times mass_factor()
  };

  Of of = Of::other;
  bool renormalize = false;
  int mass_k = 0;                          // of mass
  double parameter = 0.0;                  // of sigmoid, epsilon; of mass, its exponent
  float factor = 1.0F;                     // of the product made last, in float
  const SoftmaxWeights* policy = nullptr;  // if the weights are of this type

  /// Whether they are made of exps of differences from the largest logit.
  constexpr bool of_exps() const noexcept { return of >= Of::softmax; }
};

}  // namespace fdroute::inline v0::detail
