#include "cli/input.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("Prompts are lines, or the texts of a JSON array") {
  const TempDir directory;
  const auto texts = [&](const std::string& content) {
    std::vector<std::string> all;
    for (const auto& prompt : olmoe::read_prompt_list(directory.write("prompts", content).string()))
      all.push_back(prompt.text);
    return all;
  };
  using Texts = std::vector<std::string>;
  CHECK(texts("one\n\ntwo words\r\nthree") == Texts{"one", "two words", "three"});
  CHECK(texts(" [\"a\\nb\", {\"class\": \"simple\", \"text\": \"c\"}]") == Texts{"a\nb", "c"});

  const auto error = [&](const std::string& content) { return error_of([&] { texts(content); }); };
  CHECK(error("").ends_with("prompts: holds no prompt"));
  CHECK(error("\n\n").ends_with("prompts: holds no prompt"));
  CHECK(error("[]").ends_with("prompts: holds no prompt"));
  CHECK(error("[1]").find("a prompt is a string or {") != std::string::npos);
  CHECK(error("[{\"class\": \"x\"}]").find("a prompt is a string or {") != std::string::npos);
  CHECK(error("[\"a\"").find("prompts") != std::string::npos);
  const auto prompts = olmoe::read_prompt_list(directory.write("two.txt", "x\ny\n").string());
  CHECK(prompts[1].origin.ends_with("two.txt: prompt 2"));
}
