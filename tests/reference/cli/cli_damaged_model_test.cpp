// A model whose weights hold infinities, NaN or nonsense: every command that runs it says so.

#include <doctest/doctest.h>

#include <omp.h>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/float16.hpp"
#include "forward/model.hpp"
#include "reference/error_of.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// A copy of the bundled model with one tensor's elements, all BF16, changed.
class Damaged {
 public:
  Damaged(const std::string& tensor, const std::function<float(std::size_t, float)>& change) {
    for (const auto& entry : std::filesystem::directory_iterator(nano)) {
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), path() / entry.path().filename());
    }
    std::string file = read(nano / "model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const auto header = nlohmann::json::parse(file.substr(8, length));
    REQUIRE(header.at(tensor).at("dtype") == "BF16");
    const std::size_t begin =
        8 + length + header.at(tensor).at("data_offsets").at(0).get<std::size_t>();
    const std::size_t end =
        8 + length + header.at(tensor).at("data_offsets").at(1).get<std::size_t>();
    for (std::size_t at = begin; at < end; at += 2) {
      olmoe::BFloat16 value;
      std::memcpy(&value, file.data() + at, 2);
      value = olmoe::to_bfloat16(change((at - begin) / 2, olmoe::to_float(value)));
      std::memcpy(file.data() + at, &value, 2);
    }
    directory_.write("model.safetensors", file);
    text_ = directory_.write("text.txt", read(nano / "text/bible.txt").substr(0, 700)).string();
  }
  const std::filesystem::path& path() const { return directory_.path(); }
  std::string model() const { return path().string(); }

  /// Every command that runs a model, by name.
  std::vector<std::string> command(const std::string& name) const {
    std::vector<std::string> words{name, "--model", model()};
    const auto add = [&](std::vector<std::string> more) {
      words.insert(words.end(), more.begin(), more.end());
    };
    if (name == "generate") add({"--prompt", "In the beginning"});
    if (name == "logits") add({"--text", "In the beginning", "--out", out()});
    if (name == "verify") add({"--capture", (nano / "capture.safetensors").string()});
    if (name == "perplexity") add({"--text", text_, "--window", "32"});
    if (name == "calibrate") add({"--text", text_, "--window", "64", "--out", out()});
    if (name == "sweep")
      add({"--text", text_, "--window", "32", "--max-tokens", "64", "--new-tokens", "1", "--out",
           out()});
    return words;
  }
  std::string out() const { return (path() / "out").string(); }

  /// `names` exit 1, their last line saying all `facts`, and leave no output.
  void check_noticed(const std::vector<std::string>& names,
                     const std::vector<std::string>& facts) const {
    for (const std::string& name : names) {
      CAPTURE(name);
      check_refused(command(name), facts);
      if (name != "sweep") {
        CHECK_FALSE(std::filesystem::exists(out()));
        continue;
      }
      if (!std::filesystem::exists(out())) continue;  // refused before it began
      std::vector<std::string> again = command(name);
      again.push_back("--resume");
      check_refused(again, facts);
      CHECK(std::filesystem::is_empty(path() / "out/configs"));
      std::filesystem::remove_all(out());
    }
  }

 private:
  static void check_refused(const std::vector<std::string>& words,
                            const std::vector<std::string>& facts) {
    const Outcome outcome = run_olmoe(words);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 1);
    const std::size_t last = outcome.err.rfind("olmoe: ");
    REQUIRE(last != std::string::npos);
    for (const std::string& fact : facts) {
      CAPTURE(fact);
      CHECK(outcome.err.find(fact, last) != std::string::npos);
    }
  }

  TempDir directory_;
  std::string text_;
};

const std::vector<std::string> all_commands{"generate",   "logits",    "verify",
                                            "perplexity", "calibrate", "sweep"};
const std::vector<std::string> with_logits{"generate", "logits", "verify", "perplexity", "sweep"};

std::function<float(std::size_t, float)> all(float value) {
  return [=](std::size_t, float) { return value; };
}

}  // namespace

TEST_CASE("NaN in a router or a norm is found at load, the tensor named") {
  const Damaged gate("model.layers.0.mlp.gate.weight", all(not_a_number));
  gate.check_noticed(all_commands, {(gate.path() / "model.safetensors").string(),
                                    "'model.layers.0.mlp.gate.weight': NaN at element 0"});
  const Damaged norm("model.layers.2.self_attn.q_norm.weight",
                     [](std::size_t i, float x) { return i == 5 ? -infinity : x; });
  norm.check_noticed({"generate"},
                     {"'model.layers.2.self_attn.q_norm.weight': infinity at element 5"});
}

TEST_CASE("NaN in an expert is found where it is used, layer and token named") {
  const Damaged expert("model.layers.1.mlp.experts.3.down_proj.weight", all(not_a_number));
  // A text long enough reaches every expert; a prompt with all of them does at once.
  expert.check_noticed({"verify", "perplexity", "calibrate", "sweep"},
                       {"layer 1: NaN in the hidden state of token ", "; the weights are damaged"});
  const Outcome outcome =
      run_olmoe({"generate", "--model", expert.model(), "--prompt", "x", "--route", "topk:k=64"});
  CHECK(outcome.code == 1);
  CHECK(outcome.err ==
        "olmoe: " + expert.model() +
            ": layer 1: NaN in the hidden state of token 0; the weights are damaged, "
            "or too large for float\n");
}

TEST_CASE("infinite embeddings and NaN in the head are found") {
  const Damaged embeddings("model.embed_tokens.weight", all(infinity));
  embeddings.check_noticed(all_commands, {"infinity in the embedding of token 0"});
  const Damaged head("lm_head.weight", all(not_a_number));
  head.check_noticed(with_logits, {"NaN in the logits of token "});
}

TEST_CASE("logits too large for a perplexity are an error, not a sweep that cannot be read") {
  const Damaged head("lm_head.weight", [](std::size_t, float x) { return x * 1e30F; });
  head.check_noticed({"perplexity", "sweep"},
                     {"text.txt: the perplexity is too large for a number: "});
}

TEST_CASE("a library user gets the error too, with any number of threads, and the first token's") {
  const Damaged damaged("model.embed_tokens.weight",
                        [](std::size_t i, float x) { return i / 64 % 16 == 7 ? not_a_number : x; });
  const olmoe::Model model(damaged.path());
  const auto hidden = static_cast<std::size_t>(model.config().hidden_size);
  const auto routers =
      olmoe::make_routers(model.config(), olmoe::native_policy, std::filesystem::path());
  std::vector<std::int32_t> ids;
  std::int32_t bad = 0;  // an id whose embedding holds a NaN
  for (std::size_t id = 0; bad == 0; ++id) {
    bool spoilt = false;
    for (std::size_t i = id * hidden; i < (id + 1) * hidden; ++i)
      spoilt = spoilt || i / 64 % 16 == 7;
    (spoilt ? bad : ids.emplace_back()) = static_cast<std::int32_t>(id);
  }
  REQUIRE(!ids.empty());
  const std::size_t good = ids.size();
  ids.insert(ids.end(), {bad, ids[0], bad});
  const int threads = omp_get_max_threads();
  for (const int n : {1, 2}) {
    omp_set_num_threads(n);
    olmoe::KvCache cache;
    CHECK(error_of([&] {
            model.forward(ids, cache, routers, olmoe::Model::LogitsOf::last_token);
          }) == damaged.model() + ": NaN in the embedding of token " + std::to_string(good) +
                    "; the weights are damaged, or too large for float");
  }
  omp_set_num_threads(threads);
}
