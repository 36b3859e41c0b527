#include "sweep/plots.hpp"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <new>
#include <system_error>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "formats/temporary_file.hpp"

extern char** environ;

namespace olmoe {
namespace {

std::string number(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.9g", value);
  return text.data();
}

/// A gnuplot string: in single quotes nothing is substituted, and only a quote is doubled. A string
/// ends with its line, so control characters become spaces. The terminals know no markup.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\'') result += '\'';
    result += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return result + "'";
}

// Okabe and Ito's palette, told apart with every common colour blindness; black is top-k's.
constexpr std::array colours{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"};
constexpr std::array shapes{7, 5, 9, 11, 13, 6, 4, 8, 10, 12};

std::string style(std::size_t family) {
  return "lc rgb \"" + std::string(colours[family % colours.size()]) + "\" pt " +
         std::to_string(shapes[family % shapes.size()]) + " ps 1.1 lw 1.6" +
         (family >= colours.size() ? " dt (8,4)" : "");
}

std::string curve_block(const PlotData& data) {
  std::string text = "$topk << EOD\n";
  for (const auto& [k, perplexity] : data.top_k)
    text += std::to_string(k) + " " + number(perplexity) + "\n";
  return text + "EOD\n";
}

std::string family_block(std::size_t index, PlotData::Family family) {
  std::stable_sort(family.points.begin(), family.points.end(),
                   [](const auto& a, const auto& b) { return a.mean_experts < b.mean_experts; });
  std::string text = "$family" + std::to_string(index) + " << EOD\n";
  for (const PlotData::Point& point : family.points) {
    text += number(point.mean_experts) + " " + number(point.perplexity) + " " +
            (point.ratio ? number(*point.ratio) : "NaN") + " " +
            (point.ratio_error ? number(*point.ratio_error) : "NaN") + "\n";
  }
  return text + "EOD\n";
}

/// Cells (column, row, value), row 0 on top, for `with image`.
template <class Values>
std::string cells_block(const std::string& name, const PlotData& data, const Values& values,
                        std::size_t first, std::size_t columns) {
  std::string text = "$" + name + " << EOD\n";
  for (std::size_t row = 0; row < data.rows.size(); ++row) {
    const std::vector<double>& line = values(data.rows[row]);
    for (std::size_t c = first; c < columns; ++c) {
      text += std::to_string(c) + " " + std::to_string(row) + " " +
              (c < line.size() && line[c] > 0.0 ? number(line[c]) : "NaN") + "\n";
    }
    text += "\n";
  }
  return text + "EOD\n";
}

/// Policies of a grid file have long names; the beginning has to do.
std::string shortened(const std::string& name) {
  constexpr std::size_t longest = 28;
  return name.size() <= longest ? name : name.substr(0, longest - 1) + "…";
}

std::string row_tics(const PlotData& data) {
  std::string text = "(";
  for (std::size_t row = 0; row < data.rows.size(); ++row)
    text +=
        (row == 0 ? "" : ", ") + quoted(shortened(data.rows[row].name)) + " " + std::to_string(row);
  return text + ")";
}

/// The range of what an axis has to show.
struct Extent {
  double low = 1e300;
  double high = -1e300;
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

/// The range of ratios to draw, and whether it leaves a family out: the families that are further
/// from 1 than three times the middle one would make a line of all the others.
std::pair<Extent, bool> ratios_to_draw(const PlotData& data) {
  std::vector<Extent> families;
  for (const PlotData::Family& family : data.families) {
    Extent of;
    for (const PlotData::Point& point : family.points) {
      if (!point.ratio) continue;
      of.add(*point.ratio - point.ratio_error.value_or(0.0));
      of.add(*point.ratio + point.ratio_error.value_or(0.0));
    }
    if (of.low <= of.high) families.push_back(of);
  }
  const auto distance = [](const Extent& of) { return std::max(of.high - 1.0, 1.0 - of.low); };
  std::sort(families.begin(), families.end(),
            [&](const Extent& a, const Extent& b) { return distance(a) < distance(b); });
  Extent drawn;
  drawn.add(0.995);
  drawn.add(1.005);
  for (const Extent& of : families) {
    if (distance(of) > 3.0 * distance(families[(families.size() - 1) / 2])) return {drawn, true};
    drawn.add(of.low);
    drawn.add(of.high);
  }
  return {drawn, false};
}

}  // namespace

std::string script_head(const std::string& stem, int width, int height) {
  const auto terminal = [&](const char* name, int font) {
    return "  set terminal " + std::string(name) + " noenhanced size " + std::to_string(width) +
           "," + std::to_string(height) + " font 'DejaVu Sans," + std::to_string(font) +
           "' background '#ffffff'\n";
  };
  return "if (!exists('format')) format = 'png'\nif (!exists('target')) target = " +
         quoted(stem + ".") + " . format\nif (format eq 'svg') {\n" + terminal("svg", 15) +
         "} else {\n" + terminal("pngcairo", 13) + "}\nset encoding utf8\nset output target\n\n";
}

std::string gnuplot_script(const PlotData& data, const std::string& stem) {
  std::size_t layers = 0;
  std::size_t counts = 2;
  for (const PlotData::Row& row : data.rows) {
    layers = std::max(layers, row.layer_means.size());
    for (std::size_t k = 0; k < row.histogram.size(); ++k) {
      if (row.histogram[k] > 0.0) counts = std::max(counts, k + 1);
    }
  }
  Extent experts;
  Extent perplexity;
  const auto [ratio, zoomed] = ratios_to_draw(data);
  for (const PlotData::Family& family : data.families) {
    for (const PlotData::Point& point : family.points) {
      experts.add(point.mean_experts);
      perplexity.add(point.perplexity);
    }
  }
  // Draw the part of the top-k curve that lies beside the points; all of it if there are none.
  if (data.families.empty() && !data.top_k.empty()) {
    experts.add(data.top_k.begin()->first);
    experts.add(data.top_k.rbegin()->first);
  }
  experts = {std::floor(experts.low - 0.75), std::ceil(experts.high + 0.75)};
  for (const auto& [k, value] : data.top_k) {
    if (k >= experts.low && k <= experts.high) perplexity.add(value);
  }
  const double margin = 0.06 * (ratio.high - ratio.low);
  constexpr std::size_t key_columns = 5;
  const std::size_t key_rows = (data.families.size() + 2 + key_columns - 1) / key_columns;
  const double key_height = 0.019 * static_cast<double>(key_rows);

  std::string s = script_head(stem, 1500, 1320);
  s += curve_block(data);
  for (std::size_t f = 0; f < data.families.size(); ++f) s += family_block(f, data.families[f]);
  const auto layer_means = [](const PlotData::Row& row) -> const auto& {
    return row.layer_means;
  };
  const auto histogram = [](const PlotData::Row& row) -> const auto& {
    return row.histogram;
  };
  s += cells_block("layers", data, layer_means, 0, layers);
  s += cells_block("histogram", data, histogram, 0, counts);

  s += "\nset multiplot title " + quoted(data.title) + " font ',17'\n";
  s += axes_style;

  const std::string top = number(0.915 - key_height);
  s += "\n# Perplexity against mean experts, with one key for both upper panels.\n";
  s += "set lmargin at screen 0.075\nset rmargin at screen 0.485\n"
       "set tmargin at screen " +
       top + "\nset bmargin at screen 0.565\n";
  s += "set title 'Perplexity: lower and further left is better' font ',14'\n";
  s += "set xlabel 'mean experts per token and layer'\nset ylabel 'perplexity'\n";
  s += "set xrange [" + number(std::max(experts.low, 0.0)) + ":" + number(experts.high) + "]\n";
  s += "set yrange [" + number(perplexity.low * 0.985) + ":" + number(perplexity.high * 1.015) +
       "]\n";
  s += "set key at screen 0.53, screen 0.955 center top vertical Left reverse maxrows " +
       std::to_string(key_rows) + " samplen 2.5 width 1 font ',12'\n";
  s += "plot $topk using 1:2 with linespoints lc rgb 'black' lw 1.6 pt 2 ps 0.9 title "
       "'fixed top-k'";
  if (data.native_k)
    s += ", \\\n  $topk using ($1 == " + std::to_string(*data.native_k) +
         " ? $1 : NaN):2 with points lc rgb 'black' pt 6 ps 2.4 lw 1.8 title \"the model's own k\"";
  for (std::size_t f = 0; f < data.families.size(); ++f)
    s += ", \\\n  $family" + std::to_string(f) + " using 1:2 with linespoints " + style(f) +
         " title " + quoted(data.families[f].name);
  s += "\nunset key\n";

  s += "\n# The same points over top-k at equal cost.\n";
  s += "set lmargin at screen 0.57\nset rmargin at screen 0.98\n";
  s += std::string("set title 'At equal cost, ± one standard error: below 1 beats top-k") +
       (zoomed ? "; zoomed" : "") + "' font ',14'\n";
  s += "set ylabel \"perplexity / top-k's at the same mean experts\"\n";
  s += "set yrange [" + number(ratio.low - margin) + ":" + number(ratio.high + margin) + "]\n";
  s += "plot 1 with lines lc rgb 'black' lw 1.6 notitle";
  for (std::size_t f = 0; f < data.families.size(); ++f)
    s += ", \\\n  $family" + std::to_string(f) + " using 1:3:4 with yerrorlines " + style(f) +
         " notitle";
  s += "\n";

  const std::string rows = std::to_string(data.rows.size());
  s += "\n# One line of cells per configuration, in the two lower panels.\n";
  s += "set bmargin at screen 0.06\nset tmargin at screen 0.475\n"
       "unset grid\nset border 0\nset tics scale 0\n"
       "set yrange [" +
       rows +
       " - 0.5:-0.5]\n"
       "set ytics " +
       row_tics(data) + " font ',11'\nset ylabel ''\n";
  // Viridis: even steps of lightness, readable in grey and with colour blindness.
  s += "set palette defined (0 '#fde725', 0.25 '#5ec962', 0.5 '#21918c', 0.75 '#3b528b', "
       "1 '#440154')\n";
  s += "set lmargin at screen 0.175\nset rmargin at screen 0.43\n";
  s += "set title 'Mean experts, by layer' font ',14'\nset xlabel 'layer'\n";
  s += "set xrange [-0.5:" + std::to_string(layers) +
       " - 0.5]\n"
       "set xtics 0, " +
       std::to_string(std::max<std::size_t>(1, layers / 8)) +
       "\n"
       "set colorbox user origin screen 0.44, screen 0.06 size screen 0.011, screen 0.415\n"
       "set cbrange [*:*]\n";
  s += "plot $layers using 1:2:3 with image pixels notitle\n";
  s += "\nset lmargin at screen 0.505\nset rmargin at screen 0.92\n";
  s += "set title 'Share of (token, layer) pairs, by number of experts' font ',14'\n"
       "set xlabel 'experts of a token in a layer'\nset ytics ('' 0)\n";
  s += "set xrange [-0.5:" + std::to_string(counts) +
       " - 0.5]\n"
       "set xtics 0, " +
       std::to_string(counts <= 24 ? 2 : 8) +
       "\n"
       "set colorbox user origin screen 0.93, screen 0.06 size screen 0.011, screen 0.415\n"
       "set cbrange [0.001:1]\nset logscale cb\nset format cb '%g'\n";
  s += "plot $histogram using 1:2:3 with image pixels notitle\n";
  s += "unset multiplot\nset output\n";
  return s;
}

namespace {

/// Runs gnuplot on `stem`.gp in `directory`, which writes `target` there; false if there is no such
/// program. What it is told are names within the directory: a path may hold anything.
bool run_gnuplot(const std::filesystem::path& directory, const std::string& stem,
                 const std::string& format, const std::string& target) {
  std::array<std::string, 6> words{
      "gnuplot",          "-e", "format=" + quoted(format), "-e", "target=" + quoted(target),
      "./" + stem + ".gp"};
  std::array<char*, 7> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  ::posix_spawn_file_actions_t actions;
  if (::posix_spawn_file_actions_init(&actions) != 0) throw std::bad_alloc();
  ::pid_t child = 0;
  int code = ::posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  if (code == 0)
    code = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT) return false;
  if (code != 0) throw Error("cannot run gnuplot: " + std::generic_category().message(code));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR)
      throw Error("cannot wait for gnuplot: " + std::generic_category().message(errno));
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error("gnuplot failed on " + (directory / (stem + ".gp")).string());
  return true;
}

}  // namespace

Pictures write_plots(const PlotData& data, const std::filesystem::path& directory,
                     const std::string& stem) {
  return write_script(gnuplot_script(data, stem), directory, stem);
}

Pictures write_script(const std::string& script, const std::filesystem::path& directory,
                      const std::string& stem) {
  make_directories(directory);
  const auto picture = [&](const std::string& format) { return directory / (stem + "." + format); };
  const std::array<std::string, 2> formats{"png", "svg"};
  for (const std::string& format : formats) {
    std::error_code ignored;
    std::filesystem::remove(picture(format), ignored);  // none is better than one of other numbers
  }
  write_atomically(directory / (stem + ".gp"), script);
  for (const std::string& format : formats) {
    const TemporaryFile temporary(picture(format));
    const std::string target = temporary.path().filename().string();
    if (!run_gnuplot(directory, stem, format, target)) return Pictures::none;
    temporary.replace();
  }
  return Pictures::drawn;
}

}  // namespace olmoe
