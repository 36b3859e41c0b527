#include "sweep/plan_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "measure/student_t.hpp"
#include "routing/canonical_policy.hpp"
#include "sweep/claims.hpp"
#include "sweep/report_text.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

constexpr double confidence = 0.9;  // of intervals: both ends at the level of a one-sided test

std::vector<const SweepRow*> adaptive_rows(const SweepResults& results) {
  std::vector<const SweepRow*> rows;
  for (const SweepRow& row : results.rows) {
    if (row.adaptive && row.repeats.empty()) rows.push_back(&row);
  }
  return rows;
}

std::string between(const DocumentMean& mean, int digits) {
  if (mean.documents < 2) return "–";
  const Interval i = interval(mean, confidence);
  return fixed(i.low, digits) + " to " + fixed(i.high, digits);
}

std::string p_text(double p) {
  return p < 5e-5 ? "< 0.0001" : fixed(p, 4);
}

void write_documents(std::ostream& out, const SweepResults& results) {
  const DocumentMean& any = results.baseline().delta;
  out << "The unit is the document: " << any.documents
      << " of them, each weighing the same. delta is the mean over documents of nll - the "
         "baseline's, in nats per token, and ± its standard error over documents";
  if (any.documents > 1)
    out << "; tests and intervals take quantiles of Student's t with " << any.documents - 1
        << " degrees of freedom (95 %: "
        << fixed(student_t_quantile(0.95, any.degrees_of_freedom()), 3) << ")";
  out << ". The margin, fixed before, is ln "
      << fixed(results.plan.inputs.at("margin").get<double>(), 4) << " = "
      << fixed(results.margin(), 5) << ".";
  if (results.one_less)
    out << " Top-" << results.plan.inputs.at("model").at("native_k").get<int>() - 1 << " costs "
        << with_error(results.one_less, 5) << ", 90 % interval " << between(*results.one_less, 5)
        << ".";
  out << "\n\n";
}

void write_savings(std::ostream& out, const SweepResults& results,
                   const std::vector<TestedFamily>& families) {
  out << "## Savings\n\n";
  write_documents(out, results);
  if (results.baseline().delta.documents < least_documents) {
    out << "**Descriptive.** With fewer than " << least_documents
        << " documents nothing is claimed.\n\n";
  }
  if (families.empty()) {
    out << "* No configuration is adaptive, so there is nothing to compare with top-k.\n\n";
    return;
  }
  out << "p is of \"delta is the margin or more\". Each family is tested from its most experts to "
         "its fewest and stops at the first that is not rejected; "
      << (families.size() == 1 ? "there is one family"
                               : "the " + std::to_string(families.size()) +
                                     " families share the level as in Holm's procedure")
      << ", so any false claim among all of them has a probability of at most "
      << percent(claim_level, 0) << ".\n\n"
      << "| configuration | experts | saving | delta ± error | 90 % interval | p | |\n"
         "|---|---:|---:|---:|---:|---:|---|\n";
  for (const TestedFamily& family : families) {
    bool stopped = false;
    for (const TestedRow& tested : family.rows) {
      const SweepRow& row = *tested.row;
      out << "| " << code(row.configuration.name) << " | " << fixed(row.mean_experts, 2) << " | "
          << percent(row.reduction) << " | " << with_error(row.delta, 4) << " | "
          << between(row.delta, 4) << " | " << p_text(tested.p) << " | "
          << (tested.claimed ? "non-inferior"
              : stopped      ? "not tested"
                             : "stop")
          << " |\n";
      stopped = stopped || !tested.claimed;
    }
  }
  out << "\n";
  bool any = false;
  for (const TestedFamily& family : families) {
    const SweepRow* const best = family.largest_saving();
    if (best == nullptr || best->reduction <= 0.0) continue;
    any = true;
    out << "* " << cell(family.name) << ": the largest saving claimed is "
        << percent(best->reduction) << ", " << code(best->configuration.name) << " at "
        << fixed(best->mean_experts, 2) << " experts, delta " << with_error(best->delta, 4)
        << ", 90 % interval " << between(best->delta, 4) << ".\n";
  }
  if (!any) out << "* No saving is claimed.\n";
  for (const SweepRow& row : results.rows) {
    if (!row.repeats.empty())
      out << "* " << code(row.configuration.name) << " is " << code(row.repeats)
          << " again, and counted once.\n";
  }
  for (const auto& [configuration, reason] : results.unreachable)
    out << "* " << code(configuration.name) << " was not reached: " << reason << ".\n";
  out << "\n";
}

