#include "cli/null_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>

#include "cli/svg.hpp"

namespace olmoe {
namespace {

constexpr double panel_width = 300.0;
constexpr double panel_height = 120.0;
constexpr double panel_left = 60.0;
constexpr double plot_gap = 60.0;
constexpr double panel_top = 40.0;
constexpr double row_height = panel_height + 50.0;
constexpr std::string_view axis_color = "#222222";
constexpr std::string_view bar_color = "#3a6ea5";
constexpr std::string_view uniform_color = "#c0392b";

/// Scores per bin over those of uniform p-values.
std::vector<double> histogram(std::span<const double> p, std::size_t bins) {
  std::vector<double> density(bins);
  for (const double x : p)
    density[std::min(static_cast<std::size_t>(x * static_cast<double>(bins)), bins - 1)] +=
        static_cast<double>(bins) / static_cast<double>(p.size());
  return density;
}

/// -log10 of the expected and of the observed p(i), for places i that are even in the logarithm.
std::vector<Svg::Point> quantiles(std::span<const double> p) {
  const auto n = static_cast<double>(p.size());
  std::vector<Svg::Point> points;
  std::size_t last = p.size();
  for (double place = 0.0; place <= std::log(n); place += std::max(std::log(n), 1.0) / 200.0) {
    const auto i = static_cast<std::size_t>(std::exp(place)) - 1;
    if (i == last || i >= p.size() || p[i] <= 0.0) continue;
    last = i;
    points.emplace_back(-std::log10((static_cast<double>(i) + 1.0) / (n + 1.0)), -std::log10(p[i]));
  }
  return points;
}

void axes(Svg& svg, double x, double y, const std::string& below) {
  svg.line({x, y + panel_height}, {x + panel_width, y + panel_height}, axis_color);
  svg.line({x, y}, {x, y + panel_height}, axis_color);
  svg.text({x + panel_width / 2.0, y + panel_height + 28.0}, below, "middle", 10);
}

std::string label(double value) {
  std::array<char, 16> text;
  std::snprintf(text.data(), text.size(), "%g", value);
  return text.data();
}

void draw_histogram(Svg& svg, double x, double y, std::span<const double> p) {
  const auto density = histogram(p, 40);
  const double most = std::max(1.5, std::ceil(*std::ranges::max_element(density) * 2.0) / 2.0);
  const double width = panel_width / static_cast<double>(density.size());
  for (std::size_t i = 0; i < density.size(); ++i) {
    const double height = panel_height * density[i] / most;
    svg.rect(x + width * static_cast<double>(i), y + panel_height - height, width - 1.0, height,
             bar_color);
  }
  const double one = y + panel_height * (1.0 - 1.0 / most);
  svg.line({x, one}, {x + panel_width, one}, uniform_color, "stroke-dasharray=\"4 3\"");
  axes(svg, x, y, "p-value of losing scores");
  for (const double value : {0.0, 1.0, most})
    svg.text({x - 6.0, y + panel_height * (1.0 - value / most) + 4.0}, label(value), "end", 10);
  for (const double value : {0.0, 0.5, 1.0})
    svg.text({x + panel_width * value, y + panel_height + 14.0}, label(value), "middle", 10);
}

void draw_quantiles(Svg& svg, double x, double y, std::span<const double> p) {
  const auto points = quantiles(p);
  double most = 1.0;
  for (const auto& [expected, observed] : points) most = std::max({most, expected, observed});
  most = std::ceil(most);
  const auto at = [&](double expected, double observed) {
    return Svg::Point{x + panel_width * expected / most,
                      y + panel_height * (1.0 - observed / most)};
  };
  svg.line(at(0, 0), at(most, most), uniform_color, "stroke-dasharray=\"4 3\"");
  for (const auto& [expected, observed] : points) svg.dot(at(expected, observed), 1.6, bar_color);
  axes(svg, x, y, "expected -log10 p, against observed");
  for (double value = 0.0; value <= most; value += std::max(1.0, std::floor(most / 4.0))) {
    svg.text({x - 6.0, at(0, value).second + 4.0}, label(value), "end", 10);
    svg.text({at(value, 0).first, y + panel_height + 14.0}, label(value), "middle", 10);
  }
}

}  // namespace

std::string null_plot(std::span<const std::vector<double>> p) {
  Svg svg(panel_left + 2.0 * panel_width + plot_gap + 20.0,
          panel_top + row_height * static_cast<double>(p.size()));
  svg.text({panel_left, 20.0}, "p-values of held-out losing scores under the fitted null", "start",
           13);
  for (std::size_t l = 0; l < p.size(); ++l) {
    const double y = panel_top + row_height * static_cast<double>(l);
    svg.text({panel_left, y - 8.0}, "layer " + std::to_string(l));
    draw_histogram(svg, panel_left, y, p[l]);
    draw_quantiles(svg, panel_left + panel_width + plot_gap, y, p[l]);
  }
  return svg.document();
}

}  // namespace olmoe
