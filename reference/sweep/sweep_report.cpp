#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <set>
#include <sstream>

#include "sweep/sweep_results.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

/// A number with `digits` behind the point.
std::string fixed(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string percent(double share, int digits = 1) {
  return fixed(100.0 * share, digits) + " %";
}

/// "0.984 ± 0.002"; a dash where nothing was measured.
std::string with_error(const std::optional<Estimate>& estimate, int digits) {
  if (!estimate) return "–";
  return fixed(estimate->value, digits) +
         (estimate->error ? " ± " + fixed(*estimate->error, digits) : "");
}

std::optional<Estimate> estimate_from(const Json& json) {
  if (json.is_null()) return std::nullopt;
  Estimate estimate{json.at("value").get<double>(), {}};
  if (!json.at("error").is_null()) estimate.error = json.at("error").get<double>();
  return estimate;
}

const Json& total_of(const SweepRow& row) {
  return row.result.at("evaluation").at("total");
}
const Json& experts_of(const SweepRow& row) {
  return total_of(row).at("routing").at("experts");
}

/// Whether an estimate is more than two standard errors below or above a value; neither, if it has
/// no error.
bool below(const std::optional<Estimate>& e, double value) {
  return e && e->error && e->value + 2.0 * *e->error < value;
}
bool above(const std::optional<Estimate>& e, double value) {
  return e && e->error && e->value - 2.0 * *e->error > value;
}

std::string code(const std::string& text) {
  return "`" + text + "`";
}

/// A text in a table, which no bar of its own may end.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result.append(c == '|' ? "\\|" : std::string(1, c));
  return result;
}

std::vector<const SweepRow*> adaptive_rows(const SweepResults& results) {
  std::vector<const SweepRow*> rows;
  for (const SweepRow& row : results.rows) {
    if (row.adaptive) rows.push_back(&row);
  }
  return rows;
}

void write_inputs(std::ostream& out, const SweepResults& results) {
  const Json& inputs = results.plan.inputs;
  const Json& model = inputs.at("model");
  out << "## What was run\n\n"
      << "* Model: " << model.at("layers") << " MoE layers of " << model.at("experts")
      << " experts, top-" << model.at("native_k") << " of its own; SHA-256 "
      << code(model.at("sha256").get<std::string>().substr(0, 16)) << ".\n"
      << "* Text: ";
  const Json& domains = results.baseline().result.at("evaluation").at("domains");
  for (std::size_t i = 0; i < domains.size(); ++i)
    out << (i == 0 ? "" : ", ") << domains[i].at("name").get<std::string>();
  out << "; " << total_of(results.baseline()).at("predicted_tokens")
      << " predicted tokens, in windows of " << inputs.at("window") << " tokens, "
      << inputs.at("stride") << " apart.\n";
  if (const Json& calibration = inputs.at("calibration_texts"); !calibration.is_null()) {
    std::size_t tokens = 0;
    for (const Json& text : calibration) tokens += text.at("tokens").get<std::size_t>();
    out << "* Null distributions and parameters were fitted on " << tokens << " other tokens"
        << (inputs.at("calibration_is_first_quarter").get<bool>()
                ? ", the first quarter of each text; the rest of it was evaluated"
                : "")
        << ".\n";
  }
  if (const Json& nulls = inputs.at("nulls"); !nulls.is_null())
    out << "* Null distributions: fitted on the score " << code(nulls.at("score"))
        << ", each token's " << nulls.at("trim") << " largest left out, " << nulls.at("tokens")
        << " tokens.\n";
  out << "* Baseline: " << code(results.baseline().configuration.name) << ", "
      << code(results.baseline().result.at("policy")) << ".\n";
  if (inputs.at("new_tokens") > 0)
    out << "* Generation: " << inputs.at("prompts").size() << " prompts, greedy, at most "
        << inputs.at("new_tokens") << " new tokens each.\n";
  out << "\nEvery policy is executed in every layer; counts come from the routings executed. `±` "
         "is "
         "one standard error, from windows as clusters. `equal cost` is perplexity over fixed "
         "top-k's at the same measured mean experts, top-k interpolated between integer k in log "
         "perplexity: below 1 beats top-k. `dealt` is the perplexity when the policy's own counts "
         "are dealt to random tokens, over its own: above 1, it gives the experts to the right "
         "tokens.\n\n";
}

