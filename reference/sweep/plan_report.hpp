#pragma once

#include <ostream>

#include "sweep/sweep_results.hpp"

namespace olmoe {

/// The largest saving claimed, in a paragraph, with what top-k and the threshold lose at its cost;
/// or that there is none.
void write_verdict(std::ostream& out, const SweepResults& results);

/// What a sweep may claim, section by section as docs/experiments.md, "The plan", has them:
/// savings, equal cost, dealt counts, permuted logits, true discoveries, the best of many,
/// sensitivity.
void write_plan(std::ostream& out, const SweepResults& results);

}  // namespace olmoe
