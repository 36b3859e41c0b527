// What shares loads: olmoe generate of several prompts, olmoe perplexity of groups of tokens.

#include <doctest/doctest.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

/// The number that follows `words`.
double number_after(const std::string& text, const std::string& words) {
  const std::size_t at = text.find(words);
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + words.size()));
}

}  // namespace

TEST_CASE("perplexity says what a group loads, and completes its tokens by that") {
  const TempDir directory;
  const auto text = directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 3000));
  const std::vector<std::string> base{"perplexity", "--model",     nano.string(),
                                      "--text",     text.string(), "--window",
                                      "64",         "--stride",    "64"};
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_olmoe(arguments);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome.out;
  };
  const std::string unchanged = run({"--route", "topk:k=3"});
  CHECK(unchanged.find("experts loaded") == std::string::npos);
  for (const char* group : {"batch:4", "consecutive:8", "cache:16"}) {
    CAPTURE(group);
    const std::string counted = run({"--route", "topk:k=3", "--group", group});
    CHECK(counted.starts_with(unchanged));
    CHECK(counted.find(std::string("per layer and group, ") + group + ";") != std::string::npos);
    const double loaded = number_after(counted, "experts loaded: ");
    CHECK(loaded > (std::string(group) == "cache:16" ? 0.2 : 3.0));
    CHECK(loaded < (std::string(group) == "cache:16" ? 3.0 : 24.0));
    // An expert's matrices: 3 x 64 x 128 in bf16; 4 layers.
    CHECK(
        number_after(counted, "tokens per group; ") ==
        doctest::Approx(loaded * 4 * 3 * 64 * 128 * 2 /
                        number_after(counted, "per layer and group, " + std::string(group) + "; "))
            .epsilon(0.01));

    const std::string completed =
        run({"--route", "topk:k=3", "--group", group, "--free-window", "8"});
    CHECK(completed.find("completed within window 8 to max_k 8") != std::string::npos);
    // What is added was loaded; later layers see other tokens.
    if (std::string(group) != "cache:16")
      CHECK(number_after(completed, "experts loaded: ") == doctest::Approx(loaded).epsilon(0.1));
    CHECK(completed.find(unchanged.substr(unchanged.find("text.txt"))) == std::string::npos);
    CHECK(run({"--route", "topk:k=3", "--group", group, "--free-window", "8", "--max-k", "3"})
              .starts_with(unchanged));
  }
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  check_error(with({"--group", "batch"}), 2, {"batch:N", "'batch'"});
  check_error(with({"--group", "lru:3"}), 2, {"'lru:3'"});
  check_error(with({"--free-window", "8"}), 2, {"--free-window", "--group"});
  check_error(with({"--group", "batch:2", "--max-k", "8"}), 2, {"--max-k", "--free-window"});
  check_error(with({"--group", "batch:2", "--free-window", "0"}), 2, {"--free-window"});
}

TEST_CASE("generate completes what a batch decodes together") {
  const TempDir directory;
  std::string list = "[";
  for (const char* text : {"And the king", "The house of", "A man who", "In the beginning"})
    list +=
        std::string(list == "[" ? "" : ", ") + "{\"class\": \"any\", \"text\": \"" + text + "\"}";
  const std::string file = directory.write("prompts.json", list + "]").string();
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"generate", "--model", nano.string(), "--prompts",
                                       file,       "--route", "topk:k=2",    "--max-new-tokens",
                                       "12"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_olmoe(arguments);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome;
  };
  const Outcome unchanged = run({"--batch", "4"});
  CHECK(unchanged.err.find("2.00 experts per token") != std::string::npos);
  const Outcome completed = run({"--batch", "4", "--free-window", "8"});
  const std::size_t end = completed.err.find(" experts per token");
  REQUIRE(end != std::string::npos);
  CHECK(number_after(completed.err, completed.err.substr(0, completed.err.rfind(' ', end - 1))) >
        2.2);
  CHECK(completed.out != unchanged.out);
  // Alone, nothing is free.
  CHECK(run({"--batch", "1", "--free-window", "8"}).out == unchanged.out);
  check_error({"generate", "--model", nano.string(), "--prompt", "x", "--free-window", "8"}, 2,
              {"--free-window", "--prompts"});
}

TEST_CASE("generate continues a file of prompts together, with the text that each has alone") {
  const TempDir directory;
  const std::vector<std::string> texts{
      "And the king said", "A", "def mean(values):", "The difference between a \"river\" and"};
  nlohmann::json list = nlohmann::json::array();
  for (const std::string& text : texts) list.push_back({{"class", "any"}, {"text", text}});
  const auto file = directory.write("prompts.json", list.dump());
  const auto run = [&](std::vector<std::string> how, std::vector<std::string> more) {
    std::vector<std::string> arguments{"generate", "--model", nano.string(), "--max-new-tokens",
                                       "9"};
    arguments.insert(arguments.end(), how.begin(), how.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_olmoe(arguments);
  };
  for (const std::vector<std::string>& more : {std::vector<std::string>{},
                                               {"--route", "bh:alpha=0.05,max_k=16"},
                                               {"--temperature", "1.5", "--seed", "3"}}) {
    std::string expected;
    for (const std::string& text : texts) {
      const Outcome alone = run({"--prompt", text}, more);
      REQUIRE(alone.out.starts_with(text));
      REQUIRE(alone.out.ends_with("\n"));
      expected += alone.out;
    }
    for (const char* batch : {"1", "3", "16"}) {
      const Outcome together = run({"--prompts", file.string(), "--batch", batch}, more);
      CHECK(together.code == 0);
      CHECK(together.out == expected);
      CHECK(together.err.find(" new tokens, ") != std::string::npos);
    }
  }
  const auto document =
      nlohmann::json::parse(run({"--prompts", file.string(), "--batch", "3", "--json"}, {}).out);
  CHECK(document["batch"] == 3);
  CHECK(document["together"]["new_tokens"] == 9 * texts.size());
  REQUIRE(document["generations"].size() == texts.size());
  CHECK(document["generations"][1]["ids"].size() == 9);
  CHECK_FALSE(document["generations"][1].contains("mean_experts"));
  check_error({"generate", "--model", nano.string(), "--prompts",
               directory.write("empty.json", "[\"In the\", \"\"]").string()},
              1, {"empty.json: prompt 2 is empty"});
  const std::string path = file.string();
  check_error({"generate", "--model", nano.string(), "--prompts", path, "--batch", "0"}, 2,
              {"--batch"});
  check_error({"generate", "--model", nano.string(), "--prompt", "x", "--prompts", path}, 2,
              {"--prompt"});
  check_error({"generate", "--model", nano.string(), "--prompt", "x", "--batch", "2"}, 2,
              {"--batch", "--prompts"});
  check_error({"generate", "--model", nano.string(), "--prompts",
               directory.write("bad.json", "[1]").string()},
              1, {"bad.json", "a prompt is"});
}