void write_table(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  out << "| configuration | experts, mean ± sd | fewer | perplexity | equal cost | dealt | argmax "
         "agrees | KL, nats | weight mass |\n"
         "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    const Json& total = total_of(*row);
    const Json& baseline = total.at("baseline");
    out << "| " << code(row->configuration.name) << " | " << fixed(row->mean_experts, 2) << " ± "
        << fixed(experts_of(*row).at("std").get<double>(), 2) << " | " << percent(row->reduction)
        << " | " << with_error(estimate_from(total.at("perplexity")), 2) << " | "
        << with_error(row->ratio, 4) << " | " << with_error(row->dealt_ratio, 4) << " | "
        << percent(baseline.at("argmax_agreement").get<double>()) << " | "
        << fixed(baseline.at("kl").get<double>(), 4) << " | "
        << fixed(total.at("routing").at("weight_mass").get<double>(), 3) << " |\n";
  }
  out << "\n";
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
  table("equal cost, at target experts",
        [](const SweepRow& row) { return with_error(row.ratio, 4); });
  table("measured mean experts", [](const SweepRow& row) { return fixed(row.mean_experts, 3); });
  table("dealt", [](const SweepRow& row) { return with_error(row.dealt_ratio, 4); });
}

/// What the adaptive rows say together. A difference counts if it is more than two standard errors.
struct Findings {
  std::size_t adaptive = 0;           // rows
  bool errors = true;                 // whether every row's differences have a standard error
  std::size_t fewer = 0;              // rows with fewer experts than the baseline
  std::size_t compared = 0;           // rows compared with top-k at equal cost
  std::size_t better = 0;             // of those, better than top-k
  std::size_t worse = 0;              // and worse
  std::size_t dealt = 0;              // rows whose counts were dealt to random tokens
  std::size_t dealt_worse = 0;        // of those, worse by that
  std::size_t dealt_better = 0;       // and better
  const SweepRow* best = nullptr;     // lowest equal-cost ratio; null if none was compared
  const SweepRow* leanest = nullptr;  // fewest experts at the baseline's perplexity; null if none
};

Findings findings_of(const std::vector<const SweepRow*>& rows) {
  Findings f;
  f.adaptive = rows.size();
  for (const SweepRow* row : rows) {
    if (row->ratio) {
      ++f.compared;
      f.better += below(row->ratio, 1.0) ? 1 : 0;
      f.worse += above(row->ratio, 1.0) ? 1 : 0;
      if (f.best == nullptr || row->ratio->value < f.best->ratio->value) f.best = row;
    }
    if (row->dealt_ratio) {
      ++f.dealt;
      f.dealt_worse += above(row->dealt_ratio, 1.0) ? 1 : 0;
      f.dealt_better += below(row->dealt_ratio, 1.0) ? 1 : 0;
    }
    const auto difference = estimate_from(total_of(*row).at("baseline").at("nll_difference"));
    f.errors = f.errors && difference && difference->error;
    if (row->reduction <= 0.0) continue;
    ++f.fewer;
    if (!above(difference, 0.0) && (f.leanest == nullptr || row->reduction > f.leanest->reduction))
      f.leanest = row;
  }
  return f;
}

/// "3 of 20".
std::string of_all(std::size_t n, std::size_t all) {
  return std::to_string(n) + " of " + std::to_string(all);
}

void write_findings_with_errors(std::ostream& out, const Findings& f) {
  out << "* At equal cost, " << of_all(f.better, f.compared)
      << " adaptive configurations are better than top-k by more than two standard errors, "
      << of_all(f.worse, f.compared) << " worse; the others cannot be told from it.";
  if (f.compared < f.adaptive)
    out << " For " << f.adaptive - f.compared << " more, top-k was not measured on both sides.";
  out << "\n";
  if (f.best != nullptr)
    out << "* The best at equal cost is " << code(f.best->configuration.name) << ": "
        << with_error(f.best->ratio, 4) << " at " << fixed(f.best->mean_experts, 2)
        << " experts. It is the best of " << f.compared
        << ", so its own error understates how lucky it may be.\n";
  if (f.leanest != nullptr)
    out << "* The fewest experts at a perplexity not distinguishably above the baseline's: "
        << code(f.leanest->configuration.name) << ", " << fixed(f.leanest->mean_experts, 2)
        << " experts, " << percent(f.leanest->reduction) << " fewer.\n";
  else if (f.fewer == 0)
    out << "* No adaptive configuration has fewer experts than the baseline.\n";
  else
    out << "* No adaptive configuration with fewer experts than the baseline keeps its perplexity: "
           "each is above it by more than two standard errors.\n";
  out << "* The choice of tokens: in " << of_all(f.dealt_worse, f.dealt)
      << " configurations the same counts dealt to random tokens are worse by more than two "
         "standard errors, in "
      << of_all(f.dealt_better, f.dealt) << " better.\n";
}

