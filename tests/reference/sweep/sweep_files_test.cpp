// A sweep's files as others may write them: whatever they hold is read, or is an error that names
// file and field.

#include "sweep/sweep_files.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstddef>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/atomic_file.hpp"
#include "reference/json_places.hpp"
#include "reference/sound_sweep.hpp"
#include "sanitizers.hpp"

namespace {

using Json = nlohmann::ordered_json;

}  // namespace

TEST_CASE("A sound sweep is read") {
  const SmallSweep sweep;
  CHECK(sweep.error() == "no error");
}

TEST_CASE("Whatever stands in the place of a value is read or is an error that names the file") {
  const SmallSweep sweep;
  Json deep = 1;
  for (int i = 0; i < 40; ++i) deep = Json::array({deep});
  const std::vector<Json> values{nullptr,
                                 "x",
                                 -1,
                                 0,
                                 1.5,
                                 1e300,
                                 true,
                                 Json::array(),
                                 deep,
                                 Json::object(),
                                 Json{{"unreachable", "x"}},
                                 18446744073709551615U,
                                 std::string(300, 'x'),
                                 "a\nb",
                                 "../x"};
  for (const std::filesystem::path& file : sweep.files()) {
    std::vector<std::string> places = places_of(olmoe::read_sweep_file(file));
    CHECK(places.size() > 3);
    std::erase_if(places,
                  [i = 0](const std::string&) mutable { return i++ % test::stride_of_cases != 0; });
    std::size_t refused = 0;
    for (const std::string& place : places) {
      for (const Json& value : values) {
        CAPTURE(file.string());
        CAPTURE(place);
        CAPTURE(value.dump());
        std::string message;
        REQUIRE_NOTHROW(message = sweep.error_with(file, place, value));
        if (message == "no error") continue;
        ++refused;
        REQUIRE(message.find(sweep.directory().path().string()) == 0);
      }
    }
    CHECK((refused > places.size() * 3 || test::stride_of_cases > 1));
  }
}

TEST_CASE("A wrong field is named") {
  const SmallSweep sweep;
  const std::string plan = sweep.directory().plan_file().string();
  const auto row = sweep.directory().config_file("top_p_mean2");
  const auto timing = sweep.directory().timing_file("top_p_mean2");
  CHECK(sweep.error_with(row, "/result/evaluation/total/perplexity/value", nullptr) ==
        row.string() +
            ": result.evaluation.total.perplexity.value: a number not below 0.0 is expected, got "
            "null");
  CHECK(sweep.error_with(row, "/result/evaluation/domains/0/windows/1/0", "x") ==
        row.string() +
            ": result.evaluation.domains[0].windows[1][0]: an integer from 1 on is "
            "expected, got \"x\"");
  CHECK(sweep.error_with(row, "/result/evaluation/domains/0/windows/0/0", 9) ==
        row.string() + ": the windows of domain 0 are not the baseline's");
  CHECK(sweep.error_with(row, "/result/evaluation/domains/0/documents/11", 1) ==
        row.string() +
            ": result.evaluation.domains[0].documents: a number of windows for each, all "
            "together, is expected, got [1,1,1,1,1,1,1,1,1,1,1,1]");
  CHECK(sweep.error_with(row, "/result/dealt/1/documents/0", Json::array()) ==
        row.string() +
            ": result.dealt[1].documents[0]: an array of 12 elements is expected, got []");
  CHECK(sweep.error_with(plan, "/configurations/1/like", "nobody") ==
        plan +
            ": configuration top_p_mean2 is like 'nobody', which is none with a policy of its own");
  CHECK(sweep.error_with(plan, "/inputs/model/layers", 0)
            .starts_with(plan + ": inputs.model.layers: an integer from 1 to "));
  CHECK(sweep.error_with(timing, "/0/policy/decode_steps", -1) ==
        timing.string() + ": [0].policy.decode_steps: an integer from 0 on is expected, got -1");
  CHECK(sweep.error_with(plan, "{}") == plan + ": has no 'schema'");
  CHECK(sweep.error_with(plan, "[]") == plan + ": an object is expected, got []");
  const std::string experts = row.string() + ": result.evaluation.total.routing.experts.";
  CHECK(sweep.error_with(row, "/result/evaluation/total/routing/experts/histogram/0", 1)
            .starts_with(experts + "histogram: as many rows as 'rows' says is expected, got "));
  CHECK(sweep.error_with(row, "/result/evaluation/total/routing/experts/rows", 7)
            .starts_with(experts + "histogram"));
  CHECK(sweep.error_with(row, "/result/generation/mean_experts", 9e18) ==
        row.string() +
            ": result.generation.mean_experts: a number from 0.0 to 4.0 is expected, got 9e+18");
  CHECK(sweep.error_with(row, "/result/policy", "") ==
        row.string() + ": result.policy: a policy is expected, got \"\"");
  // A result without a target cannot be unreachable: then there would be no baseline.
  const auto baseline = sweep.directory().config_file("topk_1_baseline");
  CHECK(sweep.error_with(baseline, "/result", {{"unreachable", "x"}})
            .starts_with(baseline.string() + ": result.unreachable: "));
}

