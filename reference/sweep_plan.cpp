#include "sweep_plan.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <span>

#include "atomic_file.hpp"
#include "error.hpp"
#include "json.hpp"
#include "sha256.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

Configuration configuration_from(const Json& json) {
  Configuration result;
  result.name = json.at("name").get<std::string>();
  result.family = json.at("family").get<std::string>();
  result.policy = json.at("policy").get<std::string>();
  result.nulls = json.at("nulls").get<std::string>();
  if (!json.at("target_experts").is_null()) result.target = json.at("target_experts").get<double>();
  result.per_layer = json.at("per_layer").get<bool>();
  result.role = json.at("role").get<std::string>() == "row" ? Configuration::Role::Row
                                                            : Configuration::Role::Curve;
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

Json read_ordered_json(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path.string() + ": cannot read this file");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) throw Error(path.string() + ": bad JSON");
  return json;
}

Json to_json(const Configuration& configuration) {
  Json json;
  json["name"] = configuration.name;
  json["family"] = configuration.family;
  json["policy"] = configuration.policy;
  json["nulls"] = configuration.nulls;
  json["target_experts"] = configuration.target ? Json(*configuration.target) : Json(nullptr);
  json["per_layer"] = configuration.per_layer;
  json["role"] = configuration.role == Configuration::Role::Row ? "row" : "curve";
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
  try {
    if (json.at("schema") != schema)
      throw Error(origin + ": schema is " + show(json.at("schema")) + ", not '" + schema + "'");
    SweepPlan plan{json.at("stem").get<std::string>(), json.at("inputs"), {}};
    for (const Json& c : json.at("configurations"))
      plan.configurations.push_back(configuration_from(c));
    if (plan.configurations.empty()) throw Error(origin + ": holds no configuration");
    return plan;
  } catch (const Json::exception&) {
    throw Error(origin + ": is not the plan of a sweep");
  }
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
  return SweepPlan::from_json(read_ordered_json(plan_file()), plan_file().string());
}

void SweepDirectory::write_plan(const SweepPlan& plan) const {
  make_directories(path_ / "configs");
  make_directories(path_ / "timings");
  write_atomically(plan_file(), json_text(plan.to_json()));
}

Json SweepDirectory::read_result(const SweepPlan& plan, const Configuration& configuration) const {
  const auto path = config_file(configuration.name);
  Json json = read_ordered_json(path);
  if (!json.is_object() || !json.contains("fingerprint") || !json.contains("result"))
    throw Error(path.string() + ": is not a sweep's result");
  if (json["fingerprint"] != plan.fingerprint(configuration))
    throw Error(path.string() + ": was measured under another plan than " + plan_file().string());
  return json["result"];
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

void SweepDirectory::check_no_strangers(const SweepPlan& plan) const {
  std::set<std::string> names;
  for (const Configuration& c : plan.configurations) names.insert(c.name + ".json");
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_ / "configs", error)) {
    const std::string name = entry.path().filename().string();
    // A killed sweep may leave a temporary file of its own.
    if (name.find(".json.tmp") != std::string::npos) continue;
    if (!names.contains(name))
      throw Error(entry.path().string() + ": is no configuration of this sweep");
  }
  if (error) throw Error((path_ / "configs").string() + ": cannot read: " + error.message());
}

}  // namespace olmoe
