// The program as its user meets it: exit codes, what goes to which stream, one line per error.

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "kernels/isa.hpp"
#include "reference/cli/generate.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

using nlohmann::json;

/// A copy of the plain tiny checkpoint, to be spoilt.
class Copy {
 public:
  Copy() {
    for (const char* file : {"config.json", "model.safetensors", "capture.safetensors"})
      std::filesystem::copy_file(plain / file, path() / file);
  }
  const std::filesystem::path& path() const { return directory_.path(); }
  void edit_config(const std::function<void(json&)>& edit) const {
    json config = json::parse(read(path() / "config.json"));
    edit(config);
    directory_.write("config.json", config.dump());
  }
  void write(const std::string& file, const std::string& contents) const {
    directory_.write(file, contents);
  }
  std::vector<std::string> verify() const {
    return {"verify", "--model", path().string(), "--capture",
            (path() / "capture.safetensors").string()};
  }

 private:
  TempDir directory_;
};

}  // namespace

TEST_CASE("with a value per layer, every command records what ran in each") {
  const TempDir directory;
  const std::string out = (directory.path() / "out.safetensors").string();
  const std::string policy = "bh:alpha=0.1/0.2/0.3/0.4,null=normal,max_k=5";
  const std::string recorded = "bh:alpha=0.1/0.2/0.3/0.4,min_k=1,max_k=5,null=normal,";
  CHECK(run_olmoe(generate(nano, {"--max-new-tokens", "2", "--route", policy}))
            .err.starts_with("[" + recorded));
  REQUIRE(run_olmoe({"logits", "--model", nano.string(), "--text", "In the beginning", "--out", out,
                     "--route", policy})
              .code == 0);
  CHECK(olmoe::SafetensorsFile(out).metadata().at("route").starts_with(recorded));
  const auto text = directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 500));
  CHECK(run_olmoe({"perplexity", "--model", nano.string(), "--text", text.string(), "--window",
                   "32", "--route", policy})
            .out.starts_with("policy " + recorded));
  const std::string sweep = (directory.path() / "sweep").string();
  REQUIRE(run_olmoe({"sweep", "--model", nano.string(), "--text", text.string(), "--window", "32",
                     "--max-tokens", "64", "--new-tokens", "0", "--out", sweep, "--grid",
                     directory.write("grid.txt", policy + "\n").string()})
              .code == 0);
  CHECK(read(directory.path() / "sweep/grid_summary.csv").find(recorded) != std::string::npos);
}

