#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/compile_once.hpp"
#include "library/support.hpp"

/// The policies that strings can name, from the library's table: a new row is tested by whatever
/// goes through them.

namespace test {

/// Any rule, as one type: a Router of every rule would take long to compile. It always goes the
/// general way, so it also shows that a string's router finds the same counts by critical scores.
struct PlainRule {
  std::function<int(std::span<const double>)> rule;

  int operator()(std::span<const double> sorted_p) const noexcept { return rule(sorted_p); }
};

/// The policy of this name with nothing given, written out: over 256 experts, with a null
/// distribution fitted on Z-scores and a selection bias at hand.
inline std::string written_out(std::string_view name) {
  const auto null = fd::TabulatedNull::from_log_survival({-1.0, 1.0}, {-0.5, -2.0},  //
                                                         fitted_on("zscore"));
  const std::vector<float> bias(256);
  return fd::parse_router(name, 256, fd::ParseOptions<>{.null = &null, .selection_bias = bias})
      .policy();
}

/// Whether the policy of this name takes a setting of this key.
inline bool takes(std::string_view name, const std::string& key) {
  const std::string policy = written_out(name);
  return policy.find(":" + key + "=") != std::string::npos ||
         policy.find("," + key + "=") != std::string::npos;
}

/// The names of the policies that take the key `with` and not the key `without`.
inline std::vector<std::string> names_taking(const std::string& with, const std::string& without) {
  std::vector<std::string> names;
  for (const std::string_view name : fd::policy_names())
    if (takes(name, with) && !takes(name, without)) names.emplace_back(name);
  return names;
}

inline std::vector<std::string> names_of_null_free_rules() {
  return names_taking("min_k", "null");
}
inline std::vector<std::string> names_of_rules_of_p() {
  return names_taking("null", "?");
}
inline std::vector<std::string> names_of_presets() {
  return names_taking("num_experts_per_tok", "?");
}

}  // namespace test
