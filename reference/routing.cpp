#include "routing.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fdroute/parse.hpp>
#include <numeric>
#include <stdexcept>
#include <string_view>

#include "canonical_policy.hpp"
#include "error.hpp"
#include "nulls.hpp"

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

/// "name:" or the like before a policy's first value, and its items "key=value".
struct Items {
  std::string_view head;
  std::vector<std::string_view> items;
};

Items items_of(std::string_view policy) {
  const std::size_t colon = policy.find(':');
  if (colon == std::string_view::npos) return {policy, {}};
  return {policy.substr(0, colon + 1), split(policy.substr(colon + 1), ',')};
}

/// One policy string per layer: each list a/b/c replaced by the layer's element.
std::vector<std::string> by_layer(const std::string& policy, std::size_t layers) {
  const auto [head, items] = items_of(policy);
  std::vector<std::string> policies(layers, std::string(head));
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::size_t equals = std::min(items[i].find('='), items[i].size() - 1);
    const std::string key(items[i].substr(0, equals + 1));
    const auto values = split(items[i].substr(equals + 1), '/');
    if (values.size() != 1 && values.size() != layers)
      throw std::invalid_argument("policy " + quote(policy) + ": " + quote(key.substr(0, equals)) +
                                  " lists " + std::to_string(values.size()) + " values for " +
                                  std::to_string(layers) + " layers");
    for (std::size_t l = 0; l < layers; ++l)
      policies[l].append(i == 0 ? "" : ",").append(key).append(values[values.size() == 1 ? 0 : l]);
  }
  return policies;
}

}  // namespace

std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             std::span<const fdroute::TabulatedNull> nulls) {
  const fdroute::SoftmaxWeights weights{.renormalize = config.norm_topk_prob};
  const std::string text =
      policy == native_policy ? "topk:k=" + std::to_string(config.num_experts_per_tok) : policy;
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  if (!nulls.empty() && nulls.size() != layers)
    throw std::invalid_argument(std::to_string(nulls.size()) + " null distributions given for " +
                                std::to_string(layers) + " layers");

  std::vector<fdroute::AnyRouter> routers;
  for (const std::string& of_layer : by_layer(text, layers))
    routers.push_back(nulls.empty() ? fdroute::parse_router(of_layer, config.num_experts, weights)
                                    : fdroute::parse_router(of_layer, config.num_experts,
                                                            nulls[routers.size()], weights));
  return routers;
}

std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             const std::filesystem::path& nulls) {
  if (nulls.empty()) return make_routers(config, policy, std::span<const fdroute::TabulatedNull>());
  const auto tables = load_nulls(nulls, config.num_hidden_layers);
  try {
    return make_routers(config, policy, std::span(tables));
  } catch (const fdroute::NullMismatch& error) {
    throw Error(nulls.string() + ": " + error.what());
  }
}

std::string policy_of(std::span<const fdroute::AnyRouter> routers) {
  const auto [head, items] = items_of(routers.front().policy());
  std::string text(head);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::size_t value = items[i].find('=') + 1;
    std::string values;
    bool differ = false;
    for (const fdroute::AnyRouter& router : routers) {
      // The canonical form names every setting, so item i has the same key in every layer.
      const std::string_view item = items_of(router.policy()).items[i];
      values.append(values.empty() ? "" : "/").append(item.substr(value));
      differ = differ || item != items[i];
    }
    text.append(i == 0 ? "" : ",");
    if (differ) {
      text.append(items[i].substr(0, value)).append(values);
    } else {
      text.append(items[i]);
    }
  }
  return text;
}

int min_count(const fdroute::AnyRouter& router) {
  return std::stoi(CanonicalPolicy(router.policy()).arguments.at("min_k"));
}

void ExpertCounter::add(const std::vector<std::int32_t>& counts) {
  experts_ = std::accumulate(counts.begin(), counts.end(), experts_);
  rows_ += static_cast<std::int64_t>(counts.size());
}

}  // namespace olmoe
