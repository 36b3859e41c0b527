#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "measure/non_inferiority.hpp"
#include "sweep/plots.hpp"
#include "sweep/sweep_plan.hpp"

namespace olmoe {

/// What dealing an adaptive policy's counts to random tokens costs.
struct DealtCost {
  DocumentMean nll;          ///< the mean over the shuffles of their nll - the policy's own
  double monte_carlo = 0.0;  ///< error of nll.value by the shuffles alone
  int shuffles = 0;
};

/// One configuration of a finished sweep. Differences are in nats per token, means over documents.
struct SweepRow {
  Configuration configuration;
  /// As stored: policy, evaluation, development, dealt, permuted, discoveries, generation.
  nlohmann::ordered_json result;

  double perplexity = 0.0;  ///< exp of the mean over documents of their nll
  double mean_experts = 0.0;
  double reduction = 0.0;  ///< 1 - mean experts / the baseline's
  bool adaptive = false;   ///< whether the number of experts varies within a layer
  /// The earlier row that this one is again: a policy that differs in max_k alone, with counts that
  /// differ in fewer than 1 % of the rows. Empty: none.
  std::string repeats{};
  DocumentMean delta{};  ///< nll - the baseline's
  /// An adaptive policy's nll - a rival's at its mean experts: randomised top-k, a fixed k for each
  /// layer, and the plain threshold and the slope rule, whose means are made equal along top-k's
  /// curve. Nothing for a fixed count (but a fitted mass_exponent), and where the rival was not
  /// measured on both sides.
  std::optional<DocumentMean> against_topk{}, against_layers{}, against_threshold{},
      against_slope{};
  /// nll - that of top-k with a fitted mass_exponent of its own, for rows with a fitted one.
  std::optional<DocumentMean> against_topk_mass{};
  std::optional<double> development{};  ///< against_topk.value on the development text
  std::optional<DealtCost> dealt{};
};

/// A finished sweep, as its directory holds it.
struct SweepResults {
  SweepPlan plan;
  std::vector<SweepRow> rows;             ///< the configurations of role Row, in the plan's order
  std::map<double, double> curve;         ///< top-k's perplexity by k
  std::map<double, double> layers_curve;  ///< with a fixed k for each layer, by mean experts
  std::optional<DocumentMean> one_less;   ///< nll of top-k with one expert less - the baseline's
  /// Configurations whose target no parameter gives, and why.
  std::vector<std::pair<Configuration, std::string>> unreachable;

  const SweepRow& baseline() const { return rows.front(); }
  /// What a saving may cost, in nats per token.
  double margin() const;
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
/// whichever processes measured it, timings and provenance() apart. Pictures come last; without
/// them everything else is there, and a warning goes to stderr if they failed. Returns the report's
/// path.
std::filesystem::path write_results(const SweepDirectory& directory);

}  // namespace olmoe
