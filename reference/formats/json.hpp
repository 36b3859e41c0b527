#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace olmoe {

/// The JSON document `text`; `origin` names it in messages. Throws Error if it is malformed, not
/// UTF-8, holds a NUL byte, repeats a key within an object, or nests deeper than 64 levels.
nlohmann::json parse_json(std::string_view text, const std::string& origin);

/// Parses the JSON object `text` and calls visit(key, value) for each of its members in order, one
/// at a time: together they take no memory. Throws Error as parse_json does, and if `text` is no
/// object; but a key that the outermost object repeats is for `visit` to notice.
void for_each_member(
    std::string_view text, const std::string& origin,
    const std::function<void(const std::string& key, nlohmann::json value)>& visit);

/// Bounds of what a JSON text has, beyond those of parse_json.
struct JsonLimits {
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

  std::size_t outer_members = none;  ///< of an outermost object
  std::size_t members = none;        ///< of each object within
  std::size_t elements = none;       ///< of an array
  std::size_t token_bytes = none;    ///< of a string or number, as it is written
};

/// Throws Error if a JSON text exceeds `limits`, nests deeper than 64 levels or holds a NUL byte,
/// which would cost a parser much memory or all of its stack. Takes the text's length in time and
/// no memory; whether it is JSON is not asked.
void check_json_shape(std::string_view text, const JsonLimits& limits, const std::string& origin);

/// parse_json of a file. Throws Error also if it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// A JSON value for a message: as JSON, one_line() of at most 100 bytes.
std::string show(const nlohmann::json& value);

}  // namespace olmoe
