#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <sstream>

#include "sweep/loads_results.hpp"
#include "sweep/provenance.hpp"
#include "sweep/report_text.hpp"

namespace olmoe {
namespace {

/// Without repetition, in the order of the rows.
template <class Get>
auto distinct(const LoadsResults& results, const Get& get) {
  std::vector<decltype(get(results.rows.front()))> values;
  for (const LoadsRow& row : results.rows) {
    if (std::find(values.begin(), values.end(), get(row)) == values.end())
      values.push_back(get(row));
  }
  return values;
}

std::vector<Grouping> groups_in(const LoadsResults& results) {
  return distinct(results, [](const LoadsRow& row) { return row.configuration.group; });
}

std::vector<std::string> curves_in(const LoadsResults& results) {
  return distinct(results, [](const LoadsRow& row) { return row.configuration.curve(); });
}

/// exp of a difference of nll with its 95 % interval over documents: "0.958 (0.951 to 0.965)".
std::string ratio_with_interval(const std::optional<DocumentMean>& mean) {
  if (!mean) return "–";
  std::string text = fixed(std::exp(mean->value), 4);
  if (mean->documents < 2) return text;
  const Interval bounds = interval(*mean, 0.95);
  return text + " (" + fixed(std::exp(bounds.low), 4) + " to " + fixed(std::exp(bounds.high), 4) +
         ")";
}

std::string title_of(const Grouping& group) {
  const std::string size = std::to_string(group.size);
  switch (group.kind) {
    case Grouping::Kind::batch:
      return "Batch of " + size;
    case Grouping::Kind::consecutive:
      return size + " consecutive tokens";
    case Grouping::Kind::cache:
      return "Cache of " + size + " experts a layer";
  }
  return {};
}

void write_at_equal_loads(std::ostream& out, const LoadsResults& results, const Grouping& group) {
  const std::vector<int> ks{2, 3, 4};
  std::map<int, double> loads;
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    if (c.group == group && c.curve() == "topk") loads[c.mean] = row.loads.mean;
  }
  out << "Perplexity over that of plain top-k at the same loads, with the 95 % interval over "
         "documents:\n\n| |";
  for (const int k : ks) out << " loads of top-" << k << ", " << fixed(loads[k], 2) << " |";
  out << "\n|---|";
  for (std::size_t i = 0; i < ks.size(); ++i) out << "---:|";
  out << "\n";
  for (const std::string& curve : curves_in(results)) {
    if (curve == "topk") continue;
    out << "| " << code(curve) << " |";
    for (const int k : ks)
      out << " " << ratio_with_interval(against_k(results, group, curve, k)) << " |";
    out << "\n";
  }
  out << "\n";
}

void write_rows(std::ostream& out, const LoadsResults& results, const Grouping& group) {
  out << "| configuration | selected alone | experts | experts loaded | kB read a token | "
         "perplexity | over plain top-k at its loads | over completed top-k |\n"
         "|---|---:|---:|---:|---:|---:|---:|---:|\n";
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    if (c.group != group) continue;
    out << "| " << code(c.curve()) << " | " << c.mean << " | " << fixed(row.mean_experts, 2)
        << " | " << fixed(row.loads.mean, 2) << " | " << fixed(row.loads.bytes_per_token / 1e3, 1)
        << " | " << fixed(row.perplexity, 3) << " | " << ratio_with_interval(row.against_topk)
        << " | " << ratio_with_interval(row.against_completed_topk) << " |\n";
  }
  out << "\n";
}

std::string value_text(double value) {
  std::ostringstream text;
  text.precision(9);
  text << value;
  return text.str();
}

/// From the least perplexity to that of plain top-2: beside top-1 all else would be one line.
std::string perplexity_range(const LoadsResults& results) {
  double least = std::numeric_limits<double>::infinity();
  double most = 0.0;
  for (const LoadsRow& row : results.rows) {
    const LoadsConfiguration& c = row.configuration;
    least = std::min(least, row.perplexity);
    if (c.curve() == "topk" && c.mean == 2) most = std::max(most, row.perplexity);
  }
  return "set yrange [" + value_text(0.995 * least) + ":" + value_text(1.005 * most) + "]\n";
}

}  // namespace

