#pragma once

#include <cstdint>
#include <fdroute/completion.hpp>
#include <string>
#include <vector>

#include "forward/config.hpp"
#include "forward/grouping.hpp"

/// The grids `loads` and `oracle`: perplexity against experts loaded. docs/experiments.md says what
/// they compare.
namespace olmoe {

/// A policy of a family, completed or not, whose loads are counted for groups.
struct LoadsConfiguration {
  /// What completes the tokens: nothing, the best loaded experts, or as many at random. With the
  /// oracle nothing does, but experts are chosen by their outputs (OracleRouting).
  enum class Added : std::uint8_t { nothing, best, random, oracle };

  std::string family;  ///< topk, threshold or bh
  int mean = 0;        ///< experts that the policy alone selects, on average
  Grouping group;
  Added added = Added::nothing;
  fdroute::Completion completion;  ///< if something is added

  bool completes() const { return added == Added::best || added == Added::random; }
  /// "bh+best8": what a curve of the report is of; the family alone if nothing is added.
  std::string curve() const;
  /// "batch16_bh+best8_mean3", unique in the grid.
  std::string name() const;
};

/// The families of policies, in order, and what is solved for the mean: "bh:alpha=?,...".
struct LoadsFamily {
  const char* name;
  const char* policy;  ///< a `?` stands for what is solved, or is the mean itself with topk
};
const std::vector<LoadsFamily>& loads_families();

/// For batch:16, consecutive:8 and cache:16 each: top-k for k = 1 ... 8, threshold and BH at means
/// 2 ... 6, plain; all up to a mean of 6 completed within window 8, those of means 2, 3 and 4
/// within window 12, too; top-k and BH of means 2, 3 and 4 with random residents, within window 8.
/// max_k is the window. Throws Error for a model with fewer than 16 experts.
std::vector<LoadsConfiguration> loads_grid(const Config& config);

/// For each of these groups: top-k for k = 1 ... 8, plain; those up to 6 completed within window 8,
/// and with k experts chosen by the oracle. Throws as loads_grid().
std::vector<LoadsConfiguration> oracle_grid(const Config& config);

}  // namespace olmoe
