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
#include "reference/error_of.hpp"
#include "reference/sound_sweep.hpp"
#include "reference/temp_dir.hpp"
#include "sweep/plots.hpp"
#include "sweep/sweep.hpp"

namespace {

using Json = nlohmann::ordered_json;

olmoe::Config small_config() {
  olmoe::Config config{};
  config.num_hidden_layers = 2;
  config.num_experts = 4;
  config.num_experts_per_tok = 1;
  return config;
}

/// A sweep's directory with a baseline, an adaptive row, one that is not reached, and top-2.
class SmallSweep {
 public:
  SmallSweep() : directory_(dir_.path() / "sweep"), plan_(sound_plan(small_config())) {
    plan_.configurations.push_back({.name = "top_p_mean2",
                                    .family = "top_p",
                                    .policy = "top_p:p=?",
                                    .nulls = {},
                                    .target = 2});
    plan_.configurations.push_back(
        {.name = "bh_mean3", .family = "bh", .policy = "bh:alpha=?", .nulls = {}, .target = 3});
    plan_.configurations.push_back({.name = "topk_2",
                                    .family = "top-k",
                                    .policy = "topk:k=2",
                                    .nulls = {},
                                    .target = {},
                                    .role = olmoe::Configuration::Role::Curve});
    directory_.write_plan(plan_);
    const auto& c = plan_.configurations;
    directory_.write_result(plan_, c[0], sound_result(small_config(), c[0]));
    directory_.write_result(plan_, c[1], sound_result(small_config(), c[1], true));
    directory_.write_result(plan_, c[2], {{"unreachable", "means from 1 to 2"}});
    directory_.write_result(plan_, c[3], sound_result(small_config(), c[3]));
    olmoe::write_atomically(directory_.timing_file(c[1].name), sound_timing().dump());
  }

  const olmoe::SweepDirectory& directory() const { return directory_; }
  const olmoe::SweepPlan& plan() const { return plan_; }
  const std::filesystem::path& scratch() const { return dir_.path(); }

  std::vector<std::filesystem::path> files() const {
    return {directory_.plan_file(), directory_.config_file("topk_1_baseline"),
            directory_.config_file("top_p_mean2"), directory_.config_file("bh_mean3"),
            directory_.timing_file("top_p_mean2")};
  }

  /// All that results are made of, without pictures; the message of its error, or "no error".
  std::string error() const {
    return error_of([&] {
      const olmoe::SweepResults results = olmoe::read_results(directory_);
      olmoe::full_results(results);
      olmoe::summary_csv(results);
      olmoe::timings_csv(results, directory_);
      olmoe::report(results, olmoe::Pictures::none);
      olmoe::gnuplot_script(olmoe::plot_data(results), results.plan.stem);
    });
  }

  /// error() with a file's contents replaced.
  std::string error_with(const std::filesystem::path& file, const std::string& contents) const {
    const std::string before = olmoe::json_text(olmoe::read_sweep_file(file));
    olmoe::write_atomically(file, contents);
    const std::string message = error();
    olmoe::write_atomically(file, before);
    return message;
  }

  /// error() with one value of a file replaced.
  std::string error_with(const std::filesystem::path& file, const std::string& pointer,
                         const Json& value) const {
    Json json = olmoe::read_sweep_file(file);
    json.at(Json::json_pointer(pointer)) = value;
    return error_with(file, json.dump());
  }

 private:
  TempDir dir_;
  olmoe::SweepDirectory directory_;
  olmoe::SweepPlan plan_;
};

/// The places of all values in a document.
void collect(const Json& json, const std::string& pointer, std::vector<std::string>& places) {
  places.push_back(pointer);
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) collect(value, pointer + "/" + key, places);
  }
  if (json.is_array() && !json.empty()) {
    collect(json.front(), pointer + "/0", places);
    if (json.size() > 1)
      collect(json.back(), pointer + "/" + std::to_string(json.size() - 1), places);
  }
}

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
    std::vector<std::string> places;
    collect(olmoe::read_sweep_file(file), "", places);
    CHECK(places.size() > 3);
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
    CHECK(refused > places.size() * 3);
  }
}

TEST_CASE("A wrong field is named") {
  const SmallSweep sweep;
  const std::string plan = sweep.directory().plan_file().string();
  const auto row = sweep.directory().config_file("top_p_mean2");
  const auto timing = sweep.directory().timing_file("top_p_mean2");
  CHECK(sweep.error_with(row, "/result/evaluation/total/perplexity/value", nullptr) ==
        row.string() +
            ": result.evaluation.total.perplexity.value: a number is expected, got null");
  CHECK(sweep.error_with(row, "/result/evaluation/domains/0/windows/1/0", "x") ==
        row.string() +
            ": result.evaluation.domains[0].windows[1][0]: an integer from 1 on is "
            "expected, got \"x\"");
  CHECK(sweep.error_with(row, "/result/evaluation/domains/0/windows", Json::array({{64, 1.0}})) ==
        row.string() + ": the windows of domain 0 are not the baseline's");
  CHECK(sweep.error_with(plan, "/inputs/model/layers", 0)
            .starts_with(plan + ": inputs.model.layers: an integer from 1 to "));
  CHECK(sweep.error_with(timing, "/0/policy/decode_steps", -1) ==
        timing.string() + ": [0].policy.decode_steps: an integer from 0 on is expected, got -1");
  CHECK(sweep.error_with(plan, "{}") == plan + ": has no 'schema'");
  CHECK(sweep.error_with(plan, "[]") == plan + ": an object is expected, got []");
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
  CHECK(sweep.error_with(file, std::string("{}\0{}", 5)) == name + ": bad JSON: a NUL byte");
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

TEST_CASE("merge refuses a shard whose names lead elsewhere, and writes nothing") {
  const SmallSweep sweep;
  const auto shard = sweep.directory().plan_file();
  Json plan = olmoe::read_sweep_file(shard);
  plan["stem"] = (sweep.scratch() / "elsewhere").string();
  olmoe::write_atomically(shard, plan.dump());
  const auto out = sweep.scratch() / "merged";
  CHECK(error_of([&] {
          olmoe::merge_sweeps(out, {sweep.directory().path()});
        }).starts_with(shard.string() + ": stem: "));
  CHECK_FALSE(std::filesystem::exists(out));
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
