#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace olmoe {

/// The JSON document `text`; `origin` names it in messages. Throws Error if it is malformed,
/// repeats a key within an object, or nests deeper than 64 levels.
nlohmann::json parse_json(std::string_view text, const std::string& origin);

/// parse_json of a file. Throws Error also if it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// A JSON value for a message: as JSON, one_line() of at most 100 bytes.
std::string show(const nlohmann::json& value);

}  // namespace olmoe
