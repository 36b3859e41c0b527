#include "sweep/sweep_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>
#include <string_view>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/limits.hpp"
#include "formats/sha256.hpp"
#include "sweep/sweep_files.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

constexpr const char* row_role = "row";
constexpr const char* curve_role = "curve";

/// Families are names, or "BH, max_k 8".
bool is_family(std::string_view text) {
  constexpr std::string_view between = " ,:";
  return is_label(text) && std::all_of(text.begin(), text.end(), [&](char c) {
           return between.find(c) != std::string_view::npos || is_name(std::string{'x', c});
         });
}

Configuration configuration_from(const Field& field, double experts) {
  Configuration result;
  result.name = field["name"].name();
  result.family = field["family"].label();
  if (!is_family(result.family)) field["family"].fail("the name of a family");
  result.policy = field["policy"].line();
  if (!field["nulls"].text().empty()) result.nulls = field["nulls"].name();
  if (const Field target = field["target_experts"]; !target.is_null())
    result.target = target.number(0.0, experts);
  result.per_layer = field["per_layer"].flag();
  const std::string role = field["role"].text();
  if (role != row_role && role != curve_role) field["role"].fail("'row' or 'curve'");
  if (!field["like"].text().empty()) result.like = field["like"].name();
  result.fit_mass = field["fit_mass"].flag();
  result.role = role == row_role ? Configuration::Role::Row : Configuration::Role::Curve;
  return result;
}

/// Depth-first, the first place where two documents differ.
std::string first_difference(const Json& here, const Json& there, const std::string& place) {
  if (here == there) return {};
  if (here.is_object() && there.is_object()) {
    for (const auto& [key, value] : here.items()) {
      if (!there.contains(key)) continue;
      auto found = first_difference(value, there.at(key), place.empty() ? key : place + "." + key);
      if (!found.empty()) return found;
    }
  }
  if (here.is_array() && there.is_array() && here.size() == there.size()) {
    for (std::size_t i = 0; i < here.size(); ++i) {
      auto found = first_difference(here[i], there[i], place + "[" + std::to_string(i) + "]");
      if (!found.empty()) return found;
    }
  }
  return place + " is " + show(here) + ", there it is " + show(there);
}

}  // namespace

std::string json_text(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json to_json(const Configuration& configuration) {
  Json json;
  json["name"] = configuration.name;
  json["family"] = configuration.family;
  json["policy"] = configuration.policy;
  json["nulls"] = configuration.nulls;
  json["target_experts"] = configuration.target ? Json(*configuration.target) : Json(nullptr);
  json["per_layer"] = configuration.per_layer;
  json["role"] = configuration.role == Configuration::Role::Row ? row_role : curve_role;
  json["like"] = configuration.like;
  json["fit_mass"] = configuration.fit_mass;
  return json;
}

Json SweepPlan::to_json() const {
  Json json;
  json["schema"] = schema;
  json["stem"] = stem;
  json["inputs"] = inputs;
  json["configurations"] = Json::array();
  for (const Configuration& c : configurations) json["configurations"].push_back(olmoe::to_json(c));
  return json;
}

SweepPlan SweepPlan::from_json(const Json& json, const std::string& origin) {
  const Field root(json, origin);
  if (root["schema"].text() != schema) root["schema"].fail("'" + std::string(schema) + "'");
  const Field inputs = root["inputs"];
  check_inputs(inputs);
  SweepPlan plan{root["stem"].name(), inputs.json(), {}};
  const double experts = inputs["model"]["experts"].number();
  for (const Field& configuration : root["configurations"].elements(1, Limits::configurations))
    plan.configurations.push_back(configuration_from(configuration, experts));
  try {
    check_names_unique(plan.configurations);
  } catch (const Error& error) {
    throw Error(origin + ": " + error.what());
  }
  if (plan.baseline().role != Configuration::Role::Row || plan.baseline().is_open())
    throw Error(origin + ": the first configuration, " + plan.baseline().name +
                ", is not a baseline: a baseline has the role 'row' and no target");
  std::set<std::string> closed;  // names of those with a policy of their own
  for (const Configuration& c : plan.configurations)
    if (!c.is_open()) closed.insert(c.name);
  for (const Configuration& c : plan.configurations) {
    if (!c.like.empty() && !closed.contains(c.like))
      throw Error(origin + ": configuration " + c.name + " is like " + quote(c.like) +
                  ", which is none with a policy of its own");
  }
  return plan;
}

std::string SweepPlan::fingerprint(const Configuration& configuration) const {
  Json json;
  json["schema"] = schema;
  json["inputs"] = inputs;
  json["configuration"] = olmoe::to_json(configuration);
  const std::string text = json.dump();
  return sha256(std::as_bytes(std::span(text)));
}

std::string difference(const SweepPlan& here, const SweepPlan& there) {
  return first_difference(here.to_json(), there.to_json(), "");
}

std::vector<const Configuration*> of_shard(const SweepPlan& plan, int shard, int shards) {
  const auto& all = plan.configurations;
  const auto first_of_layers = static_cast<std::size_t>(
      std::find_if(all.begin(), all.end(),
                   [](const Configuration& c) { return c.family == layers_family; }) -
      all.begin());
  std::vector<const Configuration*> chosen;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t turn = all[i].family == layers_family ? first_of_layers : i;
    if (turn % static_cast<std::size_t>(shards) == static_cast<std::size_t>(shard - 1))
      chosen.push_back(&all[i]);
  }
  return chosen;
}

