#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "forward/config.hpp"

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
  /// The mean experts to solve the policy's open parameter for; per layer, if so wanted.
  std::optional<double> target;
  bool per_layer = false;
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

/// Fixed top-k for k = 1 ... 16, and at each of the mean experts 3, 4, 5, 6 and 7 the adaptive
/// families, whose one parameter, a `?` in the policy, the sweep solves for that mean:
///
/// * bh_{score}_trim{0,8}: BH with every score, null marginal (trim 0) or trimmed;
///   bh_log_softmax_trim{4,6,10,12} besides;
/// * bh_layers: BH on log_softmax with trim 8, an alpha per layer such that each has the mean;
/// * top_p, relative, threshold: the usual rules without a null.
///
/// All with 1 to 12 experts. Throws Error for a model with fewer than 16 experts.
std::vector<Configuration> frontier_grid(const Config& config);

/// Key of the null tables that a sweep fits itself: "log_softmax_trim8".
struct FittedNullKey {
  std::string score;
  int trim;

  std::string text() const { return score + "_trim" + std::to_string(trim); }
  static FittedNullKey parse(const std::string& text);
};

/// The baseline and the policies of a file, one a line; blank lines and what follows a # count for
/// nothing. `canonical` writes a policy out in full, or throws std::invalid_argument. A name is
/// that full form, abbreviated to a prefix and a hash if it is long. A line that says the baseline
/// again adds nothing. Throws Error, with the line number, for one that does not parse or that
/// repeats another, and for a file without any policy.
std::vector<Configuration> file_grid(
    const std::filesystem::path& path, const Config& config,
    const std::function<std::string(const std::string&)>& canonical);

/// A policy string as a name: characters unfit for file names replaced, long ones abbreviated.
std::string policy_name(const std::string& policy);

/// Throws Error if two configurations share a name.
void check_names_unique(const std::vector<Configuration>& configurations);

}  // namespace olmoe
