#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model.hpp"

namespace bench {

/// What olmoe::Model computes, as its definition has it: a loop per sum, one token at a time, on
/// one thread, from the same mapped weights. `start` positions are in the cache already.
std::vector<float> plain_forward(const olmoe::Model& model, std::span<const std::int32_t> ids,
                                 olmoe::KvCache& cache,
                                 std::span<const fdroute::AnyRouter> routers);

/// One layer's mixture of experts on one token, in the same way. x and out (hidden).
void plain_mixture(const olmoe::Model& model, std::size_t layer,
                   std::span<const fdroute::AnyRouter> routers, std::span<const float> x,
                   std::span<float> out);

}  // namespace bench
