#include "routing/routing.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fdroute/compile_once.hpp>
#include <fdroute/detail/policy_string/closest.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "formats/error.hpp"
#include "routing/nulls.hpp"

namespace olmoe {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// The name of a policy and its items "key=value". A policy with a colon has an item, if an empty
/// one.
struct Items {
  std::string_view name;
  std::vector<std::string_view> items;
};

Items items_of(std::string_view policy) {
  const std::size_t colon = policy.find(':');
  if (colon == std::string_view::npos) return {policy, {}};
  return {policy.substr(0, colon), split(policy.substr(colon + 1), ',')};
}

/// "key=" and the value of an item, which may lack either.
std::pair<std::string_view, std::string_view> key_and_value(std::string_view item) {
  const std::size_t end = item.find('=');
  const std::size_t value = end == std::string_view::npos ? 0 : end + 1;
  return {item.substr(0, value), item.substr(value)};
}

/// In a list of values: the layer has no such setting.
constexpr std::string_view no_value = "-";

/// One policy string per layer: each list a/b/c replaced by the layer's element.
std::vector<std::string> by_layer(const std::string& policy, std::size_t layers) {
  const auto [name, items] = items_of(policy);
  std::vector<std::string> policies(layers, std::string(name));
  for (const std::string_view item : items) {
    const auto [key, list] = key_and_value(item);
    const auto values = key.empty() ? std::vector{list} : split(list, '/');
    if (values.size() != 1 && values.size() != layers)
      throw std::invalid_argument(
          "policy " + quote(policy) + ": " + quote(key.substr(0, key.size() - 1)) + " lists " +
          std::to_string(values.size()) + " values for " + std::to_string(layers) + " layers");
    for (std::size_t l = 0; l < layers; ++l) {
      const std::string_view value = values[values.size() == 1 ? 0 : l];
      if (values.size() > 1 && value == no_value) continue;
      policies[l].append(policies[l].size() == name.size() ? ":" : ",").append(key).append(value);
    }
  }
  return policies;
}

/// The command that fits nulls on a score, or on the default one.
std::string calibrate_command(const std::string& score) {
  return "olmoe calibrate" + (score.empty() ? "" : " --score " + score) +
         " --model DIR --text FILE --out nulls.safetensors";
}

/// The one score that a policy names for all layers, or nothing.
std::string score_in(const std::string& policy) {
  for (const std::string_view item : items_of(policy).items) {
    const auto [key, value] = key_and_value(item);
    if (key == "score=" && value.find('/') == std::string_view::npos) return std::string(value);
  }
  return {};
}

}  // namespace

std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             std::span<const fdroute::TabulatedNull> nulls,
                                             std::span<const std::vector<float>> selection_bias) {
  const fdroute::SoftmaxWeights weights{.renormalize = config.norm_topk_prob,
                                        .mass_k = config.num_experts_per_tok};
  const std::string text =
      policy == native_policy ? "topk:k=" + std::to_string(config.num_experts_per_tok) : policy;
  // The one name that the library does not know.
  static constexpr std::array<std::string_view, 1> names{native_policy};
  if (const std::string hint = fdroute::detail::did_you_mean(text, names); !hint.empty())
    throw std::invalid_argument("policy " + quote(text) + ": unknown" + hint);
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  if (!nulls.empty() && nulls.size() != layers)
    throw std::invalid_argument(std::to_string(nulls.size()) + " null distributions given for " +
                                std::to_string(layers) + " layers");

  std::vector<fdroute::AnyRouter> routers;
  for (const std::string& of_layer : by_layer(text, layers)) {
    fdroute::ParseOptions<> options{.weights = weights};
    if (!nulls.empty()) options.null = &nulls[routers.size()];
    if (!selection_bias.empty()) options.selection_bias = selection_bias[routers.size()];
    try {
      routers.push_back(fdroute::parse_router(of_layer, config.num_experts, options));
    } catch (const std::invalid_argument& error) {
      const std::string words = error.what();
      if (!words.ends_with("give a fitted one, or null=normal")) throw;
      throw std::invalid_argument(words + "; to fit one: " + calibrate_command(score_in(policy)));
    }
  }
  return routers;
}

std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             const std::filesystem::path& nulls) {
  if (nulls.empty()) return make_routers(config, policy, std::span<const fdroute::TabulatedNull>());
  const auto tables = load_nulls(nulls, config.num_hidden_layers);
  const auto biases = load_selection_bias(nulls, config.num_hidden_layers, config.num_experts);
  try {
    return make_routers(config, policy, std::span(tables), biases);
  } catch (const fdroute::NullMismatch& error) {
    throw Error(nulls.string() + ": " + error.what() +
                "; to fit nulls on that score: " + calibrate_command(score_in(policy)));
  }
}

std::string policy_of(std::span<const fdroute::AnyRouter> routers) {
  // The settings in the order in which layers name them, with a value for every layer: layers of
  // different nulls have different ones.
  std::vector<std::pair<std::string_view, std::vector<std::string_view>>> settings;
  for (std::size_t l = 0; l < routers.size(); ++l) {
    for (const std::string_view item : items_of(routers[l].policy()).items) {
      const auto [key, value] = key_and_value(item);
      auto setting = std::find_if(settings.begin(), settings.end(),
                                  [&, &k = key](const auto& known) { return known.first == k; });
      if (setting == settings.end())
        setting = settings.insert(setting, {key, std::vector(routers.size(), no_value)});
      setting->second[l] = value;
    }
  }
  std::string text(items_of(routers.front().policy()).name);
  char separator = ':';
  for (const auto& [key, values] : settings) {
    text.append(1, separator).append(key).append(values.front());
    separator = ',';
    const auto differs = [&, &v = values](std::string_view value) { return value != v.front(); };
    if (std::none_of(values.begin(), values.end(), differs)) continue;
    for (std::size_t l = 1; l < values.size(); ++l) text.append("/").append(values[l]);
  }
  return text;
}

}  // namespace olmoe
