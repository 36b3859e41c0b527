#pragma once

#include <cstdint>
#include <string>

#include "forward/config.hpp"
#include "kernels/kernels.hpp"

/// What a computation allocates, asked before it does. Bytes are doubles: they need not be exact,
/// and no product overflows.
namespace olmoe {

/// Bytes of this machine's main memory.
double machine_memory();

/// Throws Error, which begins with `who` and has both figures, if `bytes` are more than
/// `available`: "WHO: needs at least 68.7 GB of memory, and this machine has 25.2 GB".
void require_memory(double bytes, const std::string& who, double available = machine_memory());

/// Bytes that a model of this config allocates at least beside its mapped weights, to be opened and
/// to run `tokens` tokens: copies of vectors, tables of experts, and the activations of a chunk.
double working_memory(const Config& config, std::int64_t tokens);

/// Bytes of the keys and values of `positions` positions in all layers.
double cache_memory(const Config& config, Storage storage, std::int64_t positions);

/// Bytes of the logits and the trace of `tokens` tokens (see BatchResult).
double result_memory(const Config& config, std::int64_t tokens);

}  // namespace olmoe
