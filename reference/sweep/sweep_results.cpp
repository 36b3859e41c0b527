#include "sweep/sweep_results.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <fdroute/detail/number/to_text.hpp>
#include <utility>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "measure/equal_cost.hpp"
#include "measure/estimates.hpp"
#include "routing/canonical_policy.hpp"
#include "sweep/claims.hpp"
#include "sweep/provenance.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

double mean_experts(const Json& evaluation) {
  return evaluation.at("total").at("routing").at("experts").at("mean").get<double>();
}

/// The windows of all texts, one after the other.
std::vector<WindowSum> windows(const Json& evaluation) {
  std::vector<WindowSum> sums;
  for (const Json& domain : evaluation.at("domains")) {
    for (const Json& window : domain.at("windows"))
      sums.push_back({window.at(0).get<std::int64_t>(), window.at(1).get<double>()});
  }
  return sums;
}

/// (documents): the documents of all texts.
DocumentLosses evaluation_losses(const Json& evaluation) {
  std::vector<std::int64_t> windows_of;
  for (const Json& domain : evaluation.at("domains")) {
    for (const Json& n : domain.at("documents")) windows_of.push_back(n.get<std::int64_t>());
  }
  return document_losses(windows(evaluation), windows_of);
}

/// Those that losses_json() wrote.
DocumentLosses stored_losses(const Json& losses) {
  DocumentLosses result;
  for (const Json& text : losses.at("documents")) {
    for (const Json& document : text)
      result.push_back(document.at(1).get<double>() /
                       static_cast<double>(document.at(0).get<std::int64_t>()));
  }
  return result;
}

/// Rivals' curves, on the text and, of top-k, on the development text.
struct Curves {
  CostCurve topk;
  CostCurve topk_on_development;
  CostCurve layers;
};

/// A measured configuration.
struct Measured {
  const Configuration* configuration;
  Json result;
  DocumentLosses losses;

  double mean() const { return mean_experts(result.at("evaluation")); }
  /// Whether the count varies within a layer: a fixed k for each layer is not adaptive.
  bool adaptive() const {
    const Json& layers = result.at("evaluation").at("total").at("routing").at("layers");
    return std::any_of(layers.begin(), layers.end(), [](const Json& layer) {
      return layer.at("experts").at("std").get<double>() > 0.0;
    });
  }
  bool is_top_k() const {
    return !configuration->fit_mass &&
           result.at("policy").get<std::string>().starts_with("topk:") &&
           result.at("evaluation").at("total").at("routing").at("experts").at("std") == 0.0;
  }
};

std::optional<DocumentLosses> above_curve(const CostCurve& curve, const DocumentLosses& losses,
                                          double mean) {
  const auto rival = curve.at(mean);
  if (!rival || rival->size() != losses.size()) return std::nullopt;
  return difference(losses, *rival);
}

std::optional<DocumentMean> against_curve(const CostCurve& curve, const Measured& own) {
  const auto losses = above_curve(curve, own.losses, own.mean());
  if (!losses) return std::nullopt;
  return document_mean(*losses);
}

/// own - rival, both above top-k's curve, so that a difference of their means does not count.
std::optional<DocumentMean> against(const Measured& own, const Measured* rival,
                                    const CostCurve& curve) {
  if (rival == nullptr) return std::nullopt;
  const auto a = above_curve(curve, own.losses, own.mean());
  const auto b = above_curve(curve, rival->losses, rival->mean());
  if (!a || !b) return std::nullopt;
  return document_mean(difference(*a, *b));
}

/// The configuration of a rival family that was made for `own`, or has its target.
const Measured* rival_of(const Configuration& own, const std::string& family,
                         const std::vector<Measured>& all) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Measured& other) {
    const Configuration& c = *other.configuration;
    return c.family == family && own.family != family &&
           (own.target ? c.target == own.target : c.like == own.name);
  });
  return found == all.end() ? nullptr : &*found;
}

