#pragma once

#include <filesystem>

#include "sweep/sweep.hpp"

namespace olmoe {

/// Measures the grid `loads` or `oracle` and writes the results to `options.out`, which must hold
/// none: loads_full_results.json, loads_summary.csv, loads_report.md and visualizations/. It is one
/// run:
/// --shard and --resume are refused. Configurations run in parallel; the result does not depend on
/// the number of threads. Prints where the report is. Throws Error and std::invalid_argument.
void run_loads(const SweepOptions& options);

}  // namespace olmoe
