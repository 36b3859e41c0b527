#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/model_router.hpp"
#include "fdroute/router_spec.hpp"
#include "fdroute/selection/topk.hpp"

namespace fdroute::inline v0::detail {

/// The settings of a policy string as presets::read_spec() asks for them; Settings is a
/// PolicySettings.
template <class Settings>
class ModelSettings {
 public:
  explicit ModelSettings(Settings& settings) : settings_(settings) {}

  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    return settings_.number(key, otherwise);
  }
  bool flag(std::string_view key, bool otherwise) { return settings_.flag(key, otherwise); }
  std::string_view choice(std::string_view key, std::initializer_list<std::string_view> accepted,
                          std::string_view otherwise) {
    return settings_.choice(key, std::vector<std::string_view>(accepted), otherwise);
  }
  [[noreturn]] void lacks(std::string_view key) const { settings_.lacks(std::string(key)); }
  std::vector<float> bias() { return settings_.selection_bias(); }
  std::vector<float> expert_scale() { return settings_.expert_scale(); }

 private:
  Settings& settings_;
};

/// The router of a model type from the settings of a string, under the keys of its config.json.
template <class Settings>
[[gnu::cold]] AnyRouter make_model_router(Settings& settings, const presets::ModelRouter& model) {
  ModelSettings source(settings);
  const presets::RouterSpec spec =
      presets::read_spec(model, settings.experts(), source, !settings.replaces_rule());
  return presets::visit_parts(spec, [&](const auto& weights, const auto& ranking) {
    return settings.route_as(TopK{spec.top_k}, weights, ranking);
  });
}

}  // namespace fdroute::inline v0::detail
