#include "sweep/loads_results.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fdroute/detail/number/to_text.hpp>
#include <limits>

#include "sweep/evaluation_json.hpp"
#include "sweep/provenance.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;
using fdroute::detail::to_text;

namespace {

Json mean_json(const std::optional<DocumentMean>& mean) {
  if (!mean) return nullptr;
  return {{"documents", mean->documents}, {"value", mean->value}, {"error", mean->error}};
}

std::string ratio_text(const std::optional<DocumentMean>& mean) {
  if (!mean) return ",";
  return to_text(std::exp(mean->value)) + "," + to_text(mean->error);
}

}  // namespace

LoadsRow loads_row(const LoadsConfiguration& configuration, const std::string& policy,
                   const Evaluation& evaluation) {
  const TextEvaluation& total = evaluation.total;
  LoadsRow row;
  row.configuration = configuration;
  row.policy = policy;
  row.mean_experts = total.routing.counts.mean;
  row.loads = evaluation.loads.value();
  row.losses = document_losses(total.windows, total.windows_of);
  row.perplexity = std::exp(document_mean(row.losses).value);
  return row;
}

CostCurve curve_of(const LoadsResults& results, const Grouping& group, const std::string& curve) {
  CostCurve points(std::numeric_limits<double>::infinity());
  for (const LoadsRow& row : results.rows) {
    if (row.configuration.group == group && row.configuration.curve() == curve)
      points.add(row.loads.mean, row.losses);
  }
  return points;
}

void compare(LoadsResults& results) {
  for (LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    const auto against = [&](const std::string& rival) -> std::optional<DocumentMean> {
      if (rival == c.curve()) return std::nullopt;
      const auto losses = curve_of(results, c.group, rival).at(row.loads.mean);
      if (!losses) return std::nullopt;
      return document_mean(difference(row.losses, *losses));
    };
    row.against_topk = against("topk");
    LoadsConfiguration completed = c;
    completed.family = "topk";
    if (c.added == LoadsConfiguration::Added::best)
      row.against_completed_topk = against(completed.curve());
  }
}

std::optional<DocumentMean> against_k(const LoadsResults& results, const Grouping& group,
                                      const std::string& curve, int k) {
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    if (c.group != group || c.curve() != "topk" || c.mean != k) continue;
    const auto losses = curve_of(results, group, curve).at(row.loads.mean);
    if (!losses) return std::nullopt;
    return document_mean(difference(*losses, row.losses));
  }
  return std::nullopt;
}

Json to_json(const LoadsResults& results) {
  Json json{{"schema", "fdroute-loads/1"},
            {"inputs", results.inputs},
            {"written", provenance()},
            {"rows", Json::array()}};
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    Json entry{{"name", c.name()},
               {"family", c.family},
               {"mean", c.mean},
               {"curve", c.curve()},
               {"policy", row.policy},
               {"completion", nullptr},
               {"random", c.added == LoadsConfiguration::Added::random},
               {"oracle", c.added == LoadsConfiguration::Added::oracle},
               {"perplexity", row.perplexity},
               {"mean_experts", row.mean_experts},
               {"loads", to_json(row.loads)},
               {"against_topk", mean_json(row.against_topk)},
               {"against_completed_topk", mean_json(row.against_completed_topk)},
               {"documents", row.losses}};
    if (c.completes())
      entry["completion"] = {{"window", c.completion.window}, {"max_k", c.completion.max_k}};
    json["rows"].push_back(entry);
  }
  json["unreachable"] = results.unreachable;
  return json;
}

std::string loads_csv(const LoadsResults& results) {
  std::string csv =
      "name,group,curve,mean,mean_experts,experts_loaded,bytes_per_token,tokens_per_group,"
      "perplexity,ratio_topk,nll_error_topk,ratio_completed_topk,nll_error_completed_topk\n";
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    csv += c.name() + "," + to_text(c.group) + "," + c.curve() + "," + std::to_string(c.mean) +
           "," + to_text(row.mean_experts) + "," + to_text(row.loads.mean) + "," +
           to_text(row.loads.bytes_per_token) + "," + to_text(row.loads.tokens_per_group) + "," +
           to_text(row.perplexity) + "," + ratio_text(row.against_topk) + "," +
           ratio_text(row.against_completed_topk) + "\n";
  }
  return csv;
}

}  // namespace olmoe
