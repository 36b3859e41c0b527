// olmoe generate

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reference/cli/generate.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("generate writes text to stdout and the cost to stderr") {
  const std::vector<std::string> common{"--max-new-tokens", "12"};
  const Outcome native = run_olmoe(generate(nano, common));
  CHECK(native.code == 0);
  CHECK(native.out.starts_with("x"));
  CHECK(native.err.find("8.00 experts per token") != std::string::npos);
  CHECK(native.err.find("12 new tokens") != std::string::npos);
  CHECK(run_olmoe(generate(nano, common)).out == native.out);

  const Outcome few = run_olmoe(generate(nano, {"--max-new-tokens", "12", "--route", "topk:k=3"}));
  CHECK(few.code == 0);
  CHECK(few.err.find("3.00 experts per token") != std::string::npos);
  const Outcome bh = run_olmoe(generate(
      nano, {"--max-new-tokens", "12", "--route", "bh:alpha=0.05,max_k=16", "--threads", "1"}));
  CHECK(bh.code == 0);
  CHECK(bh.err.find("bh:alpha=0.05,min_k=1,max_k=16") != std::string::npos);
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
      const nlohmann::ordered_json line{
          {"prompt", text},
          {"text", alone.out.substr(text.size(), alone.out.size() - text.size() - 1)}};
      expected += line.dump() + "\n";
    }
    for (const char* batch : {"1", "3", "16"}) {
      const Outcome together = run({"--prompts", file.string(), "--batch", batch}, more);
      CHECK(together.code == 0);
      CHECK(together.out == expected);
      CHECK(together.err.find(" new tokens, ") != std::string::npos);
    }
  }
  const std::string path = file.string();
  check_error({"generate", "--model", nano.string(), "--prompts", path, "--batch", "0"}, 2,
              {"--batch"});
  check_error(generate(nano, {"--prompts", path}), 2, {"--prompt"});
  check_error(generate(nano, {"--batch", "2"}), 2, {"--batch", "--prompts"});
  check_error({"generate", "--model", nano.string(), "--prompts",
               directory.write("bad.json", "[\"text\"]").string()},
              1, {"bad.json", "a prompt is"});
}
