#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"

namespace olmoe {

/// One configuration of a sweep: a routing policy in full, under a name of its own.
struct Configuration {
  /// What a configuration is for. `Curve` ones only say what fixed top-k costs, so that every row
  /// can be compared at equal cost; they generate nothing.
  enum class Role : std::uint8_t { Row, Curve };

  std::string name;    ///< unique in the grid; letters, digits and _-.=+ only
  std::string family;  ///< what pictures and report group by
  std::string policy;  ///< what make_routers() reads
  std::string nulls;   ///< which of the sweep's null tables the policy uses; empty: none
  std::optional<double> target;  ///< the mean experts that the policy's parameter was solved for
  Role role = Role::Row;
};

/// Key of the null tables that the user or the model directory provides.
inline constexpr const char* given_nulls = "given";

/// "topk_8_baseline": the model's own top-k.
Configuration baseline(const Config& config);

/// Fixed top-k for k = 1 ... min(16, experts), without the baseline's k.
std::vector<Configuration> top_k_curve(const Config& config, Configuration::Role role);

/// `topk_{k}_baseline` and bh_k{4,8,16,32,64}_a{001,005,010,020}, 21 configurations: BH at alpha
/// 0.01 ... 0.20 with 1 to 4 ... 64 experts. Throws Error if the model has fewer than 64 experts:
/// several of these would then be the same policy.
std::vector<Configuration> bh21_grid(const Config& config);

/// The baseline and the policies of a file, one a line; blank lines and what follows a # count for
/// nothing. `canonical` writes a policy out in full, or throws std::invalid_argument. A name is that
/// full form, abbreviated to a prefix and a hash if it is long. A line that says the baseline again
/// adds nothing. Throws Error, with the line number, for one that does not parse or that repeats
/// another, and for a file without any policy.
std::vector<Configuration> file_grid(
    const std::filesystem::path& path, const Config& config,
    const std::function<std::string(const std::string&)>& canonical);

/// A policy string as a name: characters unfit for file names replaced, long ones abbreviated.
std::string policy_name(const std::string& policy);

/// Throws Error if two configurations share a name.
void check_names_unique(const std::vector<Configuration>& configurations);

}  // namespace olmoe
