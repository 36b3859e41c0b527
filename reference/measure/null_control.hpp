#pragma once

#include <fdroute/any_router.hpp>
#include <optional>
#include <span>

namespace olmoe {

/// The number of experts that a policy gives to rows of noise.
struct NoiseCounts {
  double mean = 0.0;
  double sd = 0.0;
  double rejecting = 0.0;  ///< share of rows on which the rule rejected anything at all
};

/// What a test-based policy selects when there is nothing to find: rows of scores drawn
/// independently from the null distribution, through the policy's own rule and bounds. What varies
/// here is noise.
///
/// A score drawn from a continuous null has a uniform p-value whatever the null, so the rows are
/// drawn from the normal one and routed by the same rule and bounds with null=normal, score=logit,
/// ranked by logit. One policy per layer; counts are averaged over the layers. Fixed seed. Nothing
/// for policies without a null.
std::optional<NoiseCounts> null_control(std::span<const fdroute::AnyRouter> routers);

}  // namespace olmoe
