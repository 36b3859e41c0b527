#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <sstream>

#include "sweep/plan_report.hpp"
#include "sweep/provenance.hpp"
#include "sweep/report_text.hpp"
#include "sweep/sweep_results.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

const Json& total_of(const SweepRow& row) {
  return row.result.at("evaluation").at("total");
}
const Json& experts_of(const SweepRow& row) {
  return total_of(row).at("routing").at("experts");
}

void write_inputs(std::ostream& out, const SweepResults& results) {
  const Json& inputs = results.plan.inputs;
  const Json& model = inputs.at("model");
  out << "## What was run\n\n"
      << "* Model: " << model.at("layers") << " MoE layers of " << model.at("experts")
      << " experts, top-" << model.at("native_k") << " of its own; SHA-256 "
      << code(model.at("sha256").get<std::string>())
      << ", that of the digests which `sha256sum` prints of its weight files, config.json and "
         "tokenizer.json, a line each.\n"
      << "* Text: ";
  const Json& domains = results.baseline().result.at("evaluation").at("domains");
  for (std::size_t i = 0; i < domains.size(); ++i)
    out << (i == 0 ? "" : ", ") << cell(domains[i].at("name").get<std::string>());
  out << "; " << total_of(results.baseline()).at("predicted_tokens")
      << " predicted tokens, in windows of " << inputs.at("window") << " tokens, "
      << inputs.at("stride") << " apart.\n";
  std::size_t tokens = 0;
  for (const Json& text : inputs.at("calibration_texts"))
    tokens += text.at("tokens").get<std::size_t>();
  out << "* Development text, on which parameters were fitted and the best of many chosen: "
      << tokens << " other tokens"
      << (inputs.at("calibration_is_first_quarter").get<bool>() ? ", the first quarter of each text"
                                                                : "")
      << ".\n";
  if (const Json& nulls = inputs.at("nulls"); !nulls.is_null())
    out << "* Null distributions: fitted on the score " << code(nulls.at("score"))
        << ", each token's " << nulls.at("trim") << " largest left out, " << nulls.at("tokens")
        << " tokens.\n";
  out << "* Baseline: " << code(results.baseline().configuration.name) << ", "
      << code(results.baseline().result.at("policy")) << ".\n";
  if (inputs.at("new_tokens") > 0)
    out << "* Generation: " << inputs.at("prompts").size() << " prompts, greedy, at most "
        << inputs.at("new_tokens") << " new tokens each.\n";
  const std::string& stem = results.plan.stem;
  out << "* Command: "
      << code(command_text(stem == "bh_routing" ? "bh21"
                           : stem == "grid"     ? "FILE"
                                                : stem,
                           inputs))
      << ", by fdroute " << inputs.at("fdroute").get<std::string>() << ". Written by "
      << provenance_text(provenance()) << ".\n";
  out << "\nEvery policy is executed in every layer; counts come from the routings executed. "
         "Perplexity is exp of the mean nll of documents, each weighing the same.\n\n";
}

void write_table(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  out << "| configuration | experts, mean ± sd | fewer | perplexity | argmax agrees | KL, "
         "nats | weight mass |\n"
         "|---|---:|---:|---:|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    const Json& total = total_of(*row);
    const Json& baseline = total.at("baseline");
    out << "| " << code(row->configuration.name) << " | " << fixed(row->mean_experts, 2) << " ± "
        << fixed(experts_of(*row).at("std").get<double>(), 2) << " | " << percent(row->reduction)
        << " | " << fixed(row->perplexity, 3) << " | "
        << percent(baseline.at("argmax_agreement").get<double>()) << " | "
        << fixed(baseline.at("kl").get<double>(), 4) << " | "
        << fixed(total.at("routing").at("weight_mass").get<double>(), 3) << " |\n";
  }
  out << "\n";
}

/// Top-k's perplexity by k, where top-k is no row of the table.
void write_top_k(std::ostream& out, const SweepResults& results) {
  const auto fixed_counts = std::count_if(results.rows.begin(), results.rows.end(),
                                          [](const SweepRow& row) { return !row.adaptive; });
  if (results.curve.size() <= static_cast<std::size_t>(fixed_counts)) return;
  out << "| top-k |";
  for (const auto& [k, perplexity] : results.curve) out << " " << k << " |";
  out << "\n|---|";
  for (std::size_t i = 0; i < results.curve.size(); ++i) out << "---:|";
  out << "\n| perplexity |";
  for (const auto& [k, perplexity] : results.curve) out << " " << fixed(perplexity, 3) << " |";
  out << "\n\n";
}

/// Families by targets.
void write_matrix(std::ostream& out, const SweepResults& results) {
  std::vector<std::string> families;
  std::set<double> targets;
  for (const SweepRow& row : results.rows) {
    if (!row.configuration.target) continue;
    targets.insert(*row.configuration.target);
    if (std::find(families.begin(), families.end(), row.configuration.family) == families.end())
      families.push_back(row.configuration.family);
  }
  if (targets.empty()) return;
  const auto table = [&](const std::string& title, const auto& cell) {
    out << "| " << title << " |";
    for (const double target : targets) out << " " << target << " |";
    out << "\n|---|";
    for (std::size_t i = 0; i < targets.size(); ++i) out << "---:|";
    out << "\n";
    for (const std::string& family : families) {
      out << "| " << code(family) << " |";
      for (const double target : targets) {
        const auto row =
            std::find_if(results.rows.begin(), results.rows.end(), [&](const SweepRow& candidate) {
              return candidate.configuration.family == family &&
                     candidate.configuration.target == target;
            });
        out << " " << (row == results.rows.end() ? "not reached" : cell(*row)) << " |";
      }
      out << "\n";
    }
    out << "\n";
  };
  table("against randomised top-k, at target experts",
        [](const SweepRow& row) { return with_error(row.against_topk, 4); });
  table("measured mean experts", [](const SweepRow& row) { return fixed(row.mean_experts, 3); });
}

