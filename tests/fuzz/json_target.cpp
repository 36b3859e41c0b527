// formats/json: the verdict of an independent reader; a document that is read comes out as it went
// in; a message is one line.

#include "formats/json.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fuzz/fuzz.hpp"
#include "fuzz/strict_json.hpp"

FUZZ_TARGET(json) {
  constexpr int depth = 64;
  const auto expected = fuzz::StrictJson::parse(input, depth);
  nlohmann::json document;
  const bool read =
      fuzz::accepted([&] { document = olmoe::parse_json(input, "ORIGIN"); }, "ORIGIN");
  fuzz::require(read == expected.has_value(), "the verdict is that of StrictJson");

  const auto members = fuzz::StrictJson::parse(input, depth, true);
  std::size_t visited = 0;
  const bool walked = fuzz::accepted(
      [&] {
        olmoe::for_each_member(input, "ORIGIN", [&](const std::string& key, nlohmann::json value) {
          fuzz::require(!members || (members->members.at(visited).first == key &&
                                     (!read || document.at(key) == value)),
                        "for_each_member visits the members in order");
          ++visited;
        });
      },
      "ORIGIN");
  fuzz::require(walked == (members && members->kind == fuzz::Value::Kind::object),
                "for_each_member's verdict is that of StrictJson");
  if (walked) fuzz::require(visited == members->members.size(), "all members are visited");

  const bool shaped =
      fuzz::accepted([&] { olmoe::check_json_shape(input, {}, "ORIGIN"); }, "ORIGIN");
  fuzz::require(shaped || !read, "the shape of a document without limits is sound");
  fuzz::accepted(
      [&] {
        olmoe::check_json_shape(
            input, {.outer_members = 3, .members = 2, .elements = 4, .token_bytes = 20}, "ORIGIN");
      },
      "ORIGIN");

  const std::string quoted = olmoe::quote(input);
  fuzz::require(fuzz::is_message(quoted, 102), "quote() is a line of at most 102 bytes");
  if (!read) return;
  const std::string shown = olmoe::show(document);
  fuzz::require(fuzz::is_message(shown, 100), "show() is a line of at most 100 bytes");
  fuzz::require(olmoe::parse_json(document.dump(), "ORIGIN") == document,
                "a document that is written is read back");
}
