#pragma once

#include <fdroute/any_router.hpp>
#include <fdroute/null/tabulated.hpp>
#include <span>

#include "measure/recorded_logits.hpp"

namespace olmoe {

/// How many of a policy's selected experts are surely not of the null, as means over all layers'
/// rows.
struct Discoveries {
  double selected = 0.0;  ///< experts
  double at_least = 0.0;  ///< fdroute::true_discoveries() of them
};

/// What closed testing says of the experts that `routers` select on logits recorded: for each row
/// by itself the bound holds with probability 1 - alpha, however the experts were selected and
/// under any bounds, if the losers' p-values are those of `nulls` and satisfy Simes' inequality.
/// All three are by layer; the model is not run again. Throws std::invalid_argument unless alpha
/// lies in (0, 1), and as losing_scores() does.
Discoveries check_discoveries(std::span<const fdroute::AnyRouter> routers,
                              std::span<const fdroute::TabulatedNull> nulls,
                              const RouterLogits& logits, double alpha);

}  // namespace olmoe
