// Files from strangers: whatever text stands in whatever field, `olmoe` ends by itself with one of
// its exit codes, says no control character, runs nothing and writes nothing outside of --out
// (docs/security.md).

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/random_checkpoint.hpp"
#include "formats/error.hpp"
#include "formats/safetensors_writer.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/gnuplot_script.hpp"
#include "reference/json_places.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/sound_sweep.hpp"
#include "reference/temp_dir.hpp"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// What stands in for a poison until the text of a file is complete: JSON cannot hold every byte.
constexpr std::string_view mark = "@POISON@";

void write_file(const fs::path& path, const std::string& contents) {
  std::ofstream out(path, std::ios::binary);
  out << contents;
  REQUIRE(out.flush());
}

/// A directory in which a stranger's text would leave its traces.
class Trap {
 public:
  Trap() { fs::create_directories(work()); }

  /// Where the program works; --out is within it.
  fs::path work() const { return dir_.path() / "a" / "b"; }
  fs::path out() const { return work() / "out"; }

  /// Texts that a program may mistake for something else, as they stand in a file.
  std::vector<std::string> poisons(bool is_json) const {
    const std::string touch = "touch " + canary().string();
    std::vector<std::string> texts{
        "`" + touch + "`",
        "$(" + touch + ")",
        "'; system('" + touch + "'); x='",
        is_json ? "\\\"; system(\\\"" + touch + "\\\"); #" : "\"; " + touch,
        is_json ? "x\\n! " + touch + "\\n" : "! " + touch,
        "../../escaped",
        escaped().string(),
        std::string(1 << 20, 'x'),
        is_json ? "a\\u0000b" : std::string("a\0b", 3),
        "\xff\xfe",
        is_json ? "\\u001b]0;x\\u0007" : "\x1b]0;x\x07",
        "%s%n%5000d"};
    return texts;
  }

  /// Runs olmoe; nothing but what is in out() may be new, and what it says is fit to be shown.
  Outcome run(const std::vector<std::string>& arguments) {
    fs::remove_all(out());
    const std::set<fs::path> before = files();
    const Outcome outcome = run_olmoe(arguments);
    CAPTURE(outcome.err);
    CHECK(files() == before);
    CHECK(!fs::exists(canary()));
    CHECK(outcome.code >= 0);
    CHECK(outcome.code <= 2);
    for (const std::string* text : {&outcome.err, &outcome.out}) {
      for (std::string_view rest = *text; !rest.empty();) {
        const std::size_t length = fdroute::detail::printable_length(rest);
        const bool fit = length > 0 || rest.front() == '\n';
        if (!fit) CHECK(fit);
        rest.remove_prefix(std::max<std::size_t>(length, 1));
      }
    }
    if (outcome.code != 0) {
      CHECK(outcome.err.size() <= olmoe::message_limit + 1);
      CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    }
    ++runs_;
    return outcome;
  }

  int runs() const { return runs_; }

 private:
  fs::path canary() const { return dir_.path() / "canary"; }
  fs::path escaped() const { return dir_.path() / "escaped"; }

  /// All files but those in out().
  std::set<fs::path> files() const {
    std::set<fs::path> all;
    for (auto it = fs::recursive_directory_iterator(dir_.path()); it != fs::end(it); ++it) {
      if (it->path() == out()) {
        it.disable_recursion_pending();
      } else {
        all.insert(it->path());
      }
    }
    return all;
  }

  TempDir dir_;
  int runs_ = 0;
};

std::string replaced(std::string text, const std::string& by) {
  const std::size_t place = text.find(mark);
  REQUIRE(place != std::string::npos);
  return text.replace(place, mark.size(), by);
}

/// The texts of `document` with the mark in the place of each string in turn, and of each key.
std::vector<std::string> marked(const Json& document) {
  std::vector<std::string> texts;
  for (const std::string& place : places_of(document)) {
    const Json::json_pointer pointer(place);
    const Json& value = document.at(pointer);
    const bool text = value.is_string() || value.is_null();
    if (!text && (!value.is_object() || value.empty())) continue;
    Json changed = document;
    if (text) {
      changed[pointer] = mark;
    } else {
      changed[pointer][std::string(mark)] = value.front();
    }
    texts.push_back(changed.dump());
  }
  return texts;
}