TEST_CASE("Names in a plan cannot lead out of the directory, nor say anything to a program") {
  const SmallSweep sweep;
  const std::string plan = sweep.directory().plan_file().string();
  for (const std::string place :
       {"/stem", "/configurations/1/name", "/configurations/1/nulls", "/configurations/1/family"}) {
    for (const std::string& bad :
         {std::string("../../x"), std::string("/tmp/x"), std::string("a/b"), std::string(".x"),
          std::string("`id`"), std::string("a'b"), std::string("a\nb"), std::string("a\\b"),
          std::string(300, 'x')}) {
      CAPTURE(place);
      CAPTURE(bad);
      if (place.ends_with("family") && bad == ".x") continue;
      const std::string message = sweep.error_with(plan, place, bad);
      CHECK(message.starts_with(plan + ": "));
      CHECK(message.find(place.substr(place.rfind('/') + 1) + ": ") != std::string::npos);
    }
  }
  CHECK(sweep.error_with(plan, "/configurations/1/name", "topk_2") ==
        plan + ": two configurations of the grid are called 'topk_2'");
}

TEST_CASE("Files too deep, too wide, too long or no files are refused at once") {
  const SmallSweep sweep;
  const auto file = sweep.directory().config_file("top_p_mean2");
  const std::string name = file.string();
  const std::string deep(200'000, '[');
  CHECK(sweep.error_with(file, deep) == name + ": JSON nested deeper than 64 levels");
  CHECK(sweep.error_with(file, deep + std::string(200'000, ']')) ==
        name + ": JSON nested deeper than 64 levels");
  std::string wide = "{\"a0\": 0";
  for (int i = 1; i < 300; ++i) wide += ", \"a" + std::to_string(i) + "\": 0";
  CHECK(sweep.error_with(file, wide + "}") == name + ": an object of more than 256 members");
  CHECK(sweep.error_with(file, std::string("{}\0{}", 5)) == name + ": bad JSON: byte 2 is NUL");
  CHECK(sweep.error_with(file, "{\"a\": 1e999}").starts_with(name + ": bad JSON: "));
  CHECK(sweep.error_with(file, "").starts_with(name + ": bad JSON: "));

  std::filesystem::resize_file(file, std::uintmax_t{65} << 20);
  CHECK(sweep.error() == name + ": has more than 67108864 bytes");
  for (const auto& path : {file, sweep.directory().plan_file()}) {
    std::filesystem::remove(path);
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    CHECK(sweep.error() == path.string() + ": not a regular file");
    if (path == file) std::filesystem::remove(path);
    if (path == file) olmoe::write_atomically(path, "{}");
  }
}