std::optional<DealtCost> dealt_cost(const Json& dealt, const DocumentLosses& own) {
  if (dealt.empty()) return std::nullopt;
  DocumentLosses sum(own.size(), 0.0);
  std::vector<double> means;  // (shuffles)
  for (const Json& shuffle : dealt) {
    const DocumentLosses more = difference(stored_losses(shuffle), own);
    for (std::size_t d = 0; d < sum.size(); ++d)
      sum[d] += more[d] / static_cast<double>(dealt.size());
    means.push_back(document_mean(more).value);
  }
  return DealtCost{document_mean(sum), document_mean(means).error, static_cast<int>(dealt.size())};
}

/// Whether two rows are one policy but for max_k, and the cap hardly ever acts.
bool repeats(const SweepRow& row, const SweepRow& earlier) {
  const auto without_cap = [](const SweepRow& r) {
    CanonicalPolicy policy(r.result.at("policy").get<std::string>());
    policy.arguments.erase("max_k");
    return policy.text();
  };
  if (without_cap(row) != without_cap(earlier)) return false;
  const auto histogram = [](const SweepRow& r) -> const Json& {
    return r.result.at("evaluation").at("total").at("routing").at("experts").at("histogram");
  };
  double moved = 0.0;
  double rows = 0.0;
  for (std::size_t k = 0; k < histogram(row).size(); ++k) {
    const auto a = histogram(row)[k].get<double>();
    moved += std::abs(a - histogram(earlier)[k].get<double>()) / 2.0;
    rows += a;
  }
  return moved < 0.01 * rows;
}

SweepRow make_row(const Measured& own, const Measured& baseline, const Curves& curves,
                  const std::vector<Measured>& all) {
  SweepRow row{.configuration = *own.configuration, .result = own.result};
  row.perplexity = std::exp(document_mean(own.losses).value);
  row.mean_experts = own.mean();
  row.reduction = 1.0 - row.mean_experts / baseline.mean();
  row.adaptive = own.adaptive();
  row.delta = document_mean(difference(own.losses, baseline.losses));
  // Fixed counts are what the others are compared with.
  if (!row.adaptive && !row.configuration.fit_mass) return row;
  row.against_topk = against_curve(curves.topk, own);
  if (row.configuration.fit_mass)
    row.against_topk_mass =
        against(own, rival_of(row.configuration, topk_mass_family, all), curves.topk);
  if (!row.adaptive) return row;
  row.against_layers = against_curve(curves.layers, own);
  row.against_threshold = against(own, rival_of(row.configuration, "threshold", all), curves.topk);
  row.against_slope = against(own, rival_of(row.configuration, "slope", all), curves.topk);
  row.dealt = dealt_cost(row.result.at("dealt"), own.losses);
  const Json& development = row.result.at("development");
  if (const auto losses = above_curve(curves.topk_on_development, stored_losses(development),
                                      development.at("mean_experts").get<double>()))
    row.development = document_mean(*losses).value;
  return row;
}

/// A CSV field, quoted if need be.
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

/// A number, or nothing where there is none.
std::string field(const Json& value) {
  if (value.is_null()) return {};
  if (value.is_string()) return field(value.get<std::string>());
  return value.is_number_float() ? fdroute::detail::to_text(value.get<double>()) : value.dump();
}

/// Throws Error unless two results are of the same windows, `file` being the former's.
void check_same_windows(const Json& result, const Json& baseline,
                        const std::filesystem::path& file) {
  const Json& own = result.at("evaluation").at("domains");
  const Json& other = baseline.at("evaluation").at("domains");
  const auto same = [](const Json& a, const Json& b) { return a.at(0) == b.at(0); };
  for (std::size_t t = 0; t < other.size(); ++t) {
    const Json& a = own[t].at("windows");
    const Json& b = other[t].at("windows");
    if (!std::equal(a.begin(), a.end(), b.begin(), b.end(), same) ||
        own[t].at("documents") != other[t].at("documents"))
      throw Error(file.string() + ": the windows of domain " + std::to_string(t) +
                  " are not the baseline's");
  }
}

