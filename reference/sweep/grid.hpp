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
  /// The configuration whose mean experts on the development text are the target; empty: none.
  std::string like = {};
  /// The mass_exponent of the weights is fitted on the development text.
  bool fit_mass = false;

  /// Whether `policy` has a parameter left open, or is fixed top-k with a target, its own k.
  bool is_open() const { return target.has_value() || !like.empty(); }
};

/// Key of the null tables that the user or the model directory provides.
inline constexpr const char* given_nulls = "given";

/// "topk_8_baseline": the model's own top-k.
Configuration baseline(const Config& config);

/// Fixed top-k for k = 1 ... min(16, experts), without the baseline's k.
std::vector<Configuration> top_k_curve(const Config& config, Configuration::Role role);

/// `topk_{k}_baseline` and bh_k{4,8,16,32,64}_a{020,010,005,001}, 21 configurations: BH at alpha
/// 0.20 ... 0.01 with 1 to 4 ... 64 experts. Throws Error if the model has fewer than 64 experts:
/// several of these would then be the same policy.
std::vector<Configuration> bh21_grid(const Config& config);

/// Fixed top-k for k = 1 ... 16, and at each of the mean experts 7, 6, 5, 4 and 3 the adaptive
/// families, whose one parameter, a `?` in the policy, the sweep solves for that mean:
///
/// * bh_{score}_trim{0,8}: BH with every score, null marginal (trim 0) or trimmed;
///   bh_log_softmax_trim{4,6,10,12} besides;
/// * bh_layers: BH on log_softmax with trim 8, an alpha per layer such that each has the mean;
/// * top_p, relative, threshold, slope: rules without a null; slope's sigma is the tail's of
///   log_softmax with trim 8;
/// * topk_mass, threshold_mass, bh_mass (log_softmax, trim 8), at 5, 4 and 3: with a fitted
///   mass_exponent each.
///
/// The adaptive ones with 1 to 12 experts. Throws Error for a model with fewer than 16 experts.
std::vector<Configuration> frontier_grid(const Config& config);

/// The family of top-k with a fixed k for each layer, and its configurations for mean experts
/// 2 ... 12: the sweep chooses the counts on the development text.
inline constexpr const char* layers_family = "layers";
std::vector<Configuration> layers_curve(const Config& config);

/// The family of fixed top-k with a fitted mass_exponent: what such weights alone are worth.
inline constexpr const char* topk_mass_family = "topk_mass";

/// What stands in the plan for slope's sigma: the mean of the null tables' tails.
inline constexpr const char* tail_sigma = "sigma=tail";

/// The rivals of the adaptive configurations of `rows` that have no target of their own: the plain
/// threshold and, if `with_slope`, the slope rule, each with the bounds and the mean experts of the
/// configuration that it is `like`. `canonical` is file_grid()'s.
std::vector<Configuration> rivals(const std::vector<Configuration>& rows, bool with_slope,
                                  const std::function<std::string(const std::string&)>& canonical);

/// The grids of experts loaded, which are run_loads()'s.
inline constexpr const char* loads_grid_name = "loads";
inline constexpr const char* oracle_grid_name = "oracle";
inline bool is_loads_grid(const std::string& grid) {
  return grid == loads_grid_name || grid == oracle_grid_name;
}

/// Whether a row of bh21 is that of max_k 16 again, as rows of max_k 32 and 64 are: few counts
/// reach 16. Such a row has no rivals, and its counts are not dealt.
bool repeats_16(const Configuration& configuration);

/// Key of the null tables that a sweep fits itself: "log_softmax_trim8".
struct FittedNullKey {
  std::string score;
  int trim;

  std::string text() const { return score + "_trim" + std::to_string(trim); }
  static FittedNullKey parse(const std::string& text);
};

/// The baseline and the policies of a file, one a line; blank lines and what follows a # count for
/// nothing. `canonical` writes a policy out in full, or throws std::invalid_argument. A line may
/// name its configuration, NAME = POLICY; a name is_name(). Else the name is that full form,
/// abbreviated to a prefix and a hash if it is long. A line that says the baseline
/// again adds nothing. The policies of one name are a family, which is tested in the file's
/// order: the one with the most experts comes first. Throws Error, with the line number, for one
/// that does not parse or that repeats another, and for a file without any policy.
std::vector<Configuration> file_grid(
    const std::filesystem::path& path, const Config& config,
    const std::function<std::string(const std::string&)>& canonical);

/// A policy string as a name: characters unfit for file names replaced, long ones abbreviated.
std::string policy_name(const std::string& policy);

/// Throws Error if two configurations share a name.
void check_names_unique(const std::vector<Configuration>& configurations);

}  // namespace olmoe