TEST_CASE("--kv says how keys and values are kept: f32 by default, and others give other logits") {
  const TempDir directory;
  const auto logits = [&](const std::vector<std::string>& options) {
    const std::filesystem::path out = directory.path() / "logits.safetensors";
    std::vector<std::string> arguments{"logits",           "-m", nano.string(), "-p",
                                       "In the beginning", "-o", out.string()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    REQUIRE(run_olmoe(arguments).code == 0);
    return olmoe::SafetensorsFile(out).at("logits").to_float();
  };
  const auto exact = logits({});
  CHECK(logits({"--kv", "f32"}) == exact);
  const auto f16 = logits({"--kv", "f16"});
  const auto bf16 = logits({"--kv", "bf16"});
  CHECK(f16 != exact);
  CHECK(bf16 != exact);
  const auto apart = [&](const std::vector<float>& other) {
    double squares = 0.0;
    for (std::size_t i = 0; i < exact.size(); ++i)
      squares += std::pow(static_cast<double>(other[i]) - static_cast<double>(exact[i]), 2.0);
    return squares;
  };
  CHECK(apart(f16) < apart(bf16));
  for (const std::string kv : {"f16", "bf16"}) {
    const Outcome alone = run_olmoe(generate(nano, {"--max-new-tokens", "12", "--kv", kv}));
    CHECK(alone.code == 0);
    CHECK(alone.out.starts_with("x"));
  }
}

TEST_CASE("compute bf16 runs where it can, and is refused where not") {
  const std::vector<std::string> run{"--max-new-tokens", "12", "--compute", "bf16"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), run.begin(), run.end());
    return more;
  };
  CHECK(run_olmoe(generate(nano, {"--compute", "f64"})).code == 2);
  const bool here = olmoe::bf16_dot() != nullptr;
  const Outcome inspect = run_olmoe({"inspect", "--model", nano.string()});
  CHECK(inspect.out.find("bf16 products        " + std::string(olmoe::bf16_unit()) + "\n") !=
        std::string::npos);
  CHECK(here == (olmoe::bf16_unit() != "not present"));
  if (!here) {
    MESSAGE("skipped: this processor has no AVX512_BF16");
    check_error(generate(nano, run), 2, {"compute 'bf16' needs the dot product of AVX512_BF16"});
    return;
  }
  const Outcome one = run_olmoe(generate(nano, with({"--threads", "1"})));
  CAPTURE(one.err);
  CHECK(one.code == 0);
  CHECK(one.out.starts_with("x"));
  CHECK(run_olmoe(generate(nano, with({"--threads", "2"}))).out == one.out);
  check_error(generate(nano, with({"--isa", "baseline"})), 2,
              {"compute 'bf16' needs instruction set 'avx512' or 'amx', in use is 'baseline'"});
  check_error(generate(plain, with({})), 1,
              {(plain / "model.safetensors").string(), "q_proj.weight' holds F32",
               "compute 'bf16' needs BF16"});
  // The captures are of float32 and to be met within 1e-4.
  const Outcome verify = run_olmoe({"verify", "--model", nano.string(), "--capture",
                                    (nano / "capture.safetensors").string(), "--compute", "bf16"});
  CHECK(verify.code == 1);
  CHECK(verify.out.find("FAILED") != std::string::npos);
}

TEST_CASE("usage errors exit 2") {
  CHECK(run_olmoe({}).code == 2);
  CHECK(run_olmoe({"frobnicate"}).code == 2);
  CHECK(run_olmoe({"generate", "--model", plain.string()}).code == 2);
  CHECK(run_olmoe({"verify", "--model", plain.string()}).code == 2);
  CHECK(run_olmoe(generate(nano, {"--threads", "0"})).code == 2);
  CHECK(run_olmoe(generate(nano, {"--max-new-tokens", "0"})).code == 2);
  CHECK(run_olmoe(generate(nano, {"--temperature", "-1"})).code == 2);
  CHECK(run_olmoe({"--help"}).code == 0);
  CHECK(run_olmoe({"generate", "--help"}).code == 0);
  check_error(generate(nano, {"--temperature", "nan"}), 2, {"temperature"});
  for (const char* policy :
       {"", "bh:", "bh:alpha", "bh:alpha=", "bh:alpha=x", "bh:alpha=0.1,alpha=0.2", "bh:alhpa=0.1",
        "BH", "topk:k=3.5", "topk:k=8,", "topk:k=0", "topk:k=65", "bh:alpha=1.5",
        "bh:min_k=9,max_k=8", "bh:score=loggit", "topk:renormalize=yes", "top_p:p=2"}) {
    CAPTURE(policy);
    check_error(generate(nano, {"--route", policy}), 2, {"policy '" + std::string(policy) + "'"});
  }
  check_error(generate(nano, {"--route", "bh:alhpa=0.1"}), 2,
              {"position 4", "unknown key 'alhpa'", "alpha, min_k, max_k"});
}

