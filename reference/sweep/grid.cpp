#include "sweep/grid.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/limits.hpp"
#include "formats/regular_file.hpp"
#include "formats/sha256.hpp"
#include "routing/canonical_policy.hpp"
#include "routing/routing.hpp"
#include "sweep/sweep_files.hpp"

namespace olmoe {
namespace {

constexpr const char* top_k_family = "top-k";

std::string trimmed(const std::string& text) {
  constexpr const char* blank = " \t\r";
  const std::size_t begin = text.find_first_not_of(blank);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(blank) + 1 - begin);
}

}  // namespace

Configuration baseline(const Config& config) {
  return {.name = "topk_" + std::to_string(config.num_experts_per_tok) + "_baseline",
          .family = top_k_family,
          .policy = native_policy,
          .nulls = {},
          .target = {}};
}

std::vector<Configuration> top_k_curve(const Config& config, Configuration::Role role) {
  constexpr int longest = 16;
  std::vector<Configuration> curve;
  for (int k = 1; k <= std::min(longest, config.num_experts); ++k) {
    if (k == config.num_experts_per_tok) continue;
    curve.push_back({.name = "topk_" + std::to_string(k),
                     .family = top_k_family,
                     .policy = "topk:k=" + std::to_string(k),
                     .nulls = {},
                     .target = {},
                     .role = role});
  }
  return curve;
}

std::vector<Configuration> bh21_grid(const Config& config) {
  constexpr std::array caps{4, 8, 16, 32, 64};
  constexpr std::array alphas{std::pair("020", "0.2"), std::pair("010", "0.1"),
                              std::pair("005", "0.05"), std::pair("001", "0.01")};
  if (config.num_experts < caps.back())
    throw Error("grid bh21 caps at up to " + std::to_string(caps.back()) +
                " experts, the model has " + std::to_string(config.num_experts) +
                ": several configurations would be the same; use --grid FILE");
  std::vector<Configuration> grid{baseline(config)};
  for (const int cap : caps) {
    for (const auto& [suffix, alpha] : alphas) {
      grid.push_back(
          {.name = "bh_k" + std::to_string(cap) + "_a" + suffix,
           .family = "BH, max_k " + std::to_string(cap),
           .policy = std::string("bh:alpha=") + alpha + ",min_k=1,max_k=" + std::to_string(cap),
           .nulls = given_nulls,
           .target = {}});
    }
  }
  return grid;
}

bool repeats_16(const Configuration& configuration) {
  return configuration.family == "BH, max_k 32" || configuration.family == "BH, max_k 64";
}

std::vector<Configuration> layers_curve(const Config& config) {
  constexpr int most_mean = 12;
  std::vector<Configuration> curve;
  for (int k = 2; k <= std::min(most_mean, config.num_experts); ++k) {
    curve.push_back({.name = std::string(layers_family) + "_mean" + std::to_string(k),
                     .family = layers_family,
                     .policy = "topk:k=?",
                     .nulls = {},
                     .target = k,
                     .per_layer = true,
                     .role = Configuration::Role::Curve});
  }
  return curve;
}

std::vector<Configuration> rivals(const std::vector<Configuration>& rows, bool with_slope,
                                  const std::function<std::string(const std::string&)>& canonical) {
  std::vector<Configuration> result;
  for (const Configuration& row : rows) {
    if (row.is_open() || row.policy == native_policy) continue;
    const CanonicalPolicy policy(canonical(row.policy));
    if (repeats_16(row) || policy.name == "topk") continue;
    std::string bounds;
    for (const char* bound : {"min_k", "max_k"}) {
      const auto found = policy.arguments.find(bound);
      if (found != policy.arguments.end()) bounds += "," + found->first + "=" + found->second;
    }
    const auto add = [&](const std::string& family, const std::string& open, const char* nulls) {
      result.push_back({.name = policy_name(family + "_like_" + row.name),
                        .family = family,
                        .policy = open + bounds,
                        .nulls = nulls,
                        .target = {},
                        .role = Configuration::Role::Curve,
                        .like = row.name});
    };
    add("threshold", "threshold:t=?", "");
    if (with_slope) add("slope", std::string("slope:c=?,") + tail_sigma, given_nulls);
  }
  return result;
}

FittedNullKey FittedNullKey::parse(const std::string& text) {
  constexpr std::string_view separator = "_trim";
  const std::size_t at = text.rfind(separator);
  return {text.substr(0, at), std::stoi(text.substr(at + separator.size()))};
}

