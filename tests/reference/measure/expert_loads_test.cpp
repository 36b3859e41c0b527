#include "measure/expert_loads.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "reference/random_texts.hpp"

namespace {

using Experts = std::vector<std::vector<std::int32_t>>;

/// A routing with these experts of each token.
olmoe::ExecutedRouting executed(const Experts& tokens) {
  olmoe::ExecutedRouting routing;
  routing.capacity = 3;
  for (const auto& token : tokens) {
    routing.counts.push_back(static_cast<std::int32_t>(token.size()));
    for (std::size_t i = 0; i < 3; ++i) routing.experts.push_back(i < token.size() ? token[i] : -1);
  }
  return routing;
}

olmoe::LoadSums loads_of(const std::string& group, const std::vector<Experts>& sequences,
                         int experts) {
  std::vector<olmoe::ExecutedRouting> routings;
  for (const Experts& tokens : sequences) routings.push_back(executed(tokens));
  std::vector<const olmoe::ExecutedRouting*> pointers;
  for (const olmoe::ExecutedRouting& routing : routings) pointers.push_back(&routing);
  olmoe::LoadSums sums(experts);
  sums.add(olmoe::parse_grouping(group), pointers);
  return sums;
}

using Loads = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("a group loads each expert once, however many of its tokens selected it") {
  const std::vector<Experts> sequences{{{0, 1}, {2}, {0, 3}}, {{1, 4}, {2, 3}}};
  // Places 0: {0, 1, 4}; 1: {2, 3}; 2: {0, 3}.
  const auto batch = loads_of("batch:2", sequences, 6);
  CHECK(batch.loads == Loads{2, 1, 1, 2, 1, 0});
  CHECK(batch.groups == 3);
  CHECK(batch.tokens == 5);
  // {0, 1, 2} and {0, 3}; {1, 2, 3, 4}.
  const auto pairs = loads_of("consecutive:2", sequences, 6);
  CHECK(pairs.loads == Loads{2, 2, 2, 2, 1, 0});
  CHECK(pairs.groups == 3);
  const auto alone = loads_of("consecutive:1", sequences, 6);
  CHECK(alone.loads == Loads{2, 2, 2, 2, 1, 0});
  CHECK(alone.groups == 5);
}

TEST_CASE("the loads of a cache, counted by hand") {
  // Room for 3; most recent first. {0,1} loads both: 0 1. {1,2} loads 2: 1 2 0. {3} loads it, 0
  // leaves: 3 1 2. {2,0} loads 0, 1 leaves: 2 0 3. {1} loads it, 3 leaves: 1 2 0. {0,2}: nothing.
  const Experts tokens{{0, 1}, {1, 2}, {3}, {2, 0}, {1}, {0, 2}};
  const auto one = loads_of("cache:3", {tokens}, 6);
  CHECK(one.loads == Loads{2, 2, 1, 1, 0, 0});
  CHECK(one.groups == 6);
  CHECK(one.tokens == 6);
  // A second sequence begins with an empty cache.
  const auto two = loads_of("cache:3", {tokens, {{2}, {2}}}, 6);
  CHECK(two.loads == Loads{2, 2, 2, 1, 0, 0});
  CHECK(two.groups == 8);
  // With room for all, each is loaded once; a cache may be larger than that.
  CHECK(loads_of("cache:99", {tokens}, 6).loads == Loads{1, 1, 1, 1, 0, 0});
  // A token of more experts than there is room for: its best stay.
  CHECK(loads_of("cache:2", {{{0, 1, 2}, {0, 1}, {2}}}, 6).loads == Loads{1, 1, 2, 0, 0, 0});
}

TEST_CASE("means are over layers and groups, bytes over tokens") {
  const olmoe::Model model(tiny + "plain");
  const olmoe::Config& config = model.config();
  REQUIRE(config.num_hidden_layers == 2);
  std::vector<olmoe::LoadSums> layers{
      loads_of("batch:2", {{{0, 1}, {2}}, {{1}, {2, 0}}}, config.num_experts),
      loads_of("batch:2", {{{0}, {1}}, {{0}, {1}}}, config.num_experts)};
  const auto group = olmoe::parse_grouping("batch:2");
  const olmoe::ExpertLoads loads = olmoe::expert_loads(model, group, layers);
  CHECK(loads.grouping == group);
  CHECK(loads.groups == 2);
  CHECK(loads.tokens_per_group == 2.0);
  CHECK(loads.layers == std::vector<double>{2.0, 1.0});
  CHECK(loads.mean == 1.5);
  const auto matrix = static_cast<double>(model.layers()[0].moe.experts[0].gate.bytes());
  CHECK(loads.bytes_per_token == 3.0 * matrix * (4.0 + 2.0) / 4.0);

  const olmoe::LoadSums more = layers[1];
  layers[0].add(more);
  CHECK(layers[0].groups == 4);
  CHECK(layers[0].tokens == 8);
  CHECK(layers[0].loads[0] == 3);
}