void write_equal_cost(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  out << "## At equal cost\n\n"
         "nll - a rival's at the same mean experts: below 0, the policy is better. Randomised "
         "top-k draws one of two neighbouring k for each token; `layers` has a fixed k for each "
         "layer, chosen on the development text; the threshold and the slope rule were solved on "
         "the development text for the policy's mean. A difference from the threshold is all "
         "that a test adds. p is two-sided, of no difference, without correction for the number "
         "of rows.\n\n"
         "| configuration | experts | randomised top-k | layers | threshold | p | slope | p |\n"
         "|---|---:|---:|---:|---:|---:|---:|---:|\n";
  const auto p_of = [](const std::optional<DocumentMean>& mean) {
    return mean ? p_text(p_zero(*mean)) : "–";
  };
  for (const SweepRow* row : rows)
    out << "| " << code(row->configuration.name) << " | " << fixed(row->mean_experts, 2) << " | "
        << with_error(row->against_topk, 4) << " | " << with_error(row->against_layers, 4) << " | "
        << with_error(row->against_threshold, 4) << " | " << p_of(row->against_threshold) << " | "
        << with_error(row->against_slope, 4) << " | " << p_of(row->against_slope) << " |\n";
  out << "\n";
}

/// What scaled weights are worth, and what a rule adds to them.
void write_mass(std::ostream& out, const SweepResults& results) {
  std::vector<const SweepRow*> rows;
  for (const SweepRow& row : results.rows) {
    if (row.configuration.fit_mass) rows.push_back(&row);
  }
  if (rows.empty()) return;
  out << "## Weights with a fitted exponent\n\n"
         "Weights times (P_K / P_S)^g, with g fitted on the development text for each row. Ratios "
         "of perplexity, ± their standard errors over documents, to plain top-k at the same mean "
         "experts (randomised between two k), and to top-k with a g of its own: what the rule adds "
         "to the weights.\n\n"
         "| configuration | experts | g | to plain top-k | to top-k with its own g | p |\n"
         "|---|---:|---:|---:|---:|---:|\n";
  const auto ratio = [](const std::optional<DocumentMean>& nll) -> std::optional<DocumentMean> {
    if (!nll) return std::nullopt;
    const double value = std::exp(nll->value);
    return DocumentMean{nll->documents, value, value * nll->error};
  };
  for (const SweepRow* row : rows) {
    const CanonicalPolicy policy(row->result.at("policy").get<std::string>());
    const auto g = policy.arguments.find("mass_exponent");
    out << "| " << code(row->configuration.name) << " | " << fixed(row->mean_experts, 2) << " | "
        << (g == policy.arguments.end() ? "0" : g->second) << " | "
        << with_error(ratio(row->against_topk), 4) << " | "
        << with_error(ratio(row->against_topk_mass), 4) << " | "
        << (row->against_topk_mass ? p_text(p_zero(*row->against_topk_mass)) : "–") << " |\n";
  }
  out << "\n";
}

void write_dealt(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  if (std::none_of(rows.begin(), rows.end(), [](const auto* row) { return row->dealt; })) return;
  out << "## Counts dealt to random tokens\n\n"
         "What it costs in nats per token to deal a policy's own counts to random tokens: above 0, "
         "the policy gives the experts to the right ones. The mean over the shuffles; its error by "
         "the documents, and by the shuffles alone.\n\n"
         "| configuration | shuffles | cost | text error | Monte Carlo error | p |\n"
         "|---|---:|---:|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    if (!row->dealt) continue;
    const DealtCost& dealt = *row->dealt;
    out << "| " << code(row->configuration.name) << " | " << dealt.shuffles << " | "
        << fixed(dealt.nll.value, 4) << " | " << fixed(dealt.nll.error, 4) << " | "
        << fixed(dealt.monte_carlo, 4) << " | " << p_text(p_zero(dealt.nll)) << " |\n";
  }
  out << "\n";
}

void write_permuted(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  out << "## Permuted logits\n\n"
         "Counts on the development text's router logits, recorded with the baseline, and on these "
         "logits with each expert's permuted over the tokens of its layer. A spread that "
         "permutation leaves says nothing about tokens.\n\n"
         "| configuration | recorded: mean ± sd | permuted: mean ± sd |\n"
         "|---|---:|---:|\n";
  for (const SweepRow* row : rows) {
    const Json& control = row->result.at("permuted");
    if (control.is_null()) continue;
    const auto moments = [&](const char* of) {
      return fixed(control.at(of).at("mean").get<double>(), 2) + " ± " +
             fixed(control.at(of).at("std").get<double>(), 2);
    };
    out << "| " << code(row->configuration.name) << " | " << moments("recorded") << " | "
        << moments("permuted") << " |\n";
  }
  out << "\n";
}