std::vector<Configuration> frontier_grid(const Config& config) {
  constexpr int fewest_experts = 16;
  if (config.num_experts < fewest_experts)
    throw Error("grid frontier needs a model of at least " + std::to_string(fewest_experts) +
                " experts, this one has " + std::to_string(config.num_experts));
  std::vector<Configuration> grid{baseline(config)};
  for (Configuration& fixed : top_k_curve(config, Configuration::Role::Row))
    grid.push_back(std::move(fixed));

  const std::string bounds = ",min_k=1,max_k=12";
  struct Family {
    std::string name;
    std::string policy;
    std::string nulls;
    bool per_layer = false;
  };
  std::vector<Family> families;
  const auto add_bh = [&](const FittedNullKey& key) {
    families.push_back({"bh_" + key.text(), "bh:alpha=?" + bounds, key.text()});
  };
  for (const char* score : {"logit", "zscore", "log_softmax"}) {
    for (const int trim : {0, 8}) add_bh({score, trim});
  }
  for (const int trim : {4, 6, 10, 12}) add_bh({"log_softmax", trim});
  families.push_back(
      {"bh_layers", "bh:alpha=?" + bounds, FittedNullKey{"log_softmax", 8}.text(), true});
  families.push_back({"top_p", "top_p:p=?" + bounds, ""});
  families.push_back({"relative", "relative:t=?" + bounds, ""});
  families.push_back({"threshold", "threshold:t=?" + bounds, ""});
  families.push_back({"slope", std::string("slope:c=?,") + tail_sigma + bounds,
                      FittedNullKey{"log_softmax", 8}.text()});

  for (const Family& family : families) {
    for (const int target : {7, 6, 5, 4, 3}) {
      grid.push_back({.name = family.name + "_mean" + std::to_string(target),
                      .family = family.name,
                      .policy = family.policy,
                      .nulls = family.nulls,
                      .target = target,
                      .per_layer = family.per_layer});
    }
  }

  const std::vector<Family> by_mass{
      {topk_mass_family, "topk:k=", ""},
      {"threshold_mass", "threshold:t=?" + bounds, ""},
      {"bh_mass", "bh:alpha=?" + bounds, FittedNullKey{"log_softmax", 8}.text()}};
  for (const Family& family : by_mass) {
    for (const int target : {5, 4, 3}) {
      const bool is_fixed = family.name == topk_mass_family;
      grid.push_back({.name = family.name + "_mean" + std::to_string(target),
                      .family = family.name,
                      .policy = family.policy + (is_fixed ? std::to_string(target) : ""),
                      .nulls = family.nulls,
                      .target = target,
                      .fit_mass = true});
    }
  }
  return grid;
}

std::string policy_name(const std::string& policy) {
  constexpr std::size_t longest = 120;  // leaves room for suffixes within the usual limit of 255
  constexpr std::size_t prefix = 100;
  std::string name = policy;
  for (char& c : name) {
    if (c == '/') c = '+';
    const auto plain = static_cast<unsigned char>(c);
    if (std::isalnum(plain) == 0 && std::string_view("_-.=+").find(c) == std::string_view::npos)
      c = '_';
  }
  if (name.size() <= longest) return name;
  const std::string digest = sha256(std::as_bytes(std::span(policy)));
  return name.substr(0, prefix) + "_" + digest.substr(0, 12);
}

namespace {

/// A line of a grid file without its comment: NAME = POLICY, or a policy alone, whose first `=`
/// stands behind a colon.
struct GridLine {
  std::string name;  ///< empty: none given
  std::string policy;
};

GridLine parse_line(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || text.find(':') < equals) return {{}, trimmed(text)};
  return {trimmed(text.substr(0, equals)), trimmed(text.substr(equals + 1))};
}

}  // namespace

std::vector<Configuration> file_grid(
    const std::filesystem::path& path, const Config& config,
    const std::function<std::string(const std::string&)>& canonical) {
  std::istringstream file(read_file(path, Limits::grid_bytes));
  std::vector<Configuration> grid{baseline(config)};
  std::map<std::string, int> lines{{canonical(native_policy), 0}};
  bool any = false;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string written = trimmed(line.substr(0, line.find('#')));
    if (written.empty()) continue;
    any = true;
    const std::string where = path.string() + ", line " + std::to_string(number) + ": ";
    const auto& [name, policy] = parse_line(written);
    if (policy.size() < written.size() && !is_name(name))
      throw Error(where + quote(name) + " is no name: a name has up to 128 letters, digits and " +
                  "_-.=+, and begins with neither . nor -");
    std::string full;
    try {
      full = canonical(policy);
    } catch (const std::invalid_argument& error) {
      throw Error(where + error.what());
    }
    const auto [seen, fresh] = lines.try_emplace(full, number);
    if (!fresh && seen->second == 0) continue;
    if (!fresh) throw Error(where + "is the policy of line " + std::to_string(seen->second));
    grid.push_back({.name = name.empty() ? policy_name(full) : name,
                    .family = policy.substr(0, policy.find(':')),
                    .policy = policy,
                    .nulls = given_nulls,
                    .target = {}});
  }
  if (!any) throw Error(path.string() + ": holds no policy");
  check_names_unique(grid);
  return grid;
}

void check_names_unique(const std::vector<Configuration>& configurations) {
  std::set<std::string> names;
  for (const Configuration& configuration : configurations) {
    if (!names.insert(configuration.name).second)
      throw Error("two configurations of the grid are called " + quote(configuration.name));
  }
}

}  // namespace olmoe
