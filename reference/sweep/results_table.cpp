#include "sweep/results_table.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <vector>

#include "terminal/terminal.hpp"

namespace olmoe {
namespace {

std::string text_of(const char* format, double a, double b = 0.0) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, a, b);
  return text.data();
}

std::string nats(const std::optional<DocumentMean>& mean) {
  if (!mean) return "-";
  return mean->documents > 1 ? text_of("%+.4f +- %.4f", mean->value, mean->error)
                             : text_of("%+.4f", mean->value);
}

bool is_better(const SweepRow& row) {
  return row.against_topk && row.against_topk->documents >= least_documents &&
         row.against_topk->value + 2.0 * row.against_topk->error < 0.0;
}

}  // namespace

std::string results_table(const SweepResults& results, std::size_t columns, bool color) {
  std::vector<std::vector<std::string>> table{
      {"configuration", "experts", "perplexity", "nats over baseline", "nats over top-k"}};
  for (const SweepRow& row : results.rows)
    table.push_back({row.configuration.name, text_of("%.3f", row.mean_experts),
                     text_of("%.4f", row.perplexity),
                     &row == &results.baseline() ? "-" : nats(row.delta), nats(row.against_topk)});

  constexpr std::size_t gap = 2;
  constexpr std::size_t shortest_name = 12;
  std::vector<std::size_t> widths(table.front().size());
  for (const auto& cells : table) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], characters(cells[i]));
  }
  std::size_t shown = 1;
  std::size_t length = std::min(widths[0], shortest_name);
  while (shown < widths.size() && length + gap + widths[shown] <= columns)
    length += gap + widths[shown++];
  widths[0] =
      std::min(widths[0], std::min(widths[0], shortest_name) + columns - std::min(length, columns));

  std::string text;
  for (std::size_t r = 0; r < table.size(); ++r) {
    const bool bold = color && (r == 0 || is_better(results.rows[r - 1]));
    std::string line = cut_to(table[r][0], widths[0]);
    line.append(widths[0] - characters(line), ' ');
    for (std::size_t i = 1; i < shown; ++i)
      line.append(gap + widths[i] - characters(table[r][i]), ' ').append(table[r][i]);
    text += (bold ? "\033[1m" : "") + line + (bold ? "\033[0m" : "") + "\n";
  }
  return text;
}

}  // namespace olmoe
