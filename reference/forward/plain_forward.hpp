#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <span>
#include <vector>

#include "formats/checkpoint.hpp"
#include "forward/config.hpp"
#include "kernels/kernels.hpp"

namespace olmoe {

/// One layer's routing, as it was executed.
struct PlainRouting {
  std::vector<float> logits;          ///< (tokens, experts)
  std::vector<std::int32_t> experts;  ///< (tokens, capacity), -1 in the padding
  std::vector<float> weights;         ///< (tokens, capacity), 0 in the padding
  std::vector<std::int32_t> counts;   ///< (tokens)
};

/// What plain_forward() computes.
struct PlainResult {
  std::vector<float> logits;          ///< (tokens, vocabulary)
  std::vector<PlainRouting> routing;  ///< one per layer
};

/// The whole of OLMoE, as its definition has it: a loop per sum, one thread, no cache of keys and
/// values. Model::forward computes this from an empty cache, faster and with sums in another order.
///
/// `ids` (tokens) is one sequence from its start; `routers` holds one router per layer. With `kv`,
/// keys and values are rounded to it, to nearest, ties to even. Throws Error where Model and
/// Model::forward do, but takes weights of any element type and tensors that this config has no
/// place for.
PlainResult plain_forward(const Config& config, const Checkpoint& checkpoint,
                          std::span<const std::int32_t> ids,
                          std::span<const fdroute::AnyRouter> routers, Storage kv = Storage::f32);

}  // namespace olmoe