void write_findings_without_errors(std::ostream& out, const Findings& f) {
  out << "* A text has only one window, so no difference has a standard error: none of them can be "
         "told from chance. A shorter window or more tokens of the text give more windows.\n";
  if (f.best != nullptr)
    out << "* The best of " << f.compared << " at equal cost is "
        << code(f.best->configuration.name) << ": " << with_error(f.best->ratio, 4) << " at "
        << fixed(f.best->mean_experts, 2) << " experts.\n";
}

void write_findings(std::ostream& out, const SweepResults& results) {
  const Findings f = findings_of(adaptive_rows(results));
  out << "## What it means\n\n";
  if (f.adaptive == 0)
    out << "* No configuration is adaptive, so there is nothing to compare with top-k.\n";
  else if (f.errors)
    write_findings_with_errors(out, f);
  else
    write_findings_without_errors(out, f);
  for (const auto& [configuration, reason] : results.unreachable)
    out << "* " << code(configuration.name) << " was not reached: " << reason << ".\n";
  out << "\n";
}

void write_null_control(std::ostream& out, const SweepResults& results) {
  std::vector<const SweepRow*> rows;
  for (const SweepRow* row : adaptive_rows(results)) {
    if (!row->result.at("null_control").is_null()) rows.push_back(row);
  }
  if (rows.empty()) return;
  out << "## The null control\n\n"
         "The same policies on rows of noise, every score drawn independently from the null "
         "distribution: how far a varying count is noise. `any` is the share of rows on which the "
         "test rejects anything; for BH on independent p-values it is alpha.\n\n"
         "| configuration | noise: any | noise: experts, mean ± sd | measured: mean ± sd |\n"
         "|---|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    const Json& noise = row->result.at("null_control");
    out << "| " << code(row->configuration.name) << " | "
        << percent(noise.at("rejecting").get<double>()) << " | "
        << fixed(noise.at("mean").get<double>(), 2) << " ± "
        << fixed(noise.at("std").get<double>(), 2) << " | " << fixed(row->mean_experts, 2) << " ± "
        << fixed(experts_of(*row).at("std").get<double>(), 2) << " |\n";
  }
  out << "\n";
}

void write_generation(std::ostream& out, const SweepResults& results,
                      const std::vector<const SweepRow*>& rows) {
  const Json& baseline = results.baseline().result.at("generation");
  if (baseline.is_null()) return;
  const Json& classes = baseline.at("mean_experts_by_class");
  out << "## Experts while generating, by class of prompt\n\n| configuration |";
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
  data.top_k = results.curve;
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
    if (row.ratio) {
      point.ratio = row.ratio->value;
      point.ratio_error = row.ratio->error;
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
  write_inputs(out, results);

  std::vector<const SweepRow*> solved;
  std::vector<const SweepRow*> plain;
  for (const SweepRow& row : results.rows)
    (row.configuration.target ? solved : plain).push_back(&row);
  out << "## Results\n\n";
  write_table(out, plain);
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
  write_findings(out, results);
  write_null_control(out, results);
  write_generation(out, results, solved.empty() ? plain : solved);

  out << "## What it does not mean\n\n"
         "* Fewer experts is not the same as less time. Generation was timed by turns with the "
         "baseline; see `"
      << results.plan.stem
      << "_timings.csv`, the one file whose numbers differ between runs.\n"
         "* All of it is one model on one text. Errors are of the text's sampling, not of the "
         "model's training.\n"
         "* Between integer k, top-k is interpolated along a chord. Where its curve is convex, "
         "that "
         "flatters a policy between two integers; the dealt counts have no such advantage.\n"
         "* alpha is a parameter here, not a guarantee: a token's p-values depend on each other, "
         "and "
         "the null distribution was fitted, not known.\n"
         "* Mean experts include context tokens; perplexity, agreement and KL are over predicted "
         "tokens.\n";
  return out.str();
}

}  // namespace olmoe