void write_generation(std::ostream& out, const SweepResults& results,
                      const std::vector<const SweepRow*>& rows) {
  const Json& baseline = results.baseline().result.at("generation");
  if (baseline.is_null()) return;
  const Json& classes = baseline.at("mean_experts_by_class");
  out << "## Experts while generating, by class of prompt\n\n"
         "A few prompts a class, so without an error: an illustration.\n\n| configuration |";
  for (const auto& [name, mean] : classes.items()) out << " " << cell(name) << " |";
  out << " all |\n|---|";
  for (std::size_t i = 0; i <= classes.size(); ++i) out << "---:|";
  out << "\n";
  for (const SweepRow* row : rows) {
    const Json& generation = row->result.at("generation");
    out << "| " << code(row->configuration.name) << " |";
    for (const auto& [name, unused] : classes.items())
      out << " " << fixed(generation.at("mean_experts_by_class").at(name).get<double>(), 2) << " |";
    out << " " << fixed(generation.at("mean_experts").get<double>(), 2) << " |\n";
  }
  out << "\nThe texts are in `" << results.plan.stem << "_full_results.json`.\n\n";
}

}  // namespace

PlotData plot_data(const SweepResults& results) {
  PlotData data;
  data.title = results.plan.stem + ": perplexity and experts of " +
               std::to_string(results.rows.size()) + " configurations";
  for (const auto& [k, perplexity] : results.curve)
    data.top_k.emplace(static_cast<int>(std::lround(k)), perplexity);
  data.native_k = results.plan.inputs.at("model").at("native_k").get<int>();
  std::set<double> targets;
  for (const SweepRow& row : results.rows) {
    if (row.configuration.target) targets.insert(*row.configuration.target);
    if (!row.adaptive) continue;
    auto family = std::find_if(data.families.begin(), data.families.end(),
                               [&](const auto& f) { return f.name == row.configuration.family; });
    if (family == data.families.end())
      family = data.families.insert(family, {row.configuration.family, {}});
    PlotData::Point point{row.mean_experts, row.perplexity, {}, {}};
    if (row.against_topk) {
      point.ratio = std::exp(row.against_topk->value);
      if (row.against_topk->documents > 1)
        point.ratio_error = *point.ratio * row.against_topk->error;
    }
    family->points.push_back(point);
  }

  // The lower panels have room for some two dozen lines.
  constexpr std::size_t most_rows = 24;
  std::optional<double> target;
  if (!targets.empty())
    target = *std::next(targets.begin(), static_cast<std::ptrdiff_t>(targets.size() / 2));
  for (const SweepRow& row : results.rows) {
    if (target && row.configuration.target != target) continue;
    if (data.rows.size() == most_rows) break;
    PlotData::Row line{row.configuration.name, {}, {}};
    for (const Json& layer : total_of(row).at("routing").at("layers"))
      line.layer_means.push_back(layer.at("experts").at("mean").get<double>());
    const auto rows = experts_of(row).at("rows").get<double>();
    for (const Json& count : experts_of(row).at("histogram"))
      line.histogram.push_back(count.get<double>() / rows);
    data.rows.push_back(std::move(line));
  }
  return data;
}

std::string report(const SweepResults& results, Pictures pictures) {
  std::ostringstream out;
  const std::string picture = "visualizations/" + results.plan.stem + "_analysis";
  out << "# Routing sweep: " << results.plan.stem << "\n\n";
  write_verdict(out, results);
  write_inputs(out, results);

  std::vector<const SweepRow*> solved;
  std::vector<const SweepRow*> plain;
  for (const SweepRow& row : results.rows)
    (row.configuration.target ? solved : plain).push_back(&row);
  out << "## Results\n\n";
  write_table(out, plain);
  write_top_k(out, results);
  write_matrix(out, results);

  out << "## Pictures\n\n";
  if (pictures == Pictures::drawn) {
    out << "![Perplexity against mean experts; the same at equal cost; experts by layer; histogram "
           "of experts]("
        << picture << ".png)\n\n";
  } else {
    out << (pictures == Pictures::none ? "There was no gnuplot when this was written"
                                       : "gnuplot failed when this was written")
        << "; `gnuplot " << results.plan.stem
        << "_analysis.gp` in visualizations/ draws the picture.\n\n";
  }
  write_plan(out, results);
  write_generation(out, results, solved.empty() ? plain : solved);

  out << "## What it does not mean\n\n"
         "* Fewer experts is not the same as less time. Generation was timed by turns with the "
         "baseline; see `"
      << results.plan.stem
      << "_timings.csv`, the one file whose numbers differ between runs.\n"
         "* All of it is one model. Errors are of the sampling of documents like these, not of the "
         "model's training.\n"
         "* alpha is a knob here, not a guarantee. Nobody has labelled needless experts; the null "
         "describes the scores below each token's `trim` largest, and the count largely restates "
         "`trim`. Nothing follows about loss.\n"
         "* Mean experts include context tokens; perplexity, agreement and KL are over predicted "
         "tokens.\n";
  return out.str();
}

}  // namespace olmoe