TEST_CASE("whatever is typed, a message is one printable line") {
  const std::string wild = "\x1b[2J\n\xff" + std::string(100'000, 'x');
  for (const std::vector<std::string>& arguments :
       {generate(nano, {"--route", wild}), generate(nano, {"--threads", wild}),
        generate(nano, {"--isa", wild}), generate(nano, {"--" + wild, "1"}),
        generate(std::string(1000, 'x') + "\n\xff"), std::vector<std::string>{wild},
        std::vector<std::string>{"tokenize", "--model", nano.string(), "--decode", wild},
        std::vector<std::string>{"tokenize", "--model", nano.string(), "--text", wild}}) {
    const Outcome outcome = run_olmoe(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.code != 0);
    CHECK(outcome.err.size() < 600);
    CHECK(std::ranges::count_if(outcome.err, [](unsigned char c) { return c < ' '; }) == 1);
    CHECK(outcome.err.find('\xff') == std::string::npos);
    CHECK(outcome.err.ends_with("\n"));
  }
}

TEST_CASE("what follows a NUL byte is refused, in every file of JSON") {
  const TempDir directory;
  const std::string tail("\0{\"not\":\"json\",,}", 17);
  const std::string ids = directory.write("ids.json", "[1,2]" + tail).string();
  const std::string out = (directory.path() / "out.safetensors").string();
  check_error({"logits", "--model", plain.string(), "--ids", ids, "--out", out}, 1, {ids, "NUL"});
  const std::string lines = directory.write("lines.jsonl", "\"a" + tail + "\n").string();
  check_error({"tokenize", "--model", nano.string(), "--jsonl", lines}, 1, {lines, "NUL"});
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const TempDir model;
    for (const auto& entry : std::filesystem::directory_iterator(nano)) {
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), model.path() / entry.path().filename());
    }
    std::string contents = read(nano / file);
    if (std::string(file) == "model.safetensors") {
      const std::size_t end = contents.find('}', contents.find("\"dtype\""));
      contents[end + 1] = '\0';
    } else {
      contents += tail;
    }
    model.write(file, contents);
    check_error(generate(model.path()), 1, {file, "NUL"});
  }
}

