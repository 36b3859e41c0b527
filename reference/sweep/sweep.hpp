#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "forward/ops.hpp"

namespace olmoe {

struct SweepOptions {
  std::filesystem::path model;
  Compute compute = Compute::f32;
  std::filesystem::path out;
  std::string grid = "bh21";       ///< bh21, frontier, loads, or a file of policy strings
  std::vector<std::string> texts;  ///< files or directories; empty: MODEL/text
  /// Development text: what nulls are fitted, parameters solved and the best of many chosen on.
  /// Empty: MODEL/development if `texts` is empty too and there is one; else the first quarter of
  /// every text, at most max_tokens / 4 of it, and what follows the quarter is evaluated.
  std::vector<std::string> calibration_texts;
  std::filesystem::path prompts;  ///< empty: default_prompts()
  std::filesystem::path nulls;    ///< empty: MODEL/nulls.safetensors if a policy needs them
  std::int64_t max_tokens = 0;    ///< predicted per text, its first ones; 0: all
  std::int64_t window = 0;        ///< 0: default_window(), at most 512
  std::int64_t stride = 0;        ///< 0: the window, which then do not overlap
  int new_tokens = 20;            ///< per prompt; 0: generate nothing
  double margin = 1.005;          ///< the perplexity ratio that a saving may cost; above 1
  int shuffles = 10;              ///< how often an adaptive policy's counts are dealt; 0: never
  int shard = 1;                  ///< this process measures of_shard(plan, shard, shards)
  int shards = 1;
  bool resume = false;
};

/// Measures every configuration of a grid and writes the results to `out`, a SweepDirectory.
///
/// Whatever can be checked is checked before any work starts. That the model's files did not change
/// is checked by size and time before each result is written, and by digest at the end of the run.
/// Each configuration is written as soon as it is finished. With `resume`, those that `out` already
/// holds are kept; a directory with results of another plan is refused, and without `resume` one
/// with any. Result files are written once no configuration is missing. Prints where they are.
/// Throws Error and std::invalid_argument.
void run_sweep(const SweepOptions& options);

}  // namespace olmoe
