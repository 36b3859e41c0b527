#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "measure/estimates.hpp"
#include "sweep/plots.hpp"
#include "sweep/sweep_plan.hpp"

namespace olmoe {

/// One configuration of a finished sweep.
struct SweepRow {
  Configuration configuration;
  /// As stored: policy, evaluation, dealt, null_control, generation.
  nlohmann::ordered_json result;

  double perplexity = 0.0;
  double mean_experts = 0.0;
  double reduction = 0.0;  ///< 1 - mean experts / the baseline's
  bool adaptive = false;   ///< whether the number of experts varies at all
  /// An adaptive policy's perplexity over top-k's at its mean experts. Nothing for a fixed count,
  /// and where top-k was not measured on both sides.
  std::optional<Estimate> ratio;
  std::optional<Estimate> dealt_ratio;  ///< the dealt counts' perplexity over the policy's own
};

/// A finished sweep, as its directory holds it.
struct SweepResults {
  SweepPlan plan;
  std::vector<SweepRow> rows;   ///< the configurations of role Row, in the plan's order
  std::map<int, double> curve;  ///< top-k's perplexity by k
  /// Configurations whose target no parameter gives, and why.
  std::vector<std::pair<Configuration, std::string>> unreachable;

  const SweepRow& baseline() const { return rows.front(); }
};

/// Reads all configurations of a sweep. Throws Error, naming those that are missing, if it is not
/// finished.
SweepResults read_results(const SweepDirectory& directory);

/// The summary table, a line per row.
std::string summary_csv(const SweepResults& results);

/// Everything: plan, rows with all metrics, top-k curve.
nlohmann::ordered_json full_results(const SweepResults& results);

/// Generation speed, a line per row: tokens per second over all prompts, and quartiles over prompts
/// of time per token relative to the baseline, which was timed by turns with the policy.
std::string timings_csv(const SweepResults& results, const SweepDirectory& directory);

/// The report, Markdown; `pictures` says what became of them.
std::string report(const SweepResults& results, Pictures pictures);

PlotData plot_data(const SweepResults& results);

/// Writes the result files of a finished sweep from what its directory holds: the same bytes
/// whichever processes measured it, timings apart. Pictures come last; without them everything else
/// is there, and a warning goes to stderr if they failed. Returns the report's path.
std::filesystem::path write_results(const SweepDirectory& directory);

}  // namespace olmoe
