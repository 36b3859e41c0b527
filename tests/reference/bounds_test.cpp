// No input makes a reader's time or memory grow faster than the input: each reader on inputs that
// are made to be costly, of a size, of twice, four and sixteen times it. Memory is counted in bytes
// asked from operator new, which is the same on every machine, and time is the processor's.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "formats/checkpoint.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/safetensors.hpp"
#include "forward/config.hpp"
#include "measure/texts.hpp"
#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/sound_sweep.hpp"
#include "reference/temp_dir.hpp"
#include "routing/nulls.hpp"
#include "routing/routing.hpp"
#include "sweep/prompts.hpp"
#include "tokenizer/tokenizer.hpp"

namespace {

std::atomic<std::size_t> asked{0};

}  // namespace

// Not inlined, as then the compiler takes free() for a mistake.
[[gnu::noinline]] void* operator new(std::size_t n) {
  asked += n;
  if (void* const memory = std::malloc(std::max<std::size_t>(n, 1))) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  asked += n;
  return std::malloc(std::max<std::size_t>(n, 1));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace {

/// `text`, `n` times, with `between` between them.
std::string repeated(std::size_t n, const std::function<std::string(std::size_t)>& text,
                     const std::string& between = ",") {
  std::string all;
  for (std::size_t i = 0; i < n; ++i) all += (i == 0 ? "" : between) + text(i);
  return all;
}

std::string repeated(std::size_t n, const std::string& text, const std::string& between = ",") {
  return repeated(
      n, [&](std::size_t) { return text; }, between);
}

struct Cost {
  std::size_t bytes;
  double seconds;
};

template <class Action>
Cost cost_of(const Action& action) {
  const std::size_t before = asked;
  const std::clock_t start = std::clock();
  error_of(action);
  return {asked - before, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC};
}

/// Checks that read(input(n)) asks for no more than `most` bytes a byte of the input, and for twice
/// and four times as much, if that, of inputs of twice and four times `n`; and that sixteen times
/// `n` takes less than 64 times as long, where a quadratic reader takes 256 times.
void check(const std::string& reader, double most, std::size_t n,
           const std::function<std::string(std::size_t)>& input,
           const std::function<void(const std::string&)>& read) {
  CAPTURE(reader);
  constexpr std::size_t constant = 1 << 16;
  read(input(2));  // what is made once
  std::array<std::size_t, 3> bytes{};
  std::array<std::size_t, 3> sizes{};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string text = input(n << i);
    sizes[i] = text.size();
    bytes[i] = cost_of([&] { read(text); }).bytes;
  }
  const double share = static_cast<double>(bytes[2]) / static_cast<double>(sizes[2]);
  MESSAGE(reader << ": " << share << " bytes asked for, a byte of " << sizes[2]);
  CHECK(static_cast<double>(bytes[2]) <= most * static_cast<double>(sizes[2]) + constant);
  CHECK(static_cast<double>(bytes[1]) <= 2.3 * static_cast<double>(bytes[0]) + constant);
  CHECK(static_cast<double>(bytes[2]) <= 2.3 * static_cast<double>(bytes[1]) + constant);
  const std::string small = input(n);
  const std::string large = input(16 * n);
  double least = 1e9;
  for (int i = 0; i < 3; ++i) least = std::min(least, cost_of([&] { read(small); }).seconds);
  constexpr double shortest = 0.01;  // of a clock that is not finer
  CHECK(cost_of([&] { read(large); }).seconds < 64 * std::max(least, shortest));
}

/// check() for a reader of files.
void check_file(const std::string& reader, double most, std::size_t n, const std::string& name,
                const std::function<std::string(std::size_t)>& input,
                const std::function<void(const std::filesystem::path&)>& read) {
  const TempDir dir;
  check(reader, most, n, input, [&](const std::string& text) { read(dir.write(name, text)); });
}

std::string number(std::size_t i) {
  return std::to_string(i);
}

std::string key(std::size_t i) {
  return "\"k" + std::to_string(i) + "\"";
}

}  // namespace

