#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/svg.hpp"
#include "cli/trace.hpp"

namespace olmoe {
namespace {

constexpr std::string_view picture_ink = "#222222";
constexpr std::string_view chosen_color = "#2563a8";
constexpr std::string_view other_color = "#a0a6ad";
constexpr std::string_view line_color = "#c0392b";

/// An expert and its p-value.
struct Candidate {
  std::int32_t expert;
  double p;
  bool chosen;
};

std::string text_of(const char* format, double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

/// The token's experts by p-value, of equals by logit: the order in which they are selected.
std::vector<Candidate> sorted_candidates(const TracedLayer& layer, std::int64_t token) {
  const auto experts = static_cast<std::size_t>(layer.experts());
  const auto row = static_cast<std::size_t>(token);
  std::vector<Candidate> all;
  for (std::size_t e = 0; e < experts; ++e)
    all.push_back({static_cast<std::int32_t>(e), layer.p[row * experts + e], false});
  const auto first = row * static_cast<std::size_t>(layer.routing.capacity);
  for (std::size_t i = 0; i < static_cast<std::size_t>(layer.routing.counts[row]); ++i)
    all[static_cast<std::size_t>(layer.routing.experts[first + i])].chosen = true;
  std::ranges::stable_sort(all, [&](const Candidate& a, const Candidate& b) {
    if (a.p != b.p) return a.p < b.p;
    return layer.routing.logits[row * experts + static_cast<std::size_t>(a.expert)] >
           layer.routing.logits[row * experts + static_cast<std::size_t>(b.expert)];
  });
  return all;
}

/// The first `shown` sorted p-values, up to `most`, and the line.
void draw(Svg& svg, double left, const std::vector<Candidate>& candidates,
          const std::vector<double>& critical, std::size_t shown, double most,
          const std::string& title) {
  constexpr double top = 64.0;
  constexpr double width = 330.0;
  constexpr double height = 230.0;
  const auto x = [&](double k) { return left + width * k / (static_cast<double>(shown) + 0.5); };
  const auto y = [&](double p) { return top + height * (1.0 - std::min(p / most, 1.0)); };
  svg.line({left, top + height}, {left + width, top + height}, picture_ink);
  svg.line({left, top}, {left, top + height}, picture_ink);
  for (int i = 0; i <= 4; ++i) {
    const double value = most * i / 4.0;
    svg.text({left - 6.0, y(value) + 4.0}, text_of("%.2g", value), "end", 10);
  }
  const std::size_t step = shown > 20 ? 16 : 4;
  for (std::size_t k = step; k <= shown; k += step)
    svg.text({x(static_cast<double>(k)), top + height + 15.0}, std::to_string(k), "middle", 10);
  svg.text({left + width / 2.0, top + height + 34.0}, "rank k of the p-value", "middle");
  svg.text({left, top - 10.0}, title);

  std::vector<Svg::Point> line;
  for (std::size_t k = 1; k <= shown && critical[k - 1] <= most; ++k)
    line.emplace_back(x(static_cast<double>(k)), y(critical[k - 1]));
  svg.polyline(line, line_color);
  for (std::size_t k = 1; k <= shown; ++k) {
    const Candidate& candidate = candidates[k - 1];
    if (candidate.p > most) break;
    svg.dot({x(static_cast<double>(k)), y(candidate.p)}, 3.2,
            candidate.chosen ? chosen_color : other_color,
            "expert " + std::to_string(candidate.expert) + ", p = " + text_of("%.3g", candidate.p));
  }
}

}  // namespace

std::string step_up_picture(const TracedLayer& layer, std::int64_t token,
                            const std::string& title) {
  if (layer.p.empty() || layer.critical.empty())
    throw std::invalid_argument(
        "--svg needs a rule that compares p-values with critical values, such as bh");
  const auto candidates = sorted_candidates(layer, token);
  const auto count =
      static_cast<std::size_t>(layer.routing.counts[static_cast<std::size_t>(token)]);
  const std::size_t near = std::min(std::max<std::size_t>(2 * count, 16), candidates.size());
  const double most = 1.6 * layer.critical[near - 1];

  Svg svg(860.0, 366.0);
  svg.text({56.0, 24.0}, title, "start", 14);
  draw(svg, 56.0, candidates, layer.critical, candidates.size(), 1.0,
       "all " + std::to_string(candidates.size()) + " experts");
  draw(svg, 486.0, candidates, layer.critical, near, most,
       "the first " + std::to_string(near) + ", enlarged");
  svg.dot({496.0, 348.0}, 3.2, chosen_color);
  svg.text({504.0, 352.0}, "selected: " + std::to_string(count));
  svg.dot({600.0, 348.0}, 3.2, other_color);
  svg.text({608.0, 352.0}, "not selected");
  svg.line({700.0, 348.0}, {724.0, 348.0}, line_color);
  svg.text({730.0, 352.0}, "critical value");
  return svg.document();
}

}  // namespace olmoe