Json to_json(const std::optional<DocumentMean>& mean) {
  if (!mean) return nullptr;
  return {{"value", mean->value}, {"error", mean->error}, {"documents", mean->documents}};
}

Json to_json(const std::optional<DealtCost>& dealt) {
  if (!dealt) return nullptr;
  return {{"value", dealt->nll.value},
          {"error", dealt->nll.error},
          {"monte_carlo_error", dealt->monte_carlo},
          {"shuffles", dealt->shuffles}};
}

Json curve_json(const std::map<double, double>& curve) {
  Json json = Json::array();
  for (const auto& [k, value] : curve) json.push_back({{"k", k}, {"perplexity", value}});
  return json;
}

/// The claims by name.
std::map<std::string, TestedRow> claims_of(const SweepResults& results) {
  std::map<std::string, TestedRow> claims;
  for (const TestedFamily& family : test_families(results.rows, results.margin())) {
    for (const TestedRow& tested : family.rows)
      claims.emplace(tested.row->configuration.name, tested);
  }
  return claims;
}

}  // namespace

double SweepResults::margin() const {
  return std::log(plan.inputs.at("margin").get<double>());
}

SweepResults read_results(const SweepDirectory& directory) {
  SweepResults results;
  results.plan = directory.read_plan();
  check_complete(results.plan, directory.path().string(),
                 [&](const std::string& name) { return directory.has_result(name); });

  std::vector<Measured> measured;
  Curves curves;
  for (const Configuration& c : results.plan.configurations) {
    Json result = directory.read_result(results.plan, c);
    if (result.contains("unreachable")) {
      results.unreachable.emplace_back(c, result["unreachable"].get<std::string>());
      continue;
    }
    if (!measured.empty())
      check_same_windows(result, measured.front().result, directory.config_file(c.name));
    DocumentLosses losses = evaluation_losses(result.at("evaluation"));
    measured.push_back({&c, std::move(result), std::move(losses)});
    const Measured& own = measured.back();
    if (c.family == layers_family) {
      curves.layers.add(own.mean(), own.losses);
    } else if (own.is_top_k()) {
      curves.topk.add(own.mean(), own.losses);
      if (const Json& on_development = own.result.at("development"); !on_development.is_null())
        curves.topk_on_development.add(own.mean(), stored_losses(on_development));
    }
  }
  results.curve = curves.topk.perplexities();
  results.layers_curve = curves.layers.perplexities();
  const Measured& baseline = measured.front();
  if (const auto less = curves.topk.at(baseline.mean() - 1.0))
    results.one_less = document_mean(difference(*less, baseline.losses));
  for (const Measured& own : measured) {
    if (own.configuration->role != Configuration::Role::Row) continue;
    SweepRow row = make_row(own, baseline, curves, measured);
    for (const SweepRow& earlier : results.rows) {
      if (row.adaptive && row.repeats.empty() && repeats(row, earlier))
        row.repeats = earlier.configuration.name;
    }
    results.rows.push_back(std::move(row));
  }
  return results;
}

Json full_results(const SweepResults& results) {
  Json json;
  json["schema"] = SweepPlan::schema;
  json["stem"] = results.plan.stem;
  json["inputs"] = results.plan.inputs;
  json["written"] = provenance();
  json["top_k_curve"] = curve_json(results.curve);
  json["layers_curve"] = curve_json(results.layers_curve);
  json["unreachable"] = Json::array();
  for (const auto& [configuration, reason] : results.unreachable)
    json["unreachable"].push_back({{"name", configuration.name}, {"reason", reason}});
  json["configurations"] = Json::array();
  const auto claims = claims_of(results);
  for (const SweepRow& row : results.rows) {
    Json entry = to_json(row.configuration);
    entry["asked"] = entry["policy"];  // the result's "policy" is the one executed, in full
    entry["reduction"] = row.reduction;
    entry["repeats"] = row.repeats;
    entry["delta"] = to_json(std::optional(row.delta));
    const auto claim = claims.find(row.configuration.name);
    entry["p_not_below_margin"] = claim == claims.end() ? Json(nullptr) : Json(claim->second.p);
    entry["claimed"] = claim != claims.end() && claim->second.claimed;
    entry["against_topk"] = to_json(row.against_topk);
    entry["against_layers"] = to_json(row.against_layers);
    entry["against_threshold"] = to_json(row.against_threshold);
    entry["against_slope"] = to_json(row.against_slope);
    entry["against_topk_mass"] = to_json(row.against_topk_mass);
    entry["dealt_cost"] = to_json(row.dealt);
    entry.update(row.result);
    json["configurations"].push_back(entry);
  }
  return json;
}

