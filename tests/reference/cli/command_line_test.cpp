// What all subcommands share: help, short options, and what a misspelt word is told.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string>
#include <vector>

#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

const std::array commands{"generate", "tokenize", "logits", "perplexity", "calibrate",   "sweep",
                          "merge",    "inspect",  "verify", "ablate",     "make-random", "trace"};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("help is grouped, fits 80 columns, and ends with an example") {
  for (const std::string command : commands) {
    CAPTURE(command);
    const Outcome help = run_olmoe({command, "--help"});
    CHECK(help.code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.starts_with("Usage: olmoe " + command + " [OPTION]..."));
    CHECK(help.out.find("\nGeneral:\n") > help.out.find("\nOptions:\n"));
    CHECK(help.out.find("\nExample:\n  olmoe " + command + " ") != std::string::npos);
    for (const std::string& line : lines_of(help.out)) {
      CAPTURE(line);
      const bool is_example = line.starts_with("  olmoe ");
      CHECK((line.size() <= 80 || is_example));
      CHECK(line.find('{') == line.find("{\"class\""));
      CHECK(line.find("->") == std::string::npos);
    }
  }
  const std::string generate = run_olmoe({"generate", "--help"}).out;
  CHECK(generate.find("  -m, --model DIR          Directory") != std::string::npos);
  CHECK(generate.find("\nPrompt (exactly one):\n  -p, --prompt TEXT") != std::string::npos);
  CHECK(generate.find("\nSampling:\n") != std::string::npos);
  CHECK(generate.find("[default: 64]") != std::string::npos);
  CHECK(generate.find("--compute f32|bf16") != std::string::npos);
  for (const std::string command :
       {"generate", "perplexity", "logits", "trace", "ablate", "verify"}) {
    CAPTURE(command);
    const std::string help = run_olmoe({command, "--help"}).out;
    CHECK(help.find("--kv f32|f16|bf16") != std::string::npos);
  }
}

TEST_CASE("the program's help lists every command under a heading") {
  const std::string help = run_olmoe({"--help"}).out;
  CHECK(help.starts_with("Usage: olmoe COMMAND [OPTION]..."));
  for (const std::string command : commands) {
    CAPTURE(command);
    CHECK(help.find("\n  " + command + "  ") != std::string::npos);
  }
  for (const std::string heading : {"\nText:\n", "\nPolicies:\n", "\nModels:\n", "\nGeneral:\n"})
    CHECK(help.find(heading) != std::string::npos);
  CHECK(run_olmoe({"-h"}).out == help);
}

TEST_CASE("a misspelt subcommand or option is told the right one") {
  const std::string model = nano.string();
  check_error({}, 2, {"a subcommand is required; there are generate, tokenize"});
  check_error({"tokenize", "-m", "nowhere"}, 2,
              {"one of --text, --file, --jsonl, --decode is required (see olmoe tokenize --help)"});
  check_error({"perplexiti"}, 2, {"no subcommand 'perplexiti' (did you mean 'perplexity'?)"});
  check_error({"generate", "-m", model, "--promt", "x"}, 2,
              {"generate has no option '--promt' (did you mean '--prompt'?)",
               "(see olmoe generate --help)"});
  check_error({"generate", "-m", model, "-p", "x", "--max_new_tokens=3"}, 2,
              {"no option '--max_new_tokens' (did you mean '--max-new-tokens'?)"});
  check_error({"perplexity", "-m", model, "-f", "x", "--thread", "2"}, 2,
              {"did you mean '--threads'?"});
  check_error({"sweep", "-m", model, "-o", "x", "--zzzzzzz"}, 2,
              {"sweep has no option '--zzzzzzz' (see olmoe sweep --help)"});
  check_error({"inspect", "-m", model, "more"}, 2, {"inspect takes no argument 'more'"});
  check_error({"generate", "-m", model, "-p", "x", "--compute", "bf-16"}, 2,
              {"--compute", "did you mean 'bf16'?"});
  check_error({"generate", "-m", model, "-p", "x", "--kv", "float16"}, 2,
              {"--kv", "f32, f16, bf16"});
  check_error({"generate", "-m", model, "-p", "x", "--kv", "bf-16"}, 2,
              {"--kv", "did you mean 'bf16'?"});
  check_error({"sweep", "-m", model, "-o", "x", "--kv", "f16"}, 2, {"sweep has no option '--kv'"});
  check_error({"generate", "-m", model, "-p", "x", "--route", "nativ"}, 2,
              {"policy 'nativ'", "did you mean 'native'?"});
  check_error({"generate", "-m", model, "-p", "x", "--route", "hocherg"}, 2,
              {"did you mean 'hochberg'?"});
}

