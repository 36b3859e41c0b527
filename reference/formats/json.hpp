#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
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

/// Throws Error if a JSON text nests deeper than 64 levels, has an object of more than
/// `most_members` members, or holds a NUL byte: what nlohmann's own parsers do not refuse and their
/// documents do not bear. Takes the text's length in time; whether it is JSON is not asked.
void check_json_shape(std::string_view text, std::size_t most_members, const std::string& origin);

/// parse_json of a file. Throws Error also if it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// A JSON value for a message: as JSON, one_line() of at most 100 bytes.
std::string show(const nlohmann::json& value);

}  // namespace olmoe