/// Runs olmoe `runs` times with `file` replaced by the texts and the poisons, by turns.
void poison(Trap& trap, const fs::path& file, const std::vector<std::string>& texts, bool is_json,
            std::size_t runs, const std::vector<std::string>& arguments) {
  const std::string sound = read(file);
  const auto poisons = trap.poisons(is_json);
  for (std::size_t run = 0; run < runs; ++run) {
    const std::string& text = texts[run * texts.size() / runs];
    const std::string& by = poisons[run % poisons.size()];
    CAPTURE(file.string());
    CAPTURE(text.substr(0, 200));
    CAPTURE(by.substr(0, 100));
    write_file(file, replaced(text, by));
    trap.run(arguments);
  }
  write_file(file, sound);
  CAPTURE(file.string());
  const Outcome outcome = trap.run(arguments);
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
}

/// A safetensors file's header and data.
std::pair<std::string, std::string> parts_of(const std::string& file) {
  std::uint64_t size = 0;
  std::memcpy(&size, file.data(), sizeof size);
  return {file.substr(sizeof size, size), file.substr(sizeof size + size)};
}

/// A checkpoint of 2 layers of 4 experts, with the bundled tokenizer.
void make_model(const fs::path& directory) {
  fs::create_directories(directory);
  Json config = Json::parse(read(nano / "config.json"));
  for (const auto& [key, value] : std::map<std::string, int>{{"hidden_size", 16},
                                                             {"intermediate_size", 8},
                                                             {"num_hidden_layers", 2},
                                                             {"num_attention_heads", 2},
                                                             {"num_key_value_heads", 2},
                                                             {"num_experts", 4},
                                                             {"num_experts_per_tok", 2}})
    config[key] = value;
  write_file(directory / "shape.json", config.dump());
  olmoe::make_random_checkpoint({.config = directory / "shape.json", .out = directory / "model"});
  fs::copy_file(nano / "tokenizer.json", directory / "model" / "tokenizer.json");
}

}  // namespace

TEST_CASE("A stranger's model, nulls, prompts, texts and grids say nothing to any program") {
  Trap trap;
  make_model(trap.work());
  const fs::path work = trap.work();
  const std::string model = (work / "model").string();
  write_file(work / "prose.txt", read(nano / "text/bible.txt").substr(0, 400));
  write_file(work / "prose.documents", "200 first\n200 second\n");
  write_file(work / "prompts.json", R"([{"class": "simple", "text": "The house"}])");
  write_file(work / "grid.txt", "top_p:p=0.5\n");
  write_file(work / "ids.json", "[1, 2, 3]");
  const std::vector<double> scores{-1.0, 0.0, 1.0};
  const std::vector<double> log_sf{-0.1, -1.0, -3.0};
  std::vector<olmoe::NamedTensor> tables;
  for (const std::string layer : {"layer.0.", "layer.1."}) {
    tables.push_back(olmoe::NamedTensor::of(layer + "score", {3}, scores));
    tables.push_back(olmoe::NamedTensor::of(layer + "log_sf", {3}, log_sf));
  }
  const fs::path nulls = work / "nulls.safetensors";
  olmoe::write_safetensors(nulls, tables,
                           {{"score", "logit"}, {"trim", "2"}, {"tokens", "9"}, {"model", "m"}});

  const auto json_of = [](const fs::path& file) { return Json::parse(read(file)); };
  const std::vector<std::string> sweep{"sweep",
                                       "--model",
                                       model,
                                       "--text",
                                       (work / "prose.txt").string(),
                                       "--window",
                                       "16",
                                       "--shuffles",
                                       "0",
                                       "--new-tokens",
                                       "1",
                                       "--prompts",
                                       (work / "prompts.json").string(),
                                       "--grid",
                                       (work / "grid.txt").string(),
                                       "--nulls",
                                       nulls.string(),
                                       "--out",
                                       trap.out().string()};
  poison(trap, work / "model/config.json", marked(json_of(work / "model/config.json")), true, 24,
         {"inspect", "--model", model});
  poison(trap, work / "model/tokenizer.json", marked(json_of(work / "model/tokenizer.json")), true,
         24, {"tokenize", "--model", model, "--text", "The house"});
  poison(trap, work / "ids.json", {"[\"" + std::string(mark) + "\"]"}, true, 12,
         {"logits", "--model", model, "--ids", (work / "ids.json").string(), "--out",
          (trap.work() / "out").string()});
  poison(trap, work / "prompts.json", marked(json_of(work / "prompts.json")), true, 12, sweep);
  poison(trap, work / "prose.documents", {"200 " + std::string(mark) + "\n200 second\n"}, false, 12,
         sweep);
  poison(trap, work / "grid.txt", {std::string(mark) + "\n", "top_p:p=" + std::string(mark) + "\n"},
         false, 12, sweep);

  // Of safetensors files the header is replaced, with its length.
  for (const fs::path& file : {nulls, work / "model/model.safetensors"}) {
    const std::string sound = read(file);
    const auto [sound_header, data] = parts_of(sound);
    const auto poisons = trap.poisons(true);
    std::size_t next = 0;
    auto texts = marked(Json::parse(sound_header));
    constexpr std::size_t most = 12;  // of a model's many tensors a few are enough
    if (texts.size() > most) texts.erase(texts.begin() + most, texts.end());
    for (const std::string& text : texts) {
      const std::string header = replaced(text, poisons[next++ % poisons.size()]);
      CAPTURE(file.string());
      CAPTURE(header.substr(0, 300));
      write_file(file, file_with(header, data));
      trap.run({"perplexity", "--model", model, "--text", (work / "prose.txt").string(), "--window",
                "16", "--route", "bh:alpha=0.5", "--nulls", nulls.string()});
    }
    write_file(file, sound);
  }
  CHECK(trap.run(sweep).code == 0);
  CHECK(trap.runs() > 80);
}