TEST_CASE("every usage error is one line that begins with olmoe: and has no endless number") {
  const std::string model = nano.string();
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"generate"},
           {"generate", "-m", model},
           {"generate", "-m", model, "-p", "x", "-f", "y"},
           {"generate", "-m", model, "-p", "x", "-n", "0"},
           {"generate", "-m", model, "-p", "x", "-n", "x"},
           {"generate", "-m", model, "-p", "x", "-s", "-1"},
           {"generate", "-m", model, "-p", "x", "--top-p", "2"},
           {"generate", "-m", model, "-p", "x", "--top-p", "0.5"},
           {"generate", "-m", model, "-p", "x", "--temperature", "1", "--top-p", "0"},
           {"generate", "-m", model, "-p", "x", "--stop", ""},
           {"sweep", "-m", model, "-o", "x", "--margin", "much"},
           {"sweep", "-m", model, "-o", "x", "--max-tokens", "-1"},
           {"calibrate", "-m", model, "-f", "x", "-o", "y", "--confidence", "0.5"},
           {"make-random", "--config", "x", "-o", "y", "--max-shard-size", "much"},
           {"tokenize", "-m", model},
           {"merge", "-o", "x"}}) {
    const Outcome outcome = run_olmoe(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());
    CHECK(outcome.err.starts_with("olmoe: "));
    CHECK(std::ranges::count(outcome.err, '\n') == 1);
    CHECK(outcome.err.size() < 300);
    int digits = 0;
    for (const char c : outcome.err) {
      digits = c >= '0' && c <= '9' ? digits + 1 : 0;
      CHECK(digits < 12);
    }
    CHECK(outcome.err.find("[Option Group") == std::string::npos);
  }
}

TEST_CASE("short options are the long ones") {
  const std::string model = nano.string();
  const TempDir directory;
  const std::string text = directory.write("prompt.txt", "In the beginning").string();
  const Outcome long_form =
      run_olmoe({"generate", "--model", model, "--prompt", "In the beginning", "--max-new-tokens",
                 "5", "--threads", "1", "--seed", "3", "--temperature", "1"});
  REQUIRE(long_form.code == 0);
  CHECK(run_olmoe({"generate", "-m", model, "-p", "In the beginning", "-n", "5", "-t", "1", "-s",
                   "3", "--temperature", "1"})
            .out == long_form.out);
  CHECK(run_olmoe({"generate", "-m", model, "-f", text, "-n5", "-s3", "--temperature=1"}).out ==
        long_form.out);
  CHECK(run_olmoe({"tokenize", "-m", model, "-p", "x y"}).out ==
        run_olmoe({"tokenize", "--model", model, "--text", "x y"}).out);
  CHECK(run_olmoe({"tokenize", "-m", model, "-f", text}).out ==
        run_olmoe({"tokenize", "-m", model, "-p", "In the beginning"}).out);
  const std::string a = (directory.path() / "a.safetensors").string();
  const std::string b = (directory.path() / "b.safetensors").string();
  CHECK(run_olmoe({"logits", "-m", model, "-p", "In the beginning", "-o", a}).code == 0);
  CHECK(run_olmoe({"logits", "-m", model, "-f", text, "--out", b}).code == 0);
  CHECK(read(a) == read(b));
}
