#pragma once

#include <ostream>

#include "sweep/sweep_results.hpp"

namespace olmoe {

/// What a sweep may claim, section by section as docs/experiments.md, "The plan", has them:
/// savings, equal cost, dealt counts, permuted logits, true discoveries, the best of many,
/// sensitivity.
void write_plan(std::ostream& out, const SweepResults& results);

}  // namespace olmoe