void write_discoveries(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  const auto of = [](const SweepRow* row) -> const Json& { return row->result.at("discoveries"); };
  if (std::all_of(rows.begin(), rows.end(), [&](const auto* row) { return of(row).is_null(); }))
    return;
  out << "## True discoveries\n\n"
         "A lower bound on the selected experts that are not of the null, by closed testing with "
         "Simes' tests: for each token by itself it holds with a probability of "
      << percent(1.0 - claim_level, 0)
      << ", under any bounds. Means over the development text's router logits, recorded with the "
         "baseline. It is about the null that was fitted, not about loss.\n\n"
         "| configuration | selected | of them at least | share |\n"
         "|---|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    if (of(row).is_null()) continue;
    const auto selected = of(row).at("selected").get<double>();
    const auto at_least = of(row).at("at_least").get<double>();
    out << "| " << code(row->configuration.name) << " | " << fixed(selected, 2) << " | "
        << fixed(at_least, 2) << " | "
        << (selected > 0.0 ? percent(at_least / selected) : std::string("–")) << " |\n";
  }
  out << "\n";
}

void write_best(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  const SweepRow* best = nullptr;
  std::size_t compared = 0;
  for (const SweepRow* row : rows) {
    if (!row->development || !row->against_topk) continue;
    ++compared;
    if (best == nullptr || *row->development < *best->development) best = row;
  }
  if (best == nullptr) return;
  out << "## The best of many\n\n* On the development text the best of " << compared
      << " against randomised top-k is " << code(best->configuration.name) << ": "
      << fixed(*best->development, 4)
      << ". On the evaluated text, which had no part in the choice, "
      << with_error(best->against_topk, 4) << ", 90 % interval " << between(*best->against_topk, 4)
      << ".\n\n";
}

void write_sensitivity(std::ostream& out, const std::vector<const SweepRow*>& rows) {
  out << "## Sensitivity\n\n"
         "delta with documents weighing the same, as above; weighted by predicted tokens, with "
         "documents as clusters; and weighted so with windows as clusters, whose error does not "
         "cover new text. The last two take domains as strata.\n\n"
         "| configuration | by documents | by tokens | by tokens, windows |\n"
         "|---|---:|---:|---:|\n";
  for (const SweepRow* row : rows) {
    const Json& total = row->result.at("evaluation").at("total").at("baseline");
    const auto text = [](const Json& estimate) {
      return fixed(estimate.at("value").get<double>(), 4) +
             (estimate.at("error").is_null()
                  ? ""
                  : " ± " + fixed(estimate.at("error").get<double>(), 4));
    };
    out << "| " << code(row->configuration.name) << " | " << with_error(row->delta, 4) << " | "
        << text(total.at("nll_difference")) << " | " << text(total.at("nll_difference_by_windows"))
        << " |\n";
  }
  out << "\n";
}

}  // namespace

void write_verdict(std::ostream& out, const SweepResults& results) {
  const SweepRow* best = nullptr;
  const std::vector<TestedFamily> families = test_families(results.rows, results.margin());
  for (const TestedFamily& family : families) {
    const SweepRow* const row = family.largest_saving();
    if (row != nullptr && row->reduction > (best == nullptr ? 0.0 : best->reduction)) best = row;
  }
  out << "**Verdict.** ";
  if (best == nullptr) {
    out << "No saving is claimed"
        << (results.baseline().delta.documents < least_documents
                ? ", as with fewer than " + std::to_string(least_documents) +
                      " documents none can be"
                : "")
        << ".\n\n";
    return;
  }
  out << code(best->configuration.name) << " takes " << fixed(best->mean_experts, 2) << " experts, "
      << percent(best->reduction) << " fewer than the model's own routing, and loses "
      << with_error(best->delta, 4) << " nats per token: non-inferior at a margin of "
      << fixed(results.margin(), 4) << ".";
  const auto rival = [&](const char* name, const std::optional<DocumentMean>& against) {
    if (against)
      out << " At its cost " << name << " loses " << fixed(best->delta.value - against->value, 4)
          << ", a difference of " << with_error(against, 4) << ".";
  };
  rival("randomised top-k", best->against_topk);
  rival("the plain threshold", best->against_threshold);
  out << "\n\n";
}

void write_plan(std::ostream& out, const SweepResults& results) {
  write_savings(out, results, test_families(results.rows, results.margin()));
  const auto rows = adaptive_rows(results);
  if (rows.empty()) return;
  write_equal_cost(out, rows);
  write_mass(out, results);
  write_dealt(out, rows);
  write_permuted(out, rows);
  write_discoveries(out, rows);
  write_best(out, rows);
  write_sensitivity(out, rows);
}

}  // namespace olmoe
