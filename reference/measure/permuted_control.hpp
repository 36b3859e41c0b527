#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <span>

#include "measure/recorded_logits.hpp"

namespace olmoe {

/// Mean and standard deviation of the number of experts over all layers' rows.
struct CountMoments {
  double mean = 0.0;
  double sd = 0.0;
};

/// What a policy gives to recorded logits and to the same logits permuted.
struct PermutedControl {
  CountMoments recorded;
  CountMoments permuted;
};

/// The control for a varying count: within each layer, every expert's logits are permuted over the
/// tokens, each expert's by itself. Each expert keeps its distribution; what a token's experts have
/// to do with each other is lost. A spread of counts that stays says nothing about tokens.
///
/// `logits` are those of one run, (layers); the model is not run again. Depends on `seed` alone,
/// not on the platform.
PermutedControl permuted_control(std::span<const fdroute::AnyRouter> routers,
                                 const RouterLogits& logits, std::uint64_t seed);

}  // namespace olmoe
