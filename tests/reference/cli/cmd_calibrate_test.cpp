// olmoe calibrate

#include <doctest/doctest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/null_plot.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("calibrate --json holds what the tables show, and --plot has a panel for each layer") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 3000)).string();
  const auto command = [&](const std::string& out) {
    return std::vector<std::string>{
        "calibrate", "-m", nano.string(), "-f",       text,
        "-o",        out,  "--window",    "32",       "--target-experts",
        "5",         "-t", "1",           "--policy", "bh:alpha=?,min_k=1,max_k=16"};
  };
  const std::string out = (directory.path() / "out.safetensors").string();
  const std::string svg = (directory.path() / "out.svg").string();
  std::vector<std::string> with_json = command(out);
  with_json.insert(with_json.end(), {"--json", "--plot", svg});
  const Outcome table = run_olmoe(command(out));
  const Outcome outcome = run_olmoe(with_json);
  REQUIRE(table.code == 0);
  REQUIRE(outcome.code == 0);
  const auto document = nlohmann::json::parse(outcome.out);
  CHECK(document["schema"] == "fdroute-olmoe/1");
  CHECK(document["command"] == "calibrate");
  REQUIRE(document["layers"].size() == 4);
  for (const auto& layer : document["layers"]) {
    char row[64];
    std::snprintf(row, sizeof row, "%8.5f  %9.5f\n", layer["ks"].get<double>(),
                  layer["below_0_05"].get<double>());
    CHECK(table.out.find(row) != std::string::npos);
    std::snprintf(row, sizeof row, "%12.5f  %9.3f", layer["below_0_00625"].get<double>(),
                  layer["variance_ratio"].get<double>());
    CHECK(table.out.find(row) != std::string::npos);
  }
  CHECK(document["selections"].size() == 4);
  CHECK(document["loss"].is_null());
  CHECK(document["solved"]["mean_experts"] == doctest::Approx(5.0).epsilon(0.01));
  CHECK(table.out.find("--route '" + document["solved"]["policy"].get<std::string>() + "'") !=
        std::string::npos);

  const std::string picture = read(svg);
  for (const char* layer : {">layer 0<", ">layer 1<", ">layer 2<", ">layer 3<"})
    CHECK(picture.find(layer) != std::string::npos);
  CHECK(picture.find(">layer 4<") == std::string::npos);
}

TEST_CASE("the plot of uniform p-values is flat and diagonal") {
  std::vector<double> p;
  constexpr int n = 4000;
  for (int i = 1; i <= n; ++i) p.push_back((i - 0.5) / n);
  const std::vector<std::vector<double>> layers{p};
  const std::string svg = olmoe::null_plot(layers);
  // 40 bars of the same height: 1 of the 1.5 that the axis shows.
  std::size_t bars = 0;
  for (std::size_t at = svg.find("height=\"80.00\" fill=\"#3a6ea5\""); at != std::string::npos;
       at = svg.find("height=\"80.00\" fill=\"#3a6ea5\"", at + 1))
    ++bars;
  CHECK(bars == 40);
  // Every point of the QQ plot lies on the line from (420, 160) to (720, 40), nearly.
  int points = 0;
  for (std::size_t at = svg.find("<circle"); at != std::string::npos;
       at = svg.find("<circle", at + 1)) {
    double x = 0.0;
    double y = 0.0;
    REQUIRE(std::sscanf(svg.c_str() + at, "<circle cx=\"%lf\" cy=\"%lf\"", &x, &y) == 2);
    CHECK(160.0 - y == doctest::Approx((x - 420.0) * 120.0 / 300.0).epsilon(0.12));
    ++points;
  }
  CHECK(points > 100);
}