std::string summary_csv(const SweepResults& results) {
  std::string csv;
  const auto claims = claims_of(results);
  for (const SweepRow& row : results.rows) {
    const Json& evaluation = row.result.at("evaluation");
    const Json& total = evaluation.at("total");
    const Json& routing = total.at("routing");
    const Json& experts = routing.at("experts");
    const Json& comparison = total.at("baseline");
    const Json& control = row.result.at("permuted");
    const Json& generation = row.result.at("generation");
    const auto of = [](const Json& object, const char* key) {
      return object.is_null() ? Json(nullptr) : object.at(key);
    };
    const auto claim = claims.find(row.configuration.name);
    const Json topk = to_json(row.against_topk);
    const Json layers = to_json(row.against_layers);
    const Json threshold = to_json(row.against_threshold);
    const Json slope = to_json(row.against_slope);
    const Json dealt = to_json(row.dealt);
    const Json nll_difference = of(comparison, "nll_difference");
    const std::optional<double>& target = row.configuration.target;
    const std::vector<std::pair<const char*, Json>> columns{
        {"name", row.configuration.name},
        {"family", row.configuration.family},
        {"policy", row.result.at("policy")},
        {"nulls", row.configuration.nulls},
        {"target_experts", target ? Json(*target) : Json(nullptr)},
        {"mean_experts", experts.at("mean")},
        {"std_experts", experts.at("std")},
        {"min_experts", experts.at("min")},
        {"max_experts", experts.at("max")},
        {"floor_rate", experts.at("floor_rate")},
        {"ceiling_rate", experts.at("ceiling_rate")},
        {"reduction", row.reduction},
        {"repeats", row.repeats},
        {"perplexity", row.perplexity},
        {"token_perplexity", total.at("perplexity").at("value")},
        {"documents", row.delta.documents},
        {"delta", row.delta.value},
        {"delta_error", row.delta.error},
        {"p_not_below_margin", claim == claims.end() ? Json(nullptr) : Json(claim->second.p)},
        {"claimed", claim != claims.end() && claim->second.claimed},
        {"against_topk", of(topk, "value")},
        {"against_topk_error", of(topk, "error")},
        {"against_layers", of(layers, "value")},
        {"against_layers_error", of(layers, "error")},
        {"against_threshold", of(threshold, "value")},
        {"against_threshold_error", of(threshold, "error")},
        {"against_slope", of(slope, "value")},
        {"against_slope_error", of(slope, "error")},
        {"dealt_cost", of(dealt, "value")},
        {"dealt_cost_error", of(dealt, "error")},
        {"dealt_cost_monte_carlo_error", of(dealt, "monte_carlo_error")},
        {"argmax_agreement", of(comparison, "argmax_agreement")},
        {"kl", of(comparison, "kl")},
        {"nll_difference", of(nll_difference, "value")},
        {"nll_difference_error", of(nll_difference, "error")},
        {"load_cv", routing.at("load_cv")},
        {"load_gini", routing.at("load_gini")},
        {"weight_mass", routing.at("weight_mass")},
        {"expert_bytes_per_token", routing.at("expert_bytes_per_token")},
        {"generation_mean_experts", of(generation, "mean_experts")},
        {"recorded_std_experts", of(of(control, "recorded"), "std")},
        {"permuted_mean_experts", of(of(control, "permuted"), "mean")},
        {"permuted_std_experts", of(of(control, "permuted"), "std")},
        {"true_discoveries_at_least", of(row.result.at("discoveries"), "at_least")},
    };
    if (csv.empty()) {
      for (const auto& [name, value] : columns) csv += (csv.empty() ? "" : ",") + std::string(name);
      csv += "\n";
    }
    std::string line;
    for (std::size_t i = 0; i < columns.size(); ++i)
      line += (i == 0 ? "" : ",") + field(columns[i].second);
    csv += line + "\n";
  }
  return csv;
}

