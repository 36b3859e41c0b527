#include "sweep/plots.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "reference/temp_dir.hpp"

TEST_CASE("The gnuplot script holds all data") {
  const olmoe::PlotData data{.title = "a_b",
                             .top_k = {{1, 30.0}, {2, 20.0}},
                             .native_k = 2,
                             .families = {{"bh", {{1.5, 24.0, 0.98, 0.01}, {1.2, 28.0, {}, {}}}}},
                             .rows = {{"bh_1", {1.0, 2.0}, {0.0, 0.25, 0.75}}}};
  const std::string script = olmoe::gnuplot_script(data, "stem");
  CHECK(script.find("1.2 28 NaN NaN\n1.5 24 0.98 0.01\n") !=
        std::string::npos);  // in order of the mean
  CHECK(script.find("1 30\n2 20\n") != std::string::npos);
  CHECK(script.find("2 0 0.75") != std::string::npos);
  CHECK(script.find("title 'a_b'") != std::string::npos);
  CHECK(script.find("noenhanced") != std::string::npos);  // no subscript
}

TEST_CASE("A family far from top-k does not squeeze the others at equal cost") {
  const auto family = [](const char* name, double ratio) {
    return olmoe::PlotData::Family{name, {{3.0, 20.0 * ratio, ratio, 0.001}}};
  };
  olmoe::PlotData data{.title = "",
                       .top_k = {{2, 21.0}, {4, 20.0}},
                       .native_k = {},
                       .families = {family("a", 0.99), family("b", 1.012), family("c", 1.029)},
                       .rows = {}};
  const auto drawn_to = [&] {
    const std::string script = olmoe::gnuplot_script(data, "stem");
    const std::string range = "set yrange [";
    const auto begin = script.find(range, script.find("At equal cost"));
    return std::stod(script.substr(script.find(':', begin) + 1));
  };
  CHECK(drawn_to() > 1.03);
  CHECK(olmoe::gnuplot_script(data, "stem").find("; zoomed") == std::string::npos);
  data.families.push_back(family("far", 1.2));
  CHECK(drawn_to() > 1.03);
  CHECK(drawn_to() < 1.04);
  CHECK(olmoe::gnuplot_script(data, "stem").find("; zoomed") != std::string::npos);
}

TEST_CASE("gnuplot takes titles, names and paths as data") {
  const TempDir dir;
  const std::string command = "touch " + (dir.path() / "run").string();
  const std::string hostile = "`" + command + "`'; system('" + command + "'); x='\"`" + command +
                              "`\nsystem('" + command + "')";
  const olmoe::PlotData data{.title = hostile,
                             .top_k = {{1, 30.0}, {2, 20.0}},
                             .native_k = 2,
                             .families = {{hostile, {{1.5, 24.0, 0.98, 0.01}}}},
                             .rows = {{hostile, {1.0, 2.0}, {0.0, 0.25, 0.75}}}};
  const auto out = dir.path() / "bob's '; system('id > F'); b='";
  const olmoe::Pictures pictures = olmoe::write_plots(data, out, "stem");
  CHECK_FALSE(std::filesystem::exists(dir.path() / "run"));
  CHECK_FALSE(std::filesystem::exists("F"));
  CHECK_FALSE(std::filesystem::exists(out / "F"));
  CHECK(std::filesystem::exists(out / "stem.gp"));
  if (pictures == olmoe::Pictures::none) {
    MESSAGE("skipped: there is no gnuplot");
    return;
  }
  CHECK(pictures == olmoe::Pictures::drawn);
  CHECK(std::filesystem::file_size(out / "stem.png") > 10'000);
  CHECK(std::filesystem::file_size(out / "stem.svg") > 10'000);
}