std::string loads_report(const LoadsResults& results, Pictures pictures) {
  std::ostringstream out;
  const nlohmann::ordered_json& inputs = results.inputs;
  std::size_t documents = 0;
  for (const auto& text : inputs.at("texts")) documents += text.at("documents").size();
  out << "# Perplexity against experts loaded\n\n"
      << "Model " << code(inputs.at("model").at("sha256").get<std::string>()) << ", "
      << inputs.at("model").at("layers") << " layers of " << inputs.at("model").at("experts")
      << " experts; " << documents << " documents of " << inputs.at("texts").size()
      << " texts in windows of " << inputs.at("window") << " tokens; fdroute "
      << inputs.at("fdroute").get<std::string>() << ", compute "
      << inputs.at("compute").get<std::string>() << ". Written by " << provenance_text(provenance())
      << ".\n\n"
      << "`+bestW`: a token also gets those of its W best experts that are loaded anyway, until it "
         "has W. `+randomW`, the control: as many, but any of the loaded ones, at random. "
         "`+oracle`: as many as the policy selects, but those of the largest weight times norm of "
         "output, which takes all experts to know. Rows of a mean other than top-k's were solved "
         "for it on other text. docs/experiments.md defines the rest.\n\n";
  if (pictures == Pictures::drawn)
    out << "![Perplexity against experts loaded](visualizations/loads_analysis.png)\n\n";
  if (pictures == Pictures::none)
    out << "There is no gnuplot here: `gnuplot loads_analysis.gp` in `visualizations/` draws the "
           "picture.\n\n";
  for (const Grouping& group : groups_in(results)) {
    out << "## " << title_of(group) << "\n\n";
    write_at_equal_loads(out, results, group);
    write_rows(out, results, group);
  }
  if (!results.unreachable.empty()) {
    out << "## Not measured\n\n";
    for (const auto& [name, why] : results.unreachable)
      out << "* " << code(name) << ": " << why << "\n";
  }
  return out.str();
}

std::string loads_script(const LoadsResults& results, const std::string& stem) {
  const std::vector<Grouping> groups = groups_in(results);
  const std::vector<std::string> curves = curves_in(results);
  std::string s = script_head(stem, 1700, 720);
  const auto block = [](std::size_t group, std::size_t curve) {
    return "$g" + std::to_string(group) + "_" + std::to_string(curve);
  };
  std::vector<std::vector<bool>> drawn(groups.size(), std::vector<bool>(curves.size()));
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t c = 0; c < curves.size(); ++c) {
      std::map<double, double> points;
      for (const LoadsRow& row : results.rows) {
        if (row.configuration.group == groups[g] && row.configuration.curve() == curves[c])
          points.emplace(row.loads.mean, row.perplexity);
      }
      drawn[g][c] = !points.empty();
      s += block(g, c) + " << EOD\n";
      for (const auto& [loads, perplexity] : points)
        s += value_text(loads) + " " + value_text(perplexity) + "\n";
      s += "EOD\n";
    }
  }
  s += "\nset multiplot layout 1," + std::to_string(groups.size()) +
       " title 'Perplexity against experts loaded: lower and further left is better' font ',17' "
       "margins 0.06,0.985,0.26,0.88 spacing 0.05\n" +
       axes_style + perplexity_range(results);
  // A family has a colour (Okabe and Ito's), what is added to it a shape and a line.
  const std::map<std::string, std::string> colours{
      {"topk", "black"}, {"threshold", "#E69F00"}, {"bh", "#0072B2"}};
  for (std::size_t g = 0; g < groups.size(); ++g) {
    s += "set title '" + title_of(groups[g]) + "' font ',14'\nset xlabel '" +
         (groups[g].kind == Grouping::Kind::cache ? "loads per token and layer"
                                                  : "experts loaded per layer and group") +
         "'\n";
    s += g == 0 ? "set ylabel 'perplexity' offset 1\n"
                  "set key at screen 0.5, screen 0.13 center top vertical Left reverse maxrows 4 "
                  "samplen 3 width 1 font ',12'\n"
                : "unset ylabel\nunset key\n";
    std::string separator = "plot ";
    for (std::size_t c = 0; c < curves.size(); ++c) {
      if (!drawn[g][c]) continue;
      const std::size_t plus = curves[c].find('+');
      const bool plain = plus == std::string::npos;
      const bool random = curves[c].find("+random") != std::string::npos;
      const std::string look = plain                            ? "pt 6 dt 1 lw 1.2"
                               : random                         ? "pt 2 dt (2,4) lw 1.4"
                               : curves[c].ends_with("+oracle") ? "pt 4 dt (2,2) lw 1.6"
                               : curves[c].ends_with("+best8")  ? "pt 7 dt 1 lw 2.2"
                                                                : "pt 9 dt (8,4) lw 1.6";
      s += separator + block(g, c) + " using 1:2 with linespoints ps 1.0 lc rgb '" +
           colours.at(curves[c].substr(0, plus)) + "' " + look + " title '" + curves[c] + "'";
      separator = ", \\\n  ";
    }
    s += "\n";
  }
  return s + "unset multiplot\nset output\n";
}

}  // namespace olmoe
