#include "routing/model_config.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fdroute/compile_once.hpp>
#include <fdroute/detail/number/to_text.hpp>
#include <fdroute/model_table.hpp>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "formats/error.hpp"
#include "formats/json.hpp"

namespace olmoe {
namespace {

namespace presets = fdroute::presets;
using nlohmann::json;

/// The keys of a config.json as presets::read_spec() asks for them. What it asks for is written to
/// settings().
class ConfigSource {
 public:
  ConfigSource(const json& object, int layer, const std::string& origin)
      : object_(object), layer_(layer), origin_(origin) {}

  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    const Number value = number_of(key, find(key), otherwise);
    write(key, fdroute::detail::to_text(value));
    return value;
  }

  bool flag(std::string_view key, bool otherwise) {
    const json* const value = find(key);
    if (value != nullptr && !value->is_boolean()) fail_type(key, "true or false", *value);
    const bool on = value == nullptr ? otherwise : value->get<bool>();
    write(key, on ? "true" : "false");
    return on;
  }

  std::string_view choice(std::string_view key, std::initializer_list<std::string_view> accepted,
                          std::string_view otherwise) {
    const json* const value = find(key);
    std::string_view word = value == nullptr ? otherwise : "";
    for (const std::string_view one : accepted)
      if (value != nullptr && *value == one) word = one;
    if (word.empty()) {
      std::string list;
      for (const std::string_view one : accepted)
        list.append(list.empty() ? "" : " or ").append(quote(one));
      fail_type(key, list, *value);
    }
    write(key, word);
    return word;
  }

  [[noreturn]] void lacks(std::string_view key) const { fail(key, "is missing"); }

  // Tensors are not in a config.json.
  std::vector<float> bias() {
    has_bias_ = true;
    return {};
  }
  std::vector<float> expert_scale() const { return {}; }

  bool has_bias() const { return has_bias_; }

  /// A number of experts, by its key or another name for it.
  int count(const presets::Setting& setting) const {
    if (setting.key.empty()) return 0;
    const json* value = find(setting.key);
    if (value == nullptr && !setting.alias.empty()) value = find(setting.alias);
    const bool has_default = setting.value == setting.value;
    if (value == nullptr && !has_default) lacks(setting.key);
    return number_of(setting.key, value, has_default ? static_cast<int>(setting.value) : 0);
  }

  const std::string& settings() const { return settings_; }

 private:
  [[noreturn]] void fail(std::string_view key, const std::string& fact) const {
    throw Error(origin_ + ": field " + quote(key) + " " + fact);
  }

  [[noreturn]] void fail_type(std::string_view key, const std::string& wanted,
                              const json& value) const {
    fail(key, "must be " + wanted + ", got " + show(value));
  }

  // The layer's element, if there is a list.
  const json* find(std::string_view key) const {
    const auto found = object_.find(std::string(key));
    if (found == object_.end()) return nullptr;
    if (!found->is_array()) return &*found;
    if (layer_ < 0 || static_cast<std::size_t>(layer_) >= found->size()) {
      fail(key, "lists " + std::to_string(found->size()) + " values, none for layer " +
                    std::to_string(layer_));
    }
    return &(*found)[static_cast<std::size_t>(layer_)];
  }

  template <class Number>
  Number number_of(std::string_view key, const json* value, Number otherwise) const {
    if (value == nullptr) return otherwise;
    if (value->is_null()) return Number{};  // in transformers, too: none
    if constexpr (std::is_integral_v<Number>) {
      constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<Number>::max());
      if (!value->is_number_unsigned() || value->get<std::uint64_t>() > most)
        fail_type(key, "an integer that is not negative", *value);
    } else if (!value->is_number()) {
      fail_type(key, "a number", *value);
    }
    return value->get<Number>();
  }

  void write(std::string_view key, std::string_view value) {
    settings_.append(",").append(key).append("=").append(value);
  }

  const json& object_;
  int layer_;
  std::string origin_;
  std::string settings_;
  bool has_bias_ = false;
};

const json& object_at(const json& outer, const std::string& key, const std::string& origin) {
  const auto found = outer.find(key);
  if (found == outer.end() || !found->is_object())
    throw Error(origin + ": field " + quote(key) + " must be an object");
  return *found;
}

/// The object that has the router's keys. A config of a model's text part has them itself.
const json& router_object(const json& config, const presets::ModelRouter& model,
                          std::string_view type, const std::string& origin) {
  const json* object = &config;
  std::string_view path = type.ends_with("_text") ? "" : model.within;
  while (!path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    object = &object_at(*object, std::string(path.substr(0, dot)), origin);
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return *object;
}

/// DeepSeek-V4's layers that take experts from a table: those that mlp_layer_types says, or the
/// first three.
bool has_token_table(const json& config, const presets::ModelRouter& model, int layer) {
  constexpr int by_default = 3;
  if (model.model_type != "deepseek_v4") return false;
  const auto types = config.find("mlp_layer_types");
  if (types == config.end() || !types->is_array()) return layer < by_default;
  return static_cast<std::size_t>(layer) < types->size() &&
         (*types)[static_cast<std::size_t>(layer)] == "hash_moe";
}

}  // namespace

ConfiguredRouter configured_router(const json& config, int layer, const std::string& origin) {
  if (!config.is_object()) throw Error(origin + " must be a JSON object");
  const auto type = config.find("model_type");
  if (type == config.end() || !type->is_string())
    throw Error(origin + ": field 'model_type' must be a string");
  const std::string name = type->get<std::string>();
  const presets::ModelRouter* const model = presets::find_model(name);
  if (model == nullptr)
    throw Error(origin + ": field 'model_type': no router is known of " + quote(name));
  const json& object = router_object(config, *model, name, origin);
  if (has_token_table(object, *model, layer)) {
    throw Error(origin + ": layer " + std::to_string(layer) +
                " takes its experts from a table of tokens (field 'mlp_layer_types')");
  }
  ConfigSource source(object, layer, origin);
  const int zero_experts = source.count(model->zero_experts);
  const int experts = source.count(model->experts) + zero_experts;
  try {
    presets::read_spec(*model, experts, source);
  } catch (const std::invalid_argument& error) {
    throw Error(origin + ": " + error.what());
  }
  return {.policy = "preset:" + std::string(model->model_type) + source.settings(),
          .experts = experts,
          .zero_experts = zero_experts,
          .bias = source.has_bias() ? std::string(model->bias) : "",
          .expert_scale = std::string(model->expert_scale)};
}

fdroute::AnyRouter router_from_config(const std::filesystem::path& config, int layer,
                                      std::span<const float> bias,
                                      std::span<const float> expert_scale) {
  const ConfiguredRouter router = configured_router(read_json(config), layer, config.string());
  try {
    return fdroute::parse_router(router.policy, router.experts,
                                 fdroute::ParseOptions<fdroute::DefaultArch>{
                                     .selection_bias = bias, .expert_scale = expert_scale});
  } catch (const std::invalid_argument& error) {
    throw Error(config.string() + ": " + error.what());
  }
}

}  // namespace olmoe
