#include "sweep/evaluation_json.hpp"

#include <optional>

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json counts_json(const CountStatistics& counts) {
  return {{"rows", counts.rows},
          {"mean", counts.mean},
          {"std", counts.std},
          {"min", counts.min},
          {"max", counts.max},
          {"floor_rate", counts.floor_rate},
          {"ceiling_rate", counts.ceiling_rate},
          {"histogram", counts.histogram}};
}

Json routing_json(const RoutingStatistics& routing) {
  Json layers = Json::array();
  for (const LayerStatistics& layer : routing.layers) {
    layers.push_back(
        {{"experts", counts_json(layer.counts)},
         {"load", {{"share", layer.load.share}, {"cv", layer.load.cv}, {"gini", layer.load.gini}}},
         {"weight_mass", layer.weight_mass}});
  }
  return {{"experts", counts_json(routing.counts)},
          {"load_cv", routing.load_cv},
          {"load_gini", routing.load_gini},
          {"weight_mass", routing.weight_mass},
          {"expert_bytes_per_token", routing.expert_bytes_per_token},
          {"layers", layers}};
}

Json text_json(const TextEvaluation& text) {
  Json json;
  json["name"] = text.name;
  json["predicted_tokens"] = text.predicted_tokens;
  json["nll"] = to_json(text.nll);
  json["perplexity"] = to_json(text.perplexity);
  json["baseline"] = nullptr;
  if (text.baseline) {
    json["baseline"] = {
        {"argmax_agreement", text.baseline->argmax_agreement},
        {"kl", text.baseline->kl},
        {"nll_difference", to_json(text.baseline->nll_difference)},
        {"nll_difference_by_windows", to_json(text.baseline->nll_difference_by_windows)}};
  }
  return json;
}

}  // namespace

Json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"error", optional_json(estimate.error)}};
}

Json to_json(const ExpertLoads& loads) {
  return {{"group", to_text(loads.grouping)},
          {"groups", loads.groups},
          {"tokens_per_group", loads.tokens_per_group},
          {"mean", loads.mean},
          {"layers", loads.layers},
          {"bytes_per_token", loads.bytes_per_token}};
}

Json to_json(const Evaluation& evaluation) {
  Json json;
  json["total"] = text_json(evaluation.total);
  json["total"]["routing"] = routing_json(evaluation.total.routing);
  if (evaluation.loads) json["total"]["loads"] = to_json(*evaluation.loads);
  json["macro_nll"] = evaluation.macro_nll;
  json["macro_perplexity"] = evaluation.macro_perplexity;
  json["domains"] = Json::array();
  for (const TextEvaluation& domain : evaluation.domains) {
    Json entry = text_json(domain);
    entry["experts"] = counts_json(domain.routing.counts);
    entry["windows"] = Json::array();
    for (const WindowSum& window : domain.windows)
      entry["windows"].push_back(Json::array({window.tokens, window.sum}));
    entry["documents"] = domain.windows_of;
    json["domains"].push_back(entry);
  }
  return json;
}

Json to_json(const CountMoments& moments) {
  return {{"mean", moments.mean}, {"std", moments.sd}};
}

Json to_json(const Discoveries& discoveries) {
  return {{"selected", discoveries.selected}, {"at_least", discoveries.at_least}};
}

Json losses_json(const Evaluation& evaluation) {
  Json domains = Json::array();
  for (const TextEvaluation& domain : evaluation.domains) {
    Json documents = Json::array();
    for (const WindowSum& document : by_document(domain.windows, domain.windows_of))
      documents.push_back(Json::array({document.tokens, document.sum}));
    domains.push_back(documents);
  }
  return {{"mean_experts", evaluation.total.routing.counts.mean}, {"documents", domains}};
}

}  // namespace olmoe