TEST_CASE("JSON takes time and memory in proportion") {
  const auto parse = [](const std::string& text) { olmoe::parse_json(text, "text"); };
  const auto in = [](const char* open, auto text, const char* close) {
    return [=](std::size_t n) { return open + repeated(n, text) + close; };
  };
  check("JSON, empty arrays", 42, 20'000, in("[", std::string("[]"), "]"), parse);
  check("JSON, empty objects", 52, 20'000, in("[", std::string("{}"), "]"), parse);
  check("JSON, numbers", 44, 20'000, in("[", std::string("0"), "]"), parse);
  check("JSON, members", 12, 5'000,
        in(
            "{", [](std::size_t i) { return key(i) + ":0"; }, "}"),
        parse);
  check(
      "JSON, a string", 8, 100'000, [](std::size_t n) { return "\"" + std::string(n, 'x') + "\""; },
      parse);
  check(
      "JSON, a number", 24, 10'000, [](std::size_t n) { return std::string(n, '9'); }, parse);
  check(
      "JSON, shape", 1, 100'000, [](std::size_t n) { return "[" + repeated(n, "[0]") + "]"; },
      [](const std::string& text) { olmoe::check_json_shape(text, {}, "text"); });
  check(
      "quote()", 1, 100'000, [](std::size_t n) { return std::string(n, '\x01'); },
      [](const std::string& text) { olmoe::quote(text); });
}

TEST_CASE("Checkpoints and nulls take time and memory in proportion") {
  check_file(
      "safetensors, tensors", 14, 3'000, "x.safetensors",
      [](std::size_t n) {
        return file_with(
            "{" +
                repeated(
                    n, [](std::size_t i) { return key(i) + ":" + entry("F32", "[0]", "[0,0]"); }) +
                "}",
            "");
      },
      [](const std::filesystem::path& path) { const olmoe::SafetensorsFile file(path); });
  check_file(
      "index, tensors", 18, 3'000, "model.safetensors.index.json",
      [](std::size_t n) {
        return "{\"weight_map\":{" +
               repeated(n, [](std::size_t i) { return key(i) + ":\"none.safetensors\""; }) + "}}";
      },
      [](const std::filesystem::path& path) {
        error_of([&] { olmoe::Checkpoint checkpoint(path.parent_path()); });
      });
  check_file(
      "config, keys", 12, 5'000, "config.json",
      [](std::size_t n) {
        return R"({"model_type":"olmoe",)" +
               repeated(n, [](std::size_t i) { return key(i) + ":0"; }) + "}";
      },
      [](const std::filesystem::path& path) { error_of([&] { olmoe::Config::read(path); }); });
  check_file(
      "nulls, a table", 3, 5'000, "x.safetensors",
      [](std::size_t n) {
        std::vector<double> values;
        for (std::size_t i = 0; i < n; ++i) values.push_back(static_cast<double>(i));
        for (std::size_t i = 0; i < n; ++i) values.push_back(-1e-3 * static_cast<double>(i));
        const std::string extent = "[" + number(n) + "]";
        return file_with(
            "{\"__metadata__\":{\"score\":\"logit\"},\"layer.0.score\":" +
                entry("F64", extent, "[0," + number(8 * n) + "]") + ",\"layer.0.log_sf\":" +
                entry("F64", extent, "[" + number(8 * n) + "," + number(16 * n) + "]") + "}",
            {reinterpret_cast<const char*>(values.data()), 16 * n});
      },
      [](const std::filesystem::path& path) { olmoe::load_nulls(path); });
}

TEST_CASE("Tokenizers and texts take time and memory in proportion") {
  const olmoe::Tokenizer nano =
      olmoe::Tokenizer::load(FDROUTE_SOURCE_DIR "/reference/model/tokenizer.json");
  const auto encode = [&](const std::string& text) { nano.encode(text); };
  const auto text_of = [](const std::string& unit) {
    return [=](std::size_t n) { return repeated(n, unit, ""); };
  };
  check("text, a word", 50, 20'000, text_of("a"), encode);
  check("text, spaces", 12, 20'000, text_of(" "), encode);
  check("text, words", 50, 10'000, text_of(" a"), encode);
  check("text, marks", 60, 5'000, text_of("\xcc\x80\xcc\xa1"), encode);
  check("text, added tokens", 12, 2'000, text_of("<|endoftext|>"), encode);
  check("text, apostrophes", 50, 5'000, text_of("'s"), encode);
  check_file(
      "tokenizer, a broken vocabulary", 13, 5'000, "tokenizer.json",
      [](std::size_t n) {
        return "{\"model\":{\"type\":\"BPE\",\"vocab\":{" +
               repeated(n, [](std::size_t i) { return key(i) + ":" + number(i); }) +
               "},\"merges\":[]},\"added_tokens\":[]}";
      },
      [](const std::filesystem::path& path) { error_of([&] { olmoe::Tokenizer::load(path); }); });
  check_file(
      "documents", 115, 5'000, "text.documents",
      [](std::size_t n) { return repeated(n, "1 x\n", ""); },
      [&](const std::filesystem::path& path) {
        std::filesystem::path text = path;
        text.replace_extension(".txt");
        const std::size_t bytes = std::filesystem::file_size(path) / 4;
        std::ofstream(text) << std::string(bytes, 'a');
        const std::vector<std::string> paths{text.string()};
        olmoe::load_texts(paths, nano);
      });
}

TEST_CASE("Prompts, ids, grids and policies take time and memory in proportion") {
  check_file(
      "prompts", 28, 3'000, "prompts.json",
      [](std::size_t n) { return "[" + repeated(n, R"({"class":"a","text":"b"})") + "]"; },
      [](const std::filesystem::path& path) { olmoe::read_prompts(path); });
  check_file(
      "ids", 95, 20'000, "ids.json", [](std::size_t n) { return "[" + repeated(n, "1") + "]"; },
      [](const std::filesystem::path& path) { olmoe::read_token_batch(path); });
  const auto canonical = [](const std::string& policy) { return policy; };
  check_file(
      "grid", 70, 2'000, "grid.txt",
      [](std::size_t n) {
        return repeated(
            n, [](std::size_t i) { return "topk:k=" + number(i + 1); }, "\n");
      },
      [&](const std::filesystem::path& path) {
        olmoe::file_grid(path, small_config(), canonical);
      });
  check(
      "policy, settings", 28, 2'000, [](std::size_t n) { return "topk:" + repeated(n, "k=1"); },
      [](const std::string& policy) {
        try {
          olmoe::make_routers(small_config(), policy, std::span<const fdroute::TabulatedNull>());
        } catch (const std::invalid_argument&) {
        }
      });
}

TEST_CASE("A sweep's files take time and memory in proportion") {
  const SmallSweep sweep;
  nlohmann::ordered_json plan = olmoe::read_sweep_file(sweep.directory().plan_file());
  const nlohmann::ordered_json like = plan["configurations"][1];
  const auto read_plan = [](const std::filesystem::path& path) {
    olmoe::SweepPlan::from_json(olmoe::read_sweep_file(path), path.string());
  };
  check_file(
      "sweep, configurations", 35, 500, "sweep.json",
      [&](std::size_t n) {
        while (plan["configurations"].size() > 1) plan["configurations"].erase(1);
        for (std::size_t i = 0; i < n; ++i) {
          plan["configurations"].push_back(like);
          plan["configurations"].back()["name"] = "c" + number(i);
          plan["configurations"].back()["target_experts"] = nullptr;
          plan["configurations"].back()["like"] = i == 0 ? "" : "c0";
        }
        return plan.dump();
      },
      read_plan);
  const auto& configuration = sweep.plan().configurations[0];
  nlohmann::ordered_json result =
      olmoe::read_sweep_file(sweep.directory().config_file(configuration.name));
  check_file(
      "sweep, windows", 180, 3'000, "result.json",
      [&](std::size_t n) {
        auto& windows = result["result"]["evaluation"]["domains"][0]["windows"];
        windows = nlohmann::ordered_json::array();
        for (std::size_t i = 0; i < n; ++i) windows.push_back({1, 0});
        return result.dump();
      },
      [&](const std::filesystem::path& path) {
        const auto json = olmoe::read_sweep_file(path);
        error_of([&] {
          olmoe::check_result(olmoe::Field(json, "file")["result"], sweep.plan(), configuration);
        });
      });
}