TEST_CASE("An index and a capture name files in their own directory only") {
  Trap trap;
  make_model(trap.work());
  const fs::path model = trap.work() / "model";
  const fs::path weights = model / "model.safetensors";
  fs::rename(weights, model / "a.safetensors");
  write_file(trap.work() / "secret", "x");
  for (const std::string shard : {"../secret", "/etc/passwd", "..", ".", "", "a\\u0000b", "x/y"}) {
    CAPTURE(shard);
    write_file(model / "model.safetensors.index.json",
               R"({"weight_map": {"model.norm.weight": ")" + shard + "\"}}");
    const Outcome outcome = trap.run({"inspect", "--model", model.string()});
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("no plain file name") != std::string::npos);
  }
  const std::vector<std::int64_t> ids{1, 2};
  for (const std::string file : {"../secret", "/etc/passwd", "..", ""}) {
    CAPTURE(file);
    const fs::path capture = trap.work() / "capture.safetensors";
    olmoe::write_safetensors(
        capture, {olmoe::NamedTensor::of("input_ids", {1, 2}, ids)},
        {{"sha256", Json{{file, "x"}}.dump()}, {"transformers", "x"}, {"torch", "x"}});
    const Outcome outcome =
        run_olmoe({"verify", "--model", plain.string(), "--capture", capture.string()});
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("no plain file name") != std::string::npos);
  }
}

TEST_CASE("A stranger's sweep says nothing to any program") {
  Trap trap;
  const SmallSweep sweep;
  const fs::path shard = trap.work() / "shard";
  fs::copy(sweep.directory().path(), shard, fs::copy_options::recursive);
  const std::vector<std::string> merge{"merge", "--out", trap.out().string(), shard.string()};
  for (const fs::path& file : sweep.files()) {
    const fs::path copy = shard / fs::relative(file, sweep.directory().path());
    poison(trap, copy, marked(Json::parse(read(file))), true, 24, merge);
  }

  // Labels that are allowed, with fingerprints to match, reach the report and the picture.
  for (const std::string& poison : trap.poisons(false)) {
    if (!olmoe::is_label(poison) || poison.find('\xff') != std::string::npos) continue;
    CAPTURE(poison);
    olmoe::SweepPlan plan = sweep.plan();
    plan.inputs["texts"][0]["name"] = poison;
    plan.inputs["texts"][0]["documents"][0]["name"] = poison;
    plan.inputs["prompts"][0]["class"] = poison;
    plan.inputs["prompts"][0]["text"] = poison;
    fs::remove_all(shard);
    const olmoe::SweepDirectory directory(shard);
    directory.write_plan(plan);
    for (const olmoe::Configuration& c : plan.configurations) {
      Json result = sweep.directory().read_result(sweep.plan(), c);
      if (result.contains("unreachable")) result["unreachable"] = poison;
      if (result.contains("generation") && !result["generation"].is_null()) {
        Json& generation = result["generation"];
        generation["mean_experts_by_class"] = {{poison, 1.0}};
        generation["prompts"][0]["class"] = poison;
        generation["prompts"][0]["text"] = poison;
      }
      if (result.contains("evaluation")) result["evaluation"]["domains"][0]["name"] = poison;
      directory.write_result(plan, c, result);
    }
    const Outcome outcome = trap.run(merge);
    CHECK(outcome.code == 0);
    const fs::path script = trap.out() / "visualizations/grid_analysis.gp";
    CHECK(fault_of_script(read(script)) == "");
  }
  CHECK(trap.runs() > 50);
}
