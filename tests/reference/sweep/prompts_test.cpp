#include "sweep/prompts.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("Prompts") {
  const auto prompts = olmoe::default_prompts();
  CHECK(prompts.size() == 12);
  const TempDir dir;
  const auto read_back = olmoe::read_prompts(dir.write("p", R"([{"class": "a", "text": "b"}])"));
  REQUIRE(read_back.size() == 1);
  CHECK(read_back[0].group == "a");
  CHECK(read_back[0].text == "b");
  const auto error = [&](const char* content) {
    return error_of([&] { olmoe::read_prompts(dir.write("p", content)); });
  };
  for (const char* bad :
       {"[]", "", "\n", R"([{"class": "a"}])", R"([{"class": "a", "text": ""}])",
        R"([{"class": "a", "text": "b", "more": 1}])", R"([{"class": 1, "text": "b"}])",
        R"([{"more": 1, "text": "b"}])", "[1]", "[\"\"]", "[\"a\""})
    CHECK(error(bad) != "no error");
  // Of a sweep every prompt has a class.
  for (const char* bad : {R"(["b"])", R"([{"text": "b"}])", R"([{"class": "", "text": "b"}])", "b"})
    CHECK(error(bad).find("p: prompt 1 has no class") != std::string::npos);
}

TEST_CASE("Prompts are read from lines and from JSON") {
  using Texts = std::vector<std::pair<std::string, std::string>>;
  const auto prompts = [](const char* content) {
    Texts texts;
    for (const olmoe::Prompt& p : olmoe::parse_prompts(content, "p"))
      texts.emplace_back(p.group, p.text);
    return texts;
  };
  CHECK(prompts("one\n\ntwo words\r\n\r\nthree") ==
        Texts{{"", "one"}, {"", "two words"}, {"", "three"}});
  CHECK(prompts("a\n") == Texts{{"", "a"}});
  CHECK(prompts(" [\"a\\nb\", {\"class\": \"c\", \"text\": \"d\"}, {\"text\": \"e\"}]") ==
        Texts{{"", "a\nb"}, {"c", "d"}, {"", "e"}});
}