void check_complete(const SweepPlan& plan, const std::string& where,
                    const std::function<bool(const std::string&)>& has) {
  constexpr std::size_t named = 5;
  std::string missing;
  std::size_t n_missing = 0;
  for (const Configuration& c : plan.configurations) {
    if (has(c.name)) continue;
    if (++n_missing <= named) missing += (missing.empty() ? "" : ", ") + c.name;
  }
  if (n_missing > 0)
    throw Error(where + ": " + std::to_string(n_missing) + " of " +
                std::to_string(plan.configurations.size()) +
                " configurations are missing: " + missing + (n_missing > named ? ", ..." : ""));
}

SweepPlan SweepDirectory::read_plan() const {
  return SweepPlan::from_json(read_sweep_file(plan_file()), plan_file().string());
}

void SweepDirectory::write_plan(const SweepPlan& plan) const {
  make_directories(path_ / "configs");
  make_directories(path_ / "timings");
  write_atomically(plan_file(), json_text(plan.to_json()));
}

Json SweepDirectory::read_result(const SweepPlan& plan, const Configuration& configuration) const {
  const auto path = config_file(configuration.name);
  const Json json = read_sweep_file(path);
  const Field root(json, path.string());
  if (root["fingerprint"].text() != plan.fingerprint(configuration))
    throw Error(path.string() + ": was measured under another plan than " + plan_file().string());
  check_result(root["result"], plan, configuration);
  return root["result"].json();
}

Json SweepDirectory::read_timing(const std::string& name) const {
  const auto path = timing_file(name);
  Json json = read_sweep_file(path);
  check_timing(Field(json, path.string()));
  return json;
}

void SweepDirectory::write_result(const SweepPlan& plan, const Configuration& configuration,
                                  const Json& result) const {
  Json json;
  json["schema"] = SweepPlan::schema;
  json["fingerprint"] = plan.fingerprint(configuration);
  json["configuration"] = olmoe::to_json(configuration);
  json["result"] = result;
  write_atomically(config_file(configuration.name), json_text(json));
}

void SweepDirectory::check_continues(const SweepPlan& plan, bool resume) const {
  if (!has_plan()) return;
  const std::string where = path_.string();
  if (!resume)
    throw Error(where + ": holds a sweep; continue it with --resume, or give another --out");
  const std::string change = difference(plan, read_plan());
  if (!change.empty())
    throw Error(where + ": holds another sweep: here, " + change + "; give another --out");
  check_no_strangers(plan);
  for (const Configuration& c : plan.configurations) {
    if (has_result(c.name)) read_result(plan, c);
  }
}

void SweepDirectory::check_no_strangers(const SweepPlan& plan) const {
  std::set<std::string> names;
  for (const Configuration& c : plan.configurations) names.insert(c.name + ".json");
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_ / "configs", error)) {
    const std::string name = entry.path().filename().string();
    // A killed sweep may leave a temporary file of its own.
    if (name.find(".json.tmp") != std::string::npos) continue;
    if (!names.contains(name))
      throw Error(entry.path().string() + ": is not a configuration of this sweep");
  }
  if (error) throw Error((path_ / "configs").string() + ": cannot read: " + error.message());
}

}  // namespace olmoe
