#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace olmoe {

/// The form of what --json prints, whatever the command: docs/command-line.md has its fields. The
/// number grows when a field changes its meaning or goes; new fields do not change it.
inline constexpr const char* json_schema = "fdroute-olmoe/1";

/// Prints one JSON object to standard output: `schema`, `command`, and then the fields of `result`,
/// an object. Bytes that are not UTF-8 become U+FFFD; a number that is not finite becomes null.
void print_json(const std::string& command, const nlohmann::ordered_json& result);

}  // namespace olmoe