namespace {

/// First quartile, median and third quartile.
std::array<double, 3> quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::array<double, 3> result{};
  for (std::size_t i = 0; i < result.size(); ++i) {
    const double place = static_cast<double>((i + 1) * (values.size() - 1)) / 4.0;
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    result[i] = std::lerp(values[below], values[above], place - static_cast<double>(below));
  }
  return result;
}

}  // namespace

std::string timings_csv(const SweepResults& results, const SweepDirectory& directory) {
  std::string csv = "name";
  for (const char* const phase : {"prefill", "decode"}) {
    for (const char* const column :
         {"_tokens_per_second", "_time_ratio_q1", "_time_ratio_median", "_time_ratio_q3"})
      csv.append(",").append(phase).append(column);
  }
  csv += "\n";
  for (const SweepRow& row : results.rows) {
    if (!directory.has_timing(row.configuration.name)) continue;
    const Json timing = directory.read_timing(row.configuration.name);
    csv += row.configuration.name;
    for (const auto& [tokens_key, seconds_key] :
         {std::pair{"prefill_tokens", "prefill_seconds"}, {"decode_steps", "decode_seconds"}}) {
      double tokens = 0.0;
      double seconds = 0.0;
      std::vector<double> ratios;
      for (const Json& prompt : timing) {
        const Json& policy = prompt.at("policy");
        const Json& baseline = prompt.at("baseline");
        const auto n = policy.at(tokens_key).get<double>();
        const auto n_baseline = baseline.at(tokens_key).get<double>();
        if (n == 0.0 || n_baseline == 0.0) continue;  // a text that ended at its first token
        tokens += n;
        seconds += policy.at(seconds_key).get<double>();
        ratios.push_back(policy.at(seconds_key).get<double>() / n /
                         (baseline.at(seconds_key).get<double>() / n_baseline));
      }
      if (ratios.empty()) {
        csv += ",,,,";
        continue;
      }
      csv += "," + fdroute::detail::to_text(tokens / seconds);
      for (const double quartile : quartiles(std::move(ratios)))
        csv += "," + fdroute::detail::to_text(quartile);
    }
    csv += "\n";
  }
  return csv;
}

std::filesystem::path write_results(const SweepDirectory& directory) {
  const SweepResults results = read_results(directory);
  const std::string& stem = results.plan.stem;
  const auto file = [&](const std::string& suffix) { return directory.path() / (stem + suffix); };
  write_atomically(file("_full_results.json"), json_text(full_results(results)));
  write_atomically(file("_summary.csv"), summary_csv(results));
  write_atomically(file("_timings.csv"), timings_csv(results, directory));
  // Once without pictures, which may fail, and again when it is known what became of them.
  write_atomically(file("_report.md"), report(results, Pictures::none));
  const auto pictures = directory.path() / "visualizations";
  Pictures drawn = Pictures::failed;
  try {
    drawn = write_plots(plot_data(results), pictures, stem + "_analysis");
    if (drawn == Pictures::none)
      std::fprintf(stderr, "olmoe: warning: no pictures: there is no gnuplot\n");
  } catch (const Error& error) {
    std::fprintf(stderr, "olmoe: warning: no pictures: %s\n", error.what());
  }
  write_atomically(file("_report.md"), report(results, drawn));
  return file("_report.md");
}

}  // namespace olmoe
