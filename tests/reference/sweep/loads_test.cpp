// The grid loads: its configurations, comparisons at equal loads, what it writes.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "reference/error_of.hpp"
#include "sweep/loads_grid.hpp"
#include "sweep/loads_results.hpp"
#include "sweep/provenance.hpp"

namespace {

using Added = olmoe::LoadsConfiguration::Added;

olmoe::LoadsConfiguration configuration(const std::string& family, int mean,
                                        Added added = Added::nothing) {
  return {family, mean, olmoe::parse_grouping("batch:16"), added, {8, 8}};
}

/// A row with this many loads and these losses of two documents.
olmoe::LoadsRow row(const olmoe::LoadsConfiguration& what, double loads,
                    olmoe::DocumentLosses losses) {
  olmoe::LoadsRow result;
  result.configuration = what;
  result.loads.mean = loads;
  result.losses = std::move(losses);
  result.perplexity = std::exp(olmoe::document_mean(result.losses).value);
  return result;
}

olmoe::LoadsResults some_results() {
  olmoe::LoadsResults results;
  results.inputs = {{"model", {{"sha256", "0123456789abcdef0123"}, {"layers", 4}, {"experts", 64}}},
                    {"texts", {{{"documents", {1, 2}}}}},
                    {"window", 512},
                    {"fdroute", "0"},
                    {"compute", "f32"}};
  results.rows = {row(configuration("topk", 2), 20.0, {3.0, 2.0}),
                  row(configuration("topk", 3), 30.0, {2.0, 1.8}),
                  row(configuration("topk", 4), 34.0, {1.8, 1.7}),
                  row(configuration("topk", 2, Added::best), 22.0, {2.1, 1.7}),
                  row(configuration("topk", 3, Added::best), 32.0, {1.7, 1.6}),
                  row(configuration("bh", 2, Added::best), 24.0, {1.9, 1.5}),
                  row(configuration("bh", 3, Added::best), 40.0, {1.5, 1.5}),
                  row(configuration("bh", 3, Added::random), 25.0, {2.6, 1.9})};
  olmoe::compare(results);
  return results;
}

}  // namespace

TEST_CASE("Grid loads has every family plain, completed and with random residents") {
  olmoe::Config config;
  config.num_experts = 64;
  const auto grid = olmoe::loads_grid(config);
  std::set<std::string> names;
  for (const auto& c : grid) names.insert(c.name());
  CHECK(names.size() == grid.size());
  CHECK(grid.size() == 3 * (8 + 5 + 5 + 6 + 5 + 5 + 3 * 3 + 2 * 3));
  for (const char* name : {"batch16_topk_mean1", "consecutive8_threshold+best12_mean3",
                           "cache16_bh+random8_mean4", "batch16_bh+best8_mean6"})
    CHECK(names.count(name) == 1);
  config.num_experts = 8;
  CHECK(error_of([&] { olmoe::loads_grid(config); }) ==
        "grid loads needs a model of at least 16 experts, this one has 8");
}

TEST_CASE("Grid oracle has top-k plain, completed and by the oracle") {
  olmoe::Config config;
  config.num_experts = 64;
  const auto grid = olmoe::oracle_grid(config);
  std::set<std::string> names;
  for (const auto& c : grid) {
    names.insert(c.name());
    CHECK(c.completes() == (c.curve() == "topk+best8"));
  }
  CHECK(names.size() == grid.size());
  CHECK(grid.size() == 3 * (8 + 6 + 6));
  for (const char* name :
       {"batch16_topk_mean8", "consecutive8_topk+best8_mean6", "cache16_topk+oracle_mean6"})
    CHECK(names.count(name) == 1);
  config.num_experts = 8;
  CHECK(error_of([&] { olmoe::oracle_grid(config); }) ==
        "grid oracle needs a model of at least 16 experts, this one has 8");
}

