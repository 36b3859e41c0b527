#pragma once

#include <limits>
#include <string_view>

#include "fdroute/errors.hpp"
#include "fdroute/router_spec.hpp"

namespace fdroute::inline v0::presets {

/// A number that a model's router has: of config.json under `key`, `value` if it is missing there;
/// or `value` for all models of the type, if `key` is empty.
struct Setting {
  std::string_view key{};
  double value = 0.0;
  std::string_view alias{};  ///< another name that transformers takes for it
};

/// As a Setting's value: transformers has no default.
inline constexpr double no_default = std::numeric_limits<double>::quiet_NaN();

/// A key of config.json with a word for the shape: `first`, the default, leaves the model's shape,
/// `second` makes it another.
struct ShapeWord {
  std::string_view key{};
  std::string_view first{};
  std::string_view second{};
  Shape shape_of_second{};
};

/// The router of a model type, as the module of transformers 5.12 computes it.
struct ModelRouter {
  std::string_view model_type;
  Shape shape;
  Setting experts;
  Setting top_k;
  std::string_view within{};  ///< where config.json has the keys, as "text_config"
  Setting normalize{"", 1};   ///< RouterSpec::normalize and so on, to `jitter`
  Setting epsilon{};
  Setting floor{};
  Setting power{"", 1};
  Setting scale{"", 1};
  Setting groups{"", 1};
  Setting kept_groups{"", 1};
  Setting softcap{};
  Setting jitter{};
  Setting zero_experts{};           ///< experts more, whose output is their input
  std::string_view bias{};          ///< the tensor of RouterSpec::bias, if the router has one
  std::string_view bias_flag{};     ///< the key that says whether it has; true if it is missing
  std::string_view expert_scale{};  ///< the tensor of RouterSpec::expert_scale
  ShapeWord word{};
};

/// Reads a model's RouterSpec, over `experts` experts in all, from the settings of a config.
/// `source` has
///
///     number(key, otherwise)            a number of the type of `otherwise`, int, float or double
///     flag(key, otherwise)              a bool
///     choice(key, accepted, otherwise)  one of the words
///     lacks(what)                       throws: the model needs `what`
///     bias(), expert_scale()            shape (experts), or empty for none
///
/// and is asked for the keys that the model's router reads. `reads_top_k` is false where a rule
/// takes its place: top_k is then 1.
template <class Source>
[[gnu::cold]] RouterSpec read_spec(const ModelRouter& model, int experts, Source& source,
                                   bool reads_top_k = true) {
  const auto number = [&]<class Number>(const Setting& setting, Number) {
    if (setting.key.empty()) return static_cast<Number>(setting.value);
    const bool has_default = setting.value == setting.value;
    const Number value =
        source.number(setting.key, static_cast<Number>(has_default ? setting.value : 0.0));
    if (!has_default && !(value > Number{})) source.lacks(setting.key);
    return value;
  };
  RouterSpec spec{.shape = model.shape, .experts = experts};
  if (reads_top_k) spec.top_k = number(model.top_k, 0);
  if (reads_top_k && model.shape == Shape::sparse_mixer && spec.top_k != 2) {
    fdroute::detail::refuse(model.top_k.key, " of a sparse mixer is 2, got ", spec.top_k);
  }
  const ShapeWord& word = model.word;
  const bool is_second = !word.key.empty() && source.choice(word.key, {word.first, word.second},
                                                            word.first) == word.second;
  if (is_second) spec.shape = word.shape_of_second;
  spec.normalize = model.normalize.key.empty()
                       ? model.normalize.value > 0.0
                       : source.flag(model.normalize.key, model.normalize.value > 0.0);
  spec.epsilon = number(model.epsilon, 0.0);
  spec.floor = number(model.floor, 0.0);
  spec.power = number(model.power, 0.0);
  spec.scale = number(model.scale, 0.0F);
  spec.groups = number(model.groups, 0);
  spec.kept_groups = number(model.kept_groups, 0);
  spec.softcap = number(model.softcap, 0.0F);
  spec.jitter = number(model.jitter, 0.0F);
  // Cohere 2 reads norm_topk_prob for sigmoids alone. DBRX has 0, or null, for no norm.
  if (word.shape_of_second == Shape::topk_sigmoid && !is_second) spec.normalize = true;
  if (spec.power <= 0.0) {
    spec.normalize = false;
    spec.power = 1.0;
  }
  const bool has_bias =
      !model.bias.empty() && (model.bias_flag.empty() || source.flag(model.bias_flag, true));
  if (has_bias) spec.bias = source.bias();
  if (!model.expert_scale.empty()) spec.expert_scale = source.expert_scale();
  return spec;
}

}  // namespace fdroute::inline v0::presets
