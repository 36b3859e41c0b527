#include "sweep/prompts.hpp"

#include <doctest/doctest.h>

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
  for (const char* bad : {"[]", "{}", R"([{"class": "a"}])", R"([{"class": "a", "text": ""}])",
                          R"([{"class": "a", "text": "b", "more": 1}])"})
    CHECK(error_of([&] { olmoe::read_prompts(dir.write("p", bad)); }) != "no error");
}
