#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "measure/equal_cost.hpp"
#include "measure/evaluation.hpp"
#include "measure/non_inferiority.hpp"
#include "sweep/loads_grid.hpp"
#include "sweep/plots.hpp"

/// What a sweep of the grid `loads` found.
namespace olmoe {

/// One configuration, measured.
struct LoadsRow {
  LoadsConfiguration configuration;
  std::string policy;         ///< in full, as it ran
  double perplexity = 0.0;    ///< exp of the mean over documents of their nll
  double mean_experts = 0.0;  ///< executed, per token and layer
  ExpertLoads loads;
  DocumentLosses losses;
  /// nll - that of plain top-k, and of top-k completed alike, at the same loads; nothing where that
  /// was not measured on both sides.
  std::optional<DocumentMean> against_topk{}, against_completed_topk{};
};

LoadsRow loads_row(const LoadsConfiguration& configuration, const std::string& policy,
                   const Evaluation& evaluation);

struct LoadsResults {
  nlohmann::ordered_json inputs;  ///< as in a SweepPlan
  std::vector<LoadsRow> rows;
  /// Configurations whose mean no parameter gives, and why.
  std::map<std::string, std::string> unreachable;
};

/// By loads, the losses of the rows of a group with this curve().
CostCurve curve_of(const LoadsResults& results, const Grouping& group, const std::string& curve);

/// Fills in the rows' comparisons.
void compare(LoadsResults& results);

/// A curve's nll - that of plain top-k with k experts, at the loads of the latter. Nothing where
/// the curve was not measured on both sides.
std::optional<DocumentMean> against_k(const LoadsResults& results, const Grouping& group,
                                      const std::string& curve, int k);

nlohmann::ordered_json to_json(const LoadsResults& results);
std::string loads_csv(const LoadsResults& results);
std::string loads_report(const LoadsResults& results, Pictures pictures);

/// A panel a group: perplexity against experts loaded. A script for write_script().
std::string loads_script(const LoadsResults& results, const std::string& stem);

}  // namespace olmoe
