#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// The places of all values in a document, as JSON pointers; of an array only the first element's
/// and the last one's.
inline std::vector<std::string> places_of(
    const nlohmann::ordered_json& json,
    const nlohmann::ordered_json::json_pointer& at = nlohmann::ordered_json::json_pointer()) {
  std::vector<std::string> places{at.to_string()};
  const auto add = [&](const auto& value, const auto& key) {
    for (std::string& place : places_of(value, at / key)) places.push_back(std::move(place));
  };
  if (json.is_object())
    for (const auto& [key, value] : json.items()) add(value, key);
  if (json.is_array() && !json.empty()) {
    add(json.front(), std::size_t{0});
    if (json.size() > 1) add(json.back(), json.size() - 1);
  }
  return places;
}