TEST_CASE("bad model directories exit 1 and name the file") {
  const TempDir empty;
  check_error(generate(empty.path() / "nowhere"), 1, {(empty.path() / "nowhere").string()});
  check_error(generate(empty.path()), 1, {empty.path().string()});

  const auto weights = [](const std::string& contents, const std::vector<std::string>& facts) {
    const Copy copy;
    copy.write("model.safetensors", contents);
    std::vector<std::string> all{(copy.path() / "model.safetensors").string()};
    all.insert(all.end(), facts.begin(), facts.end());
    check_error(copy.verify(), 1, all);
  };
  const std::string good = read(plain / "model.safetensors");
  weights("", {});
  weights("not a safetensors file at all", {});
  weights(good.substr(0, 100), {});
  weights(good.substr(0, good.size() - 1), {});
  weights(std::string("\xff\xff\xff\x00\x00\x00\x00\x00", 8) + "{}", {});
  weights(std::string("\x02\x00\x00\x00\x00\x00\x00\x00", 8) + "{]", {});

  const auto config = [](const std::function<void(json&)>& edit,
                         const std::vector<std::string>& facts) {
    const Copy copy;
    copy.edit_config(edit);
    std::vector<std::string> all{(copy.path() / "config.json").string()};
    all.insert(all.end(), facts.begin(), facts.end());
    check_error(copy.verify(), 1, all);
  };
  config([](json& c) { c.erase("num_experts"); }, {"num_experts"});
  config([](json& c) { c["model_type"] = "llama"; }, {"model_type", "llama"});
  config([](json& c) { c["num_attention_heads"] = 5; }, {"num_attention_heads"});
  config([](json& c) { c["num_experts_per_tok"] = 9; }, {"num_experts_per_tok"});
  config([](json& c) { c["hidden_act"] = "mish"; }, {"hidden_act", "mish"});
  config([](json& c) { c["sliding_window"] = 128; }, {"sliding_window"});
  config([](json& c) { c["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 2.0}}; }, {"yarn"});
  {
    const Copy copy;
    copy.write("config.json", "{\"model_type\": ");
    check_error(copy.verify(), 1, {(copy.path() / "config.json").string()});
  }
  {
    const Copy copy;
    copy.edit_config([](json& c) { c["intermediate_size"] = 32; });
    check_error(copy.verify(), 1,
                {"model.safetensors", "model.layers.0.mlp.experts.0.gate_proj.weight", "[24,32]",
                 "[32,32]"});
  }
}

TEST_CASE("bad ids, prompts and nulls exit 1 and name the file") {
  const TempDir directory;
  const std::string out = (directory.path() / "out.safetensors").string();
  const auto ids = [&](const std::string& contents, const std::vector<std::string>& facts) {
    const auto file = directory.write("ids.json", contents).string();
    std::vector<std::string> all{file};
    all.insert(all.end(), facts.begin(), facts.end());
    check_error({"logits", "--model", plain.string(), "--ids", file, "--out", out}, 1, all);
    CHECK(!std::filesystem::exists(out));
  };
  ids("[1, 112]", {"token id 112 is outside the vocabulary of 112"});
  ids("[-1]", {"-1 is not a token id"});
  ids("[1.5]", {"1.5 is not a token id"});
  ids("[]", {"no tokens"});
  ids("[[1, 2], [3]]", {"differ in length"});
  ids("{\"ids\": [1]}", {"an array of token ids"});
  ids("[1, 2", {"bad JSON"});
  std::string sequence = "[1";
  for (int i = 0; i < 64; ++i) sequence += ",1";
  ids(sequence + "]", {"65 tokens exceeds max_position_embeddings, 64"});
  check_error({"logits", "--model", plain.string(), "--ids", (directory.path() / "none").string(),
               "--out", out},
              1, {(directory.path() / "none").string()});
  check_error({"logits", "--model", nano.string(), "--text", "", "--out", out}, 1, {"no tokens"});
  check_error({"generate", "--model", nano.string(), "--prompt", ""}, 1, {"no tokens"});
  check_error(generate(nano, {"--max-new-tokens", "100000"}), 1, {"max_position_embeddings"});
  check_error({"generate", "--model", nano.string(), "--prompt", "\xff"}, 1, {"UTF-8"});

  const std::string nulls = (nano / "nulls.safetensors").string();
  check_error(generate(nano, {"--route", "bh:score=zscore", "--nulls", nulls}), 1,
              {nulls, "fitted on score 'log_softmax'", "'zscore'"});
  check_error(generate(nano, {"--route", "bh", "--nulls", out}), 1, {out});
  check_error(generate(nano, {"--route", "bh", "--nulls", (nano / "config.json").string()}), 1,
              {(nano / "config.json").string()});
  const std::vector<double> grid{0.0, 1.0};
  const std::vector<double> log_sf{-1.0, -2.0};
  olmoe::write_safetensors(directory.path() / "few.safetensors",
                           {olmoe::NamedTensor::of("layer.0.score", {2}, grid),
                            olmoe::NamedTensor::of("layer.0.log_sf", {2}, log_sf)},
                           {{"score", "log_softmax"}});
  const std::string few = (directory.path() / "few.safetensors").string();
  check_error(generate(nano, {"--route", "bh", "--nulls", few}), 1,
              {few, "for 1 layers, the model has 4"});
}

#if defined(__GNUC__) && !defined(__clang__)

TEST_CASE("threads that wait sleep, unless the user has chosen") {
  // libgomp prints what it uses: once for the program, once more if it is started anew.
  const auto shown = [](const std::string& environment) {
    return run_olmoe({"--version"}, "OMP_DISPLAY_ENV=verbose " + environment).err;
  };
  const auto times = [](const std::string& text, const std::string& words) {
    int n = 0;
    for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++n;
    return n;
  };
  const std::string by_default = shown("");
  CAPTURE(by_default);
  CHECK(times(by_default, "OPENMP DISPLAY ENVIRONMENT BEGIN") == 2);
  CHECK(by_default.find("GOMP_SPINCOUNT = '0'", by_default.find("ENVIRONMENT END")) !=
        std::string::npos);
  for (const std::string chosen :
       {"GOMP_SPINCOUNT=7", "OMP_WAIT_POLICY=active", "KMP_BLOCKTIME=1"}) {
    const std::string text = shown(chosen);
    CAPTURE(text);
    CHECK(times(text, "OPENMP DISPLAY ENVIRONMENT BEGIN") == 1);
  }
  CHECK(times(shown("GOMP_SPINCOUNT=7"), "GOMP_SPINCOUNT = '7'") == 1);
}
#endif
