#include "forward/grouping.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

using olmoe::Grouping;

TEST_CASE("a grouping reads back what it writes, and nothing else") {
  for (const char* text : {"batch:16", "consecutive:8", "cache:1"})
    CHECK(olmoe::to_text(olmoe::parse_grouping(text)) == text);
  CHECK(olmoe::parse_grouping("cache:20") == Grouping{Grouping::Kind::cache, 20});
  for (const char* text : {"", "batch", "batch:", "batch:0", "batch:-1", "batch:2x", "batch: 2",
                           "Batch:2", "consecutive:99999999999", "lru:4", ":4"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(olmoe::parse_grouping(text),
                         ("a group is batch:N, consecutive:N or cache:N, such as batch:16, got '" +
                          std::string(text) + "'")
                             .c_str(),
                         std::invalid_argument);
  }
}

TEST_CASE("the i-th tokens of a batch's sequences are a group, and so are consecutive tokens") {
  using Groups = std::vector<std::size_t>;
  const std::vector<olmoe::Stretch> stretches{{0, 5, 3}, {1, 0, 1}, {4, 2, 2}};
  CHECK(groups_of(olmoe::parse_grouping("batch:3"), stretches) == Groups{0, 1, 2, 0, 0, 1});
  // Positions 5, 6, 7; 0; 2, 3: cut at even ones.
  CHECK(groups_of(olmoe::parse_grouping("consecutive:2"), stretches) == Groups{0, 1, 1, 2, 3, 3});
  CHECK(groups_of(olmoe::parse_grouping("consecutive:100"), stretches) == Groups{0, 0, 0, 1, 2, 2});
  CHECK_THROWS_AS(groups_of(olmoe::parse_grouping("cache:2"), stretches), std::invalid_argument);
}
