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
#include "sweep/evaluation_json.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

double mean_experts(const Json& evaluation) {
  return evaluation.at("total").at("routing").at("experts").at("mean").get<double>();
}

double perplexity(const Json& evaluation) {
  return evaluation.at("total").at("perplexity").at("value").get<double>();
}

LossWindows windows(const Json& evaluation) {
  LossWindows result;
  for (const Json& domain : evaluation.at("domains")) {
    std::vector<WindowSum>& sums = result.emplace_back();
    for (const Json& window : domain.at("windows"))
      sums.push_back({window.at(0).get<std::int64_t>(), window.at(1).get<double>()});
  }
  return result;
}

/// k of a fixed top-k configuration.
int fixed_k(const Json& result) {
  return result.at("evaluation").at("total").at("routing").at("experts").at("max").get<int>();
}

bool is_top_k(const Json& result) {
  return result.at("policy").get<std::string>().starts_with("topk:");
}

SweepRow make_row(const Configuration& configuration, const Json& result, double baseline_mean,
                  const TopKCurve& curve) {
  SweepRow row{.configuration = configuration, .result = result, .ratio = {}, .dealt_ratio = {}};
  const Json& evaluation = row.result.at("evaluation");
  row.perplexity = perplexity(evaluation);
  row.mean_experts = mean_experts(evaluation);
  row.reduction = 1.0 - row.mean_experts / baseline_mean;
  row.adaptive = evaluation.at("total").at("routing").at("experts").at("std").get<double>() > 0.0;
  if (!row.adaptive) return row;  // fixed top-k is what the others are compared with
  const LossWindows own = windows(evaluation);
  row.ratio = curve.ratio(own, row.mean_experts);
  if (const Json& dealt = row.result.at("dealt"); !dealt.is_null())
    row.dealt_ratio = perplexity_ratio(windows(dealt), own);
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
void check_same_windows(const LossWindows& windows, const LossWindows& baseline,
                        const std::filesystem::path& file) {
  const auto same = [](const WindowSum& a, const WindowSum& b) { return a.tokens == b.tokens; };
  for (std::size_t text = 0; text < baseline.size(); ++text) {
    if (!std::equal(windows[text].begin(), windows[text].end(), baseline[text].begin(),
                    baseline[text].end(), same))
      throw Error(file.string() + ": the windows of domain " + std::to_string(text) +
                  " are not the baseline's");
  }
}

}  // namespace

SweepResults read_results(const SweepDirectory& directory) {
  SweepResults results{directory.read_plan(), {}, {}, {}};
  check_complete(results.plan, directory.path().string(),
                 [&](const std::string& name) { return directory.has_result(name); });

  std::vector<std::pair<const Configuration*, Json>> measured;
  TopKCurve curve;
  LossWindows baseline;
  for (const Configuration& c : results.plan.configurations) {
    Json result = directory.read_result(results.plan, c);
    if (result.contains("unreachable")) {
      results.unreachable.emplace_back(c, result["unreachable"].get<std::string>());
      continue;
    }
    const LossWindows own = windows(result.at("evaluation"));
    if (baseline.empty()) baseline = own;
    check_same_windows(own, baseline, directory.config_file(c.name));
    if (const Json& dealt = result.at("dealt"); !dealt.is_null())
      check_same_windows(windows(dealt), baseline, directory.config_file(c.name));
    if (is_top_k(result)) curve.add(fixed_k(result), own);
    measured.emplace_back(&c, std::move(result));
  }
  results.curve = curve.perplexities();
  const double baseline_mean = mean_experts(measured.front().second.at("evaluation"));
  for (const auto& [configuration, result] : measured) {
    if (configuration->role == Configuration::Role::Row)
      results.rows.push_back(make_row(*configuration, result, baseline_mean, curve));
  }
  return results;
}

Json full_results(const SweepResults& results) {
  Json json;
  json["schema"] = SweepPlan::schema;
  json["stem"] = results.plan.stem;
  json["inputs"] = results.plan.inputs;
  json["top_k_curve"] = Json::array();
  for (const auto& [k, value] : results.curve)
    json["top_k_curve"].push_back({{"k", k}, {"perplexity", value}});
  json["unreachable"] = Json::array();
  for (const auto& [configuration, reason] : results.unreachable)
    json["unreachable"].push_back({{"name", configuration.name}, {"reason", reason}});
  json["configurations"] = Json::array();
  for (const SweepRow& row : results.rows) {
    Json entry = to_json(row.configuration);
    entry["asked"] = entry["policy"];  // the result's "policy" is the one executed, in full
    entry["reduction"] = row.reduction;
    entry["equal_cost_ratio"] = row.ratio ? to_json(*row.ratio) : Json(nullptr);
    entry["dealt_ratio"] = row.dealt_ratio ? to_json(*row.dealt_ratio) : Json(nullptr);
    entry.update(row.result);
    json["configurations"].push_back(entry);
  }
  return json;
}

std::string summary_csv(const SweepResults& results) {
  std::string csv;
  for (const SweepRow& row : results.rows) {
    const Json& evaluation = row.result.at("evaluation");
    const Json& total = evaluation.at("total");
    const Json& routing = total.at("routing");
    const Json& experts = routing.at("experts");
    const Json& comparison = total.at("baseline");
    const Json& noise = row.result.at("null_control");
    const Json& generation = row.result.at("generation");
    const auto of = [](const Json& object, const char* key) {
      return object.is_null() ? Json(nullptr) : object.at(key);
    };
    const auto estimate = [](const std::optional<Estimate>& e) {
      return e ? to_json(*e) : Json(nullptr);
    };
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
        {"perplexity", total.at("perplexity").at("value")},
        {"perplexity_error", total.at("perplexity").at("error")},
        {"macro_perplexity", evaluation.at("macro_perplexity")},
        {"equal_cost_ratio", of(estimate(row.ratio), "value")},
        {"equal_cost_ratio_error", of(estimate(row.ratio), "error")},
        {"dealt_ratio", of(estimate(row.dealt_ratio), "value")},
        {"dealt_ratio_error", of(estimate(row.dealt_ratio), "error")},
        {"argmax_agreement", of(comparison, "argmax_agreement")},
        {"kl", of(comparison, "kl")},
        {"nll_difference", of(nll_difference, "value")},
        {"nll_difference_error", of(nll_difference, "error")},
        {"load_cv", routing.at("load_cv")},
        {"load_gini", routing.at("load_gini")},
        {"weight_mass", routing.at("weight_mass")},
        {"expert_bytes_per_token", routing.at("expert_bytes_per_token")},
        {"generation_mean_experts", of(generation, "mean_experts")},
        {"noise_mean_experts", of(noise, "mean")},
        {"noise_std_experts", of(noise, "std")},
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
  } catch (const Error& error) {
    std::fprintf(stderr, "olmoe: warning: no pictures: %s\n", error.what());
  }
  write_atomically(file("_report.md"), report(results, drawn));
  return file("_report.md");
}

}  // namespace olmoe
