#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace olmoe {

/// The library's version, "0.2.0".
std::string fdroute_version();

/// Who writes a sweep's result files, and when: `fdroute`, the version; `revision`, the git commit
/// that the program was configured at, null outside of a repository; `date`, the day in UTC, that
/// of the environment variable SOURCE_DATE_EPOCH if there is one. Throws Error if that is no number
/// of seconds since 1970.
nlohmann::ordered_json provenance();

/// A provenance as a phrase: "fdroute 0.2.0 (revision 0123456789ab), 2026-11-26".
std::string provenance_text(const nlohmann::ordered_json& provenance);

/// The command that a sweep's plan comes from, without what names files or spreads the work: the
/// inputs name the files by digest.
std::string command_text(const std::string& grid, const nlohmann::ordered_json& inputs);

}  // namespace olmoe