TEST_CASE("a row is compared with top-k at its loads, interpolated between two k") {
  const olmoe::LoadsResults results = some_results();
  const auto& rows = results.rows;
  CHECK(!rows[0].against_topk);
  // At 22 loads top-k has a fifth of the way from (3, 2) to (2, 1.8): (2.8, 1.96).
  REQUIRE(rows[3].against_topk);
  CHECK(rows[3].against_topk->value == doctest::Approx(((2.1 - 2.8) + (1.7 - 1.96)) / 2));
  CHECK(rows[3].against_topk->documents == 2);
  CHECK(rows[3].against_topk->error == doctest::Approx(std::abs((2.1 - 2.8) - (1.7 - 1.96)) / 2));
  CHECK(!rows[3].against_completed_topk);
  // At 24: (2.6, 1.92); completed (2.02, 1.68).
  CHECK(rows[5].against_topk->value == doctest::Approx(((1.9 - 2.6) + (1.5 - 1.92)) / 2));
  CHECK(rows[5].against_completed_topk->value ==
        doctest::Approx(((1.9 - 2.02) + (1.5 - 1.68)) / 2));
  // 40 loads are beyond what top-k was measured at.
  CHECK(!rows[6].against_topk);
  CHECK(rows[7].against_topk->value == doctest::Approx(((2.6 - 2.5) + (1.9 - 1.9)) / 2));
  CHECK(!rows[7].against_completed_topk);
}

TEST_CASE("a curve is read at the loads of top-k") {
  const olmoe::LoadsResults results = some_results();
  const auto group = olmoe::parse_grouping("batch:16");
  // bh+best8 at 30 loads: 6/16 of the way from (1.9, 1.5) to (1.5, 1.5).
  const auto found = olmoe::against_k(results, group, "bh+best8", 3);
  REQUIRE(found);
  CHECK(found->value == doctest::Approx(((1.75 - 2.0) + (1.5 - 1.8)) / 2));
  CHECK(!olmoe::against_k(results, group, "bh+best8", 2));   // 20 loads: below the curve
  CHECK(!olmoe::against_k(results, group, "bh+best8", 5));   // not measured
  CHECK(!olmoe::against_k(results, group, "bh+best12", 3));  // no such curve
  CHECK(!olmoe::against_k(results, olmoe::parse_grouping("cache:16"), "bh+best8", 3));
}

TEST_CASE("report, table, JSON and picture hold every row") {
  const olmoe::LoadsResults results = some_results();
  const std::string csv = olmoe::loads_csv(results);
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 9);
  CHECK(csv.find("\nbatch16_bh+best8_mean2,batch:16,bh+best8,2,0,24,") != std::string::npos);
  const std::string header = csv.substr(0, csv.find('\n'));
  for (std::size_t begin = 0; begin < csv.size(); begin = csv.find('\n', begin) + 1) {
    const std::string line = csv.substr(begin, csv.find('\n', begin) - begin);
    CHECK(std::count(line.begin(), line.end(), ',') ==
          std::count(header.begin(), header.end(), ','));
  }

  const auto json = olmoe::to_json(results);
  CHECK(json.at("rows").size() == 8);
  CHECK(json.at("rows")[5].at("documents") == nlohmann::ordered_json{1.9, 1.5});
  CHECK(json.at("rows")[0].at("against_topk").is_null());

  const std::string report = olmoe::loads_report(results, olmoe::Pictures::drawn);
  CHECK(report.find("## Batch of 16\n") != std::string::npos);
  CHECK(report.find("loads of top-3, 30.00 |") != std::string::npos);
  CHECK(report.find("| `bh+best8` | – | 0.7596 (") != std::string::npos);  // exp(-0.275)
  CHECK(report.find("loads_analysis.png") != std::string::npos);

  const std::string script = olmoe::loads_script(results, "loads_analysis");
  CHECK(script.find("24 ") != std::string::npos);
  for (const char* title : {"title 'topk'", "title 'topk+best8'", "title 'bh+random8'"})
    CHECK(script.find(title) != std::string::npos);
  // Top-2's perplexity ends the axis, whatever lies above.
  double top_2 = 0.0;
  for (const olmoe::LoadsRow& row : results.rows)
    if (row.configuration.curve() == "topk" && row.configuration.mean == 2) top_2 = row.perplexity;
  const auto range = script.find("set yrange [");
  REQUIRE(range != std::string::npos);
  CHECK(std::stod(script.substr(script.find(':', range) + 1)) == doctest::Approx(1.005 * top_2));
  CHECK(json.at("written") == olmoe::provenance());
  CHECK(report.find(olmoe::provenance_text(olmoe::provenance())) != std::string::npos);
}
