#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace olmoe {

/// The JSON document `text`; `origin` names it in messages. Throws Error if it is malformed,
/// repeats a key within an object, or nests deeper than 64 levels.
nlohmann::json parse_json(std::string_view text, const std::string& origin);

/// Throws Error if a JSON text nests deeper than 64 levels, has an object of more than
/// `most_members` members, or holds a NUL byte: what nlohmann's own parsers do not refuse and their
/// documents do not bear. Takes the text's length in time; whether it is JSON is not asked.
void check_json_shape(std::string_view text, std::size_t most_members, const std::string& origin);

/// parse_json of a file. Throws Error also if it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// `text` for a message: in single quotes, on one line, cut after 100 bytes.
std::string quote(std::string_view text);

/// A JSON value for a message: as JSON, on one line, cut after 100 bytes.
std::string show(const nlohmann::json& value);

}  // namespace olmoe
