#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace olmoe {

/// What the pictures of a sweep show.
struct PlotData {
  struct Point {
    double mean_experts;
    double perplexity;
    std::optional<double> ratio;  ///< equal-cost ratio, where top-k was measured on both sides
    std::optional<double> ratio_error;  ///< one standard error
  };
  struct Family {
    std::string name;
    std::vector<Point> points;  ///< joined in ascending order of mean_experts
  };
  struct Row {
    std::string name;
    std::vector<double> layer_means;  ///< (layers): mean experts
    /// (experts + 1): the share of (token, layer) pairs with 0, 1, 2 ... experts.
    std::vector<double> histogram;
  };

  std::string title;
  std::map<int, double> top_k;  ///< perplexity by k
  std::optional<int> native_k;  ///< marked on the curve
  std::vector<Family> families;
  std::vector<Row> rows;  ///< top to bottom
};

/// What became of a sweep's pictures: there was no gnuplot, it failed, or they were drawn.
enum class Pictures : std::uint8_t { none, failed, drawn };

/// The picture as one gnuplot script that holds its data. Run by itself it writes
/// `stem`.png beside it; -e "format='svg'" makes it write `stem`.svg. Title, names and stem may be
/// any text: they stand in strings that gnuplot takes as they are.
std::string gnuplot_script(const PlotData& data, const std::string& stem);

/// What a script begins with: the terminal, of width x height pixels, and the file to write.
std::string script_head(const std::string& stem, int width, int height);

/// How a script draws axes and their grid.
inline constexpr const char* axes_style =
    "set border 3 lc rgb '#606060'\nset tics nomirror out textcolor rgb '#303030'\n"
    "set grid lc rgb '#dddddd' lt 1 lw 0.8\n";

/// Writes a script as `directory`/`stem`.gp, and by gnuplot `stem`.png and `stem`.svg. Pictures of
/// an earlier run are removed first. Returns whether there is a gnuplot on this machine: none or
/// drawn. Throws Error if gnuplot fails or a file cannot be written. The script takes `format` and
/// `target`.
Pictures write_script(const std::string& script, const std::filesystem::path& directory,
                      const std::string& stem);

/// write_script() of gnuplot_script().
Pictures write_plots(const PlotData& data, const std::filesystem::path& directory,
                     const std::string& stem);

}  // namespace olmoe
