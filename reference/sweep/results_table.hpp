#pragma once

#include <cstddef>
#include <string>

#include "sweep/sweep_results.hpp"

namespace olmoe {

/// The rows of a finished sweep for a terminal of so many columns: name, mean experts, perplexity,
/// the cost beside the baseline in nats per token with its error, and beside randomised top-k at
/// the row's own mean experts. What there is no room for is left out from the right; names are cut.
/// With `color`, a row that costs less than top-k at its mean experts by two errors is bold, where
/// there are enough documents to claim anything. A single document has no error.
std::string results_table(const SweepResults& results, std::size_t columns, bool color);

}  // namespace olmoe
