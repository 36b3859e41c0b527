// What a user, a script or another process may do to `olmoe` besides giving it good input: numbers
// out of range, files that are none, files that change under it.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

/// A copy of the bundled model and a text that it knows.
class NanoCopy {
 public:
  NanoCopy() {
    for (const auto& entry : std::filesystem::directory_iterator(nano)) {
      if (entry.is_regular_file())
        std::filesystem::copy_file(entry.path(), path() / entry.path().filename());
    }
    directory_.write("text.txt", read(nano / "text/bible.txt").substr(0, 700));
    directory_.write("grid.txt", "top_p:p=0.5\nrelative:t=0.2\n");
  }
  const std::filesystem::path& path() const { return directory_.path(); }
  std::string model() const { return path().string(); }
  std::string file(const std::string& name) const { return (path() / name).string(); }
  std::filesystem::path weights() const { return path() / "model.safetensors"; }

  /// Changes a byte of the weights in place.
  void change_weights() const {
    std::fstream stream(weights(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(-100, std::ios::end);
    const auto place = stream.tellg();
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(place);
    stream.put(byte);
    REQUIRE(stream.flush());
  }

  std::vector<std::string> generate() const {
    return {"generate", "--model", model(), "--prompt", "x", "--max-new-tokens", "900"};
  }
  std::vector<std::string> sweep() const {
    return {"sweep", "--model",      model(),    "--text", file("text.txt"), "--window",
            "32",    "--max-tokens", "320",      "--grid", file("grid.txt"), "--new-tokens",
            "8",     "--out",        file("out")};
  }

 private:
  TempDir directory_;
};

/// Runs olmoe, both streams in one, and calls `act` once, when it has written its first `lines`
/// lines or, of 0, its first byte.
Outcome run_and_act(const std::vector<std::string>& arguments, int lines,
                    const std::function<void()>& act) {
  std::string command = "exec timeout 120 '" FDROUTE_OLMOE "'";
  for (const std::string& argument : arguments) command += " '" + argument + "'";
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome{0, "", ""};
  bool acted = false;
  for (int c = std::getc(pipe); c != EOF; c = std::getc(pipe)) {
    outcome.err += static_cast<char>(c);
    if (acted || std::count(outcome.err.begin(), outcome.err.end(), '\n') < lines) continue;
    acted = true;
    act();
  }
  CHECK(acted);
  const int status = ::pclose(pipe);
  REQUIRE(WIFEXITED(status));
  outcome.code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace

TEST_CASE("numbers out of range are usage errors") {
  const std::string model = nano.string();
  const std::string text = (nano / "text/bible.txt").string();
  const TempDir directory;
  const std::string out = (directory.path() / "out").string();
  const std::vector<std::string> generate{"generate", "--model", model, "--prompt", "x"};
  const std::vector<std::string> sweep{"sweep", "--model", model, "--out", out};
  const std::vector<std::string> perplexity{"perplexity", "--model", model, "--text", text};
  const std::vector<std::string> calibrate{"calibrate", "--model", model, "--text",
                                           text,        "--out",   out};
  const std::vector<std::string> make{"make-random", "--config", (nano / "config.json").string(),
                                      "--out", out};
  const std::string huge = "99999999999999999999";
  const auto refused = [&](std::vector<std::string> arguments, const std::string& option,
                           const std::vector<std::string>& values) {
    arguments.push_back(option);
    for (const std::string& value : values) {
      CAPTURE(option);
      CAPTURE(value);
      arguments.push_back(value);
      const Outcome outcome = run_olmoe(arguments);
      arguments.pop_back();
      CHECK(outcome.code == 2);
      CHECK(outcome.err.find(option) != std::string::npos);
      CHECK_FALSE(std::filesystem::exists(out));
    }
  };
  refused(generate, "--seed", {"-1", huge, "1.5", "x", "18446744073709551616"});
  refused(generate, "--threads", {"0", "-1", "4097", "4294967297", huge});
  refused(generate, "--max-new-tokens", {"0", "4294967297", huge});
  refused(generate, "--temperature", {"-1", "nan", "inf", "1e999"});
  refused(make, "--seed", {"-1", huge});
  refused(make, "--max-shard-size", {"-1", "0", "0GB", "99999999999999999999GB"});
  refused(perplexity, "--window", {"0", "-1", huge});
  refused(perplexity, "--stride", {"0", "-1", huge});
  refused(calibrate, "--trim", {"-1", "4294967297", huge});
  refused(calibrate, "--skip-first", {"-1", huge});
  refused(calibrate, "--target-experts", {"0", "-1", "nan", "inf", "1e999"});
  refused(sweep, "--shard",
          {"4294967297/4294967298", "0/1", "2/1", "-1/2", "1/-2", "1/2x", "1//2", "/2", "1/", "",
           huge + "/" + huge, " 1/2"});
  refused(sweep, "--max-tokens", {"-1", huge});
  refused(sweep, "--new-tokens", {"-1", "4294967297", huge});
  refused({"verify", "--model", model, "--capture", (nano / "capture.safetensors").string()},
          "--atol", {"-1", "nan", "inf", "1e999"});
  CHECK(run_olmoe({"generate", "--model", model, "--prompt", "x", "--max-new-tokens", "1", "--seed",
                   "18446744073709551615"})
            .code == 0);
}

TEST_CASE("what does not go together is told by the options, not by what they lead to") {
  const std::string model = nano.string();
  const std::string text = (nano / "text/bible.txt").string();
  const TempDir directory;
  const std::string out = (directory.path() / "out").string();
  check_error({"sweep", "--model", model, "--out", out, "--max-tokens", "100"}, 2,
              {"--max-tokens 100 is less than a window of "});
  check_error({"perplexity", "--model", model, "--text", text, "--window", "64", "--stride", "65"},
              2, {"the stride must lie in [1, 64], got 65"});
  check_error({"calibrate", "--model", model, "--text", text, "--out", out, "--held-out", text,
               "--target-experts", "3", "--policy", "topk:k=?"},
              2, {"policy 'topk:k=?': '?' stands for a number between 0 and 1"});
}

// The OpenMP of clang 14 ends any program by an assertion for such numbers.
#ifdef __clang__
constexpr bool openmp_asserts = true;
#else
constexpr bool openmp_asserts = false;
#endif

TEST_CASE("of numbers of threads that are none, OpenMP warns once" *
          doctest::skip(openmp_asserts)) {
  const Outcome outcome =
      run_olmoe({"generate", "--model", nano.string(), "--prompt", "x", "--max-new-tokens", "1"},
                "OMP_NUM_THREADS=abc");
  CHECK(outcome.code == 0);
  const std::size_t first = outcome.err.find("OMP_NUM_THREADS");
  REQUIRE(first != std::string::npos);
  CHECK(outcome.err.find("OMP_NUM_THREADS", first + 1) == std::string::npos);
}

TEST_CASE("options that name one of a few values take their names alone, and help shows them") {
  const std::string model = nano.string();
  const std::string out = (nano / "none").string();
  const auto refused = [](std::vector<std::string> arguments, const std::string& names) {
    for (const std::string value : {"0", "1", "3", "other", ""}) {
      CAPTURE(value);
      arguments.push_back(value);
      check_error(arguments, 2, {arguments[arguments.size() - 2], "is not one of: " + names});
      arguments.pop_back();
    }
    const Outcome help = run_olmoe({arguments.front(), "--help"});
    CAPTURE(help.out);
    CHECK(help.code == 0);
    CHECK(std::all_of(help.out.begin(), help.out.end(),
                      [](unsigned char c) { return c == '\n' || (c >= ' ' && c < 0x7f); }));
  };
  refused({"generate", "--model", model, "--prompt", "x", "--compute"}, "f32, bf16");
  refused({"make-random", "--config", model, "--out", out, "--dtype"}, "bf16, f16, f32");
  refused({"calibrate", "--model", model, "--text", "x", "--out", out, "--method"}, "kde, ecdf");
  refused({"calibrate", "--model", model, "--text", "x", "--out", out, "--score"},
          "logit, log_softmax, zscore, robust_zscore");
  refused({"verify", "--model", model, "--preset"}, "hf-integration-test");
}

TEST_CASE("as many threads as OMP_NUM_THREADS may ask for do not end the program" *
          doctest::skip(openmp_asserts)) {
  for (const char* threads : {"80000", "2000000000"}) {
    const Outcome outcome =
        run_olmoe({"generate", "--model", nano.string(), "--prompt", "x", "--max-new-tokens", "2"},
                  std::string("OMP_NUM_THREADS=") + threads);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.err.starts_with("olmoe: warning: OMP_NUM_THREADS asks for "));
  }
}

TEST_CASE("pipes and devices are no input files") {
  const TempDir directory;
  const std::string pipe = (directory.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string out = (directory.path() / "out").string();
  for (const std::string& file : {pipe, std::string("/dev/zero")}) {
    CAPTURE(file);
    const std::vector<std::string> facts{file, "not a regular file"};
    const std::string model = nano.string();
    check_error({"sweep", "--model", model, "--out", out, "--grid", file}, 1, facts);
    check_error({"sweep", "--model", model, "--out", out, "--prompts", file}, 1, facts);
    check_error({"sweep", "--model", model, "--out", out, "--text", file}, 1, facts);
    check_error({"sweep", "--model", model, "--out", out, "--nulls", file}, 1, facts);
    check_error({"perplexity", "--model", model, "--text", file}, 1, facts);
    check_error({"logits", "--model", model, "--out", out, "--ids", file}, 1, facts);
    check_error({"verify", "--model", model, "--capture", file}, 1, facts);
    check_error({"tokenize", "--model", model, "--file", file}, 1, facts);
    check_error({"tokenize", "--model", model, "--jsonl", file}, 1, facts);
    check_error({"make-random", "--config", file, "--out", out}, 1, facts);
    CHECK_FALSE(std::filesystem::exists(out));
  }
  for (const std::string name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    CAPTURE(name);
    const NanoCopy copy;
    std::filesystem::remove(copy.path() / name);
    REQUIRE(::mkfifo(copy.file(name).c_str(), 0600) == 0);
    check_error(copy.generate(), 1, {copy.file(name), "not a regular file"});
  }
  // A sweep's own files.
  std::filesystem::create_directories(out + "/configs");
  REQUIRE(::mkfifo((out + "/sweep.json").c_str(), 0600) == 0);
  check_error({"merge", "--out", out + "2", out}, 1, {out + "/sweep.json", "not a regular file"});
  check_error({"sweep", "--model", nano.string(), "--out", out, "--resume"}, 1,
              {out + "/sweep.json", "not a regular file"});
}

TEST_CASE("what is not replaced: pipes, devices, directories; an empty text names no file") {
  const TempDir dir;
  const std::string pipe = (dir.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string ids = dir.write("ids.json", "[1, 2]").string();
  const auto logits = [&](const std::string& out) {
    return std::vector<std::string>{"logits", "--model", plain.string(), "--ids", ids,
                                    "--out",  out};
  };
  check_error(logits(pipe), 1, {pipe, "is no regular file, and is not replaced by one"});
  CHECK(std::filesystem::is_fifo(pipe));
  check_error(logits(dir.path().string()), 1, {"is no regular file"});
  check_error(logits(""), 2, {"--out: is empty"});
  const std::string model = nano.string();
  check_error({"generate", "--model", "", "--prompt", "x"}, 2, {"--model: is empty"});
  check_error({"sweep", "--model", model, "--out", ""}, 2, {"--out: is empty"});
  check_error({"sweep", "--model", model, "--out", "x", "--text", ""}, 2, {"--text: is empty"});
  check_error({"logits", "--model", model, "--out", "x", "--ids", ""}, 2, {"--ids: is empty"});
  check_error({"merge", "--out", "x", ""}, 2, {"shards: is empty"});
  check_error(
      {"perplexiti"}, 2,
      {"no subcommand 'perplexiti' (did you mean 'perplexity'?); there are generate, tokenize"});
}

TEST_CASE("what one's own checkpoint may lack is answered with what to do") {
  const NanoCopy copy;
  std::filesystem::remove(copy.path() / "nulls.safetensors");
  const std::string text = copy.file("text.txt");
  check_error({"sweep", "--model", copy.model(), "--out", copy.file("out")}, 1,
              {copy.file("text") + ": there is no such directory; name texts to evaluate, --text"});
  check_error({"perplexity", "--model", copy.model(), "--text", text, "--route", "bh:score=zscore"},
              2, {"needs a null distribution", "olmoe calibrate --score zscore --model DIR"});
  check_error({"sweep", "--model", copy.model(), "--out", copy.file("out"), "--text", text,
               "--window", "32"},
              2, {"needs a null distribution", "olmoe calibrate --model DIR --text FILE"});
  check_error({"calibrate", "--model", copy.model(), "--out", copy.file("n"), "--text", text}, 1,
              {"too short to hold a window of", "--held-out FILE"});
}

TEST_CASE("weights that are truncated under a run end it with a line that names the file") {
  const NanoCopy copy;
  const Outcome outcome =
      run_and_act(copy.generate(), 0, [&] { std::filesystem::resize_file(copy.weights(), 0); });
  CHECK(outcome.code == 1);
  CHECK(outcome.err.ends_with("olmoe: " + copy.weights().string() +
                              ": was truncated while in use\n"));
}

TEST_CASE("weights that change under a run are noticed before anything is called a result") {
  const std::string fact = ": was changed or replaced while it was in use\n";
  {
    const NanoCopy copy;
    const Outcome outcome = run_and_act(copy.generate(), 0, [&] { copy.change_weights(); });
    CHECK(outcome.code == 1);
    CHECK(outcome.err.ends_with("olmoe: " + copy.weights().string() + fact));
  }
  const NanoCopy copy;
  // The first lines are the number of configurations and the first result.
  const Outcome outcome = run_and_act(copy.sweep(), 2, [&] { copy.change_weights(); });
  CHECK(outcome.code == 1);
  CHECK(outcome.err.ends_with("olmoe: " + copy.weights().string() + fact));
  CHECK_FALSE(std::filesystem::exists(copy.path() / "out/grid_report.md"));
  std::vector<std::string> resumed = copy.sweep();
  resumed.emplace_back("--resume");
  const Outcome again = run_olmoe(resumed);
  CHECK(again.code == 1);
  CHECK(again.err.find("holds another sweep: here, inputs.model.sha256 is ") != std::string::npos);
}

TEST_CASE("weights that change and keep size and time are found by their digest") {
  const NanoCopy copy;
  struct stat before;
  REQUIRE(::stat(copy.weights().c_str(), &before) == 0);
  const Outcome outcome = run_and_act(copy.sweep(), 2, [&] {
    copy.change_weights();
    const std::array<timespec, 2> times{before.st_atim, before.st_mtim};
    REQUIRE(::utimensat(AT_FDCWD, copy.weights().c_str(), times.data(), 0) == 0);
  });
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("was changed during the sweep; the ") != std::string::npos);
  CHECK(std::filesystem::is_empty(copy.path() / "out/configs"));
}

TEST_CASE("merge compares the shards with a model, if there is one at hand") {
  const NanoCopy copy;
  REQUIRE(run_olmoe(copy.sweep()).code == 0);
  const NanoCopy other;
  other.change_weights();
  const std::string merged = copy.file("merged");
  check_error({"merge", "--out", merged, "--model", other.model(), copy.file("out")}, 1,
              {copy.file("out"), "was measured on another model"});
  CHECK_FALSE(std::filesystem::exists(merged));
  CHECK(run_olmoe({"merge", "--out", merged, "--model", copy.model(), copy.file("out")}).code == 0);
}
