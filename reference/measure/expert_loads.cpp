#include "measure/expert_loads.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/residency.hpp>

#include "measure/at.hpp"

namespace olmoe {
namespace {

std::span<const std::int32_t> experts_of(const ExecutedRouting& routing, std::size_t token) {
  return std::span(routing.experts)
      .subspan(token * at(routing.capacity), at(routing.counts[token]));
}

}  // namespace

void LoadSums::add(const Grouping& grouping, std::span<const ExecutedRouting* const> routings) {
  const auto load = [&](const fdroute::ExpertSet& before, std::int32_t expert) {
    if (!before.contains(expert)) ++loads[at(expert)];
  };
  std::vector<Stretch> stretches;
  for (const ExecutedRouting* routing : routings) {
    const auto n = static_cast<std::int64_t>(routing->tokens());
    stretches.push_back({stretches.size(), 0, n});
    tokens += n;
  }
  if (grouping.kind == Grouping::Kind::cache) {
    const int experts = static_cast<int>(loads.size());
    for (const ExecutedRouting* routing : routings) {
      fdroute::ExpertCache cache(experts, std::min(grouping.size, experts));
      for (std::size_t t = 0; t < routing->tokens(); ++t) {
        const auto used = experts_of(*routing, t);
        for (const std::int32_t expert : used) load(cache.resident(), expert);
        cache.touch(used);
      }
    }
    groups = tokens;
    return;
  }
  const std::vector<std::size_t> group = groups_of(grouping, stretches);
  if (group.empty()) return;
  std::vector<fdroute::ExpertSet> loaded(*std::max_element(group.begin(), group.end()) + 1);
  std::size_t row = 0;
  for (const ExecutedRouting* routing : routings) {
    for (std::size_t t = 0; t < routing->tokens(); ++t, ++row) {
      for (const std::int32_t expert : experts_of(*routing, t)) {
        load(loaded[group[row]], expert);
        loaded[group[row]].insert(expert);
      }
    }
  }
  groups += std::ssize(loaded);
}

void LoadSums::add(const LoadSums& other) {
  for (std::size_t e = 0; e < loads.size(); ++e) loads[e] += other.loads[e];
  groups += other.groups;
  tokens += other.tokens;
}

ExpertLoads expert_loads(const Model& model, const Grouping& grouping,
                         std::span<const LoadSums> layers) {
  ExpertLoads result;
  result.grouping = grouping;
  result.groups = layers.front().groups;
  const auto groups = static_cast<double>(result.groups);
  const auto tokens = static_cast<double>(layers.front().tokens);
  result.tokens_per_group = tokens / groups;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    double loaded = 0.0;
    for (std::size_t e = 0; e < layers[l].loads.size(); ++e) {
      const ExpertWeights& expert = model.layers()[l].moe.experts[e];
      const auto times = static_cast<double>(layers[l].loads[e]);
      loaded += times;
      result.bytes_per_token +=
          times *
          static_cast<double>(expert.gate.bytes() + expert.up.bytes() + expert.down.bytes()) /
          tokens;
    }
    result.layers.push_back(loaded / groups);
    result.mean += loaded / groups / static_cast<double>(layers.size());
  }
  return result;
}

}  // namespace olmoe
