#include "forward/completed_routing.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/selection/topk.hpp>
#include <list>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using olmoe::CompletedRouting;
using olmoe::Stretch;
using Experts = std::vector<int>;

constexpr int n_experts = 12;
constexpr int n_layers = 2;
constexpr int base_k = 2;

std::vector<fdroute::AnyRouter> two_of_twelve() {
  std::vector<fdroute::AnyRouter> routers;
  for (int l = 0; l < n_layers; ++l)
    routers.emplace_back(
        fdroute::Router(n_experts, fdroute::TopK{base_k}, fdroute::SoftmaxWeights{}), "topk:k=2");
  return routers;
}

/// (tokens, experts)
std::vector<float> some_logits(std::size_t tokens, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(tokens * n_experts);
  for (float& x : logits) x = static_cast<float>(random() >> 8) * 0x1p-22F - 2.0F;
  return logits;
}

/// A token's experts, best first.
Experts ranked(const float* row) {
  Experts order(n_experts);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
  return order;
}

/// As defined: the token's two best, and of those of its `window` best that are resident the best
/// ones, until it has `max_k`.
Experts completed(const float* row, const std::set<int>& resident, int window, int max_k) {
  const Experts order = ranked(row);
  Experts result(order.begin(), order.begin() + base_k);
  for (int place = base_k; place < window; ++place) {
    const int expert = order[static_cast<std::size_t>(place)];
    if (resident.count(expert) != 0 && static_cast<int>(result.size()) < max_k)
      result.push_back(expert);
  }
  return result;
}

/// What a source gave, a row's experts each; their weights are checked to be the softmax over all
/// experts.
std::vector<Experts> routed(CompletedRouting& source, int layer,
                            const std::vector<Stretch>& stretches,
                            const std::vector<float>& logits) {
  const auto tokens = static_cast<std::ptrdiff_t>(logits.size()) / n_experts;
  const int capacity = source.capacity(layer);
  std::vector<std::int32_t> experts(static_cast<std::size_t>(tokens * capacity));
  std::vector<float> weights(experts.size());
  std::vector<std::int32_t> counts(static_cast<std::size_t>(tokens));
  source.route(layer, stretches, fdroute::LogitsView<float>(logits.data(), tokens, n_experts),
               {experts.data(), weights.data(), counts.data(), capacity});
  std::vector<Experts> result;
  for (std::ptrdiff_t t = 0; t < tokens; ++t) {
    const auto begin = experts.begin() + t * capacity;
    result.emplace_back(begin, begin + counts[static_cast<std::size_t>(t)]);
    const float* row = logits.data() + t * n_experts;
    double sum = 0.0;
    for (int e = 0; e < n_experts; ++e) sum += std::exp(static_cast<double>(row[e]));
    for (std::ptrdiff_t i = 0; i < capacity; ++i) {
      const auto place = static_cast<std::size_t>(t * capacity + i);
      const bool real = i < counts[static_cast<std::size_t>(t)];
      const double expected = real ? std::exp(static_cast<double>(row[experts[place]])) / sum : 0.0;
      CHECK(static_cast<double>(weights[place]) == doctest::Approx(expected).epsilon(1e-6));
      if (!real) CHECK(experts[place] == -1);
    }
  }
  return result;
}

}  // namespace

TEST_CASE("a batch's tokens are completed by the union of what those at their place selected") {
  const auto routers = two_of_twelve();
  for (const auto& [window, max_k] : {std::pair(8, 8), {5, 4}, {12, 3}, {2, 8}, {12, 1}}) {
    CAPTURE(window);
    CompletedRouting source(routers, olmoe::parse_grouping("batch:3"), {window, max_k});
    CHECK(source.capacity(0) == std::max(base_k, std::min(max_k, n_experts)));
    CHECK(source.layers() == n_layers);
    const std::vector<Stretch> stretches{{0, 0, 4}, {1, 7, 2}, {2, 3, 4}};
    const std::vector<float> logits = some_logits(10, 1);
    const std::vector<std::vector<std::size_t>> groups{{0, 4, 6}, {1, 5, 7}, {2, 8}, {3, 9}};
    const auto actual = routed(source, 1, stretches, logits);
    for (const auto& group : groups) {
      std::set<int> resident;
      for (const std::size_t row : group) {
        const Experts order = ranked(&logits[row * n_experts]);
        resident.insert(order.begin(), order.begin() + base_k);
      }
      for (const std::size_t row : group)
        CHECK(actual[row] == completed(&logits[row * n_experts], resident, window, max_k));
    }
  }
}

TEST_CASE("consecutive tokens are completed by what their group selected, each sequence alone") {
  const auto routers = two_of_twelve();
  CompletedRouting source(routers, olmoe::parse_grouping("consecutive:3"), {8, 8});
  // Positions 2, 3, 4, 5, 6 and 0, 1: groups {2}, {3, 4, 5}, {6} and {0, 1}.
  const std::vector<Stretch> stretches{{0, 2, 5}, {1, 0, 2}};
  const std::vector<float> logits = some_logits(7, 2);
  const std::vector<std::vector<std::size_t>> groups{{0}, {1, 2, 3}, {4}, {5, 6}};
  const auto actual = routed(source, 0, stretches, logits);
  std::size_t most = 0;
  for (const auto& group : groups) {
    std::set<int> resident;
    for (const std::size_t row : group) {
      const Experts order = ranked(&logits[row * n_experts]);
      resident.insert(order.begin(), order.begin() + base_k);
    }
    for (const std::size_t row : group) {
      CHECK(actual[row] == completed(&logits[row * n_experts], resident, 8, 8));
      most = std::max(most, actual[row].size());
    }
  }
  CHECK(actual[0].size() == base_k);  // alone in its group: nothing is free
  CHECK(most > base_k);
}

TEST_CASE("a cache of the experts used last completes a token, and follows its sequence") {
  const auto routers = two_of_twelve();
  constexpr std::size_t size = 4;
  CompletedRouting source(routers, olmoe::parse_grouping("cache:4"), {8, 8});
  const std::vector<float> logits = some_logits(24, 3);
  // Two sequences in two calls, 6 tokens of each in a call; then the first begins anew.
  std::vector<std::list<int>> caches(2);  // the expert used last in front
  std::size_t row = 0;
  int added = 0;
  for (const std::vector<Stretch>& stretches :
       {std::vector<Stretch>{{0, 0, 6}, {1, 0, 6}}, {{0, 6, 6}, {1, 6, 2}}, {{0, 0, 4}}}) {
    const auto rows = static_cast<std::size_t>(olmoe::tokens_of(stretches));
    const std::vector<float> part(
        logits.begin() + static_cast<std::ptrdiff_t>(row * n_experts),
        logits.begin() + static_cast<std::ptrdiff_t>((row + rows) * n_experts));
    const auto actual = routed(source, 0, stretches, part);
    // Another layer has caches of its own.
    routed(source, 1, stretches, some_logits(rows, 99));
    std::size_t at = 0;
    for (const Stretch& stretch : stretches) {
      std::list<int>& cache = caches[stretch.sequence];
      if (stretch.start == 0) cache.clear();
      for (std::int64_t t = 0; t < stretch.tokens; ++t, ++at) {
        const Experts expected =
            completed(&part[at * n_experts], {cache.begin(), cache.end()}, 8, 8);
        CHECK(actual[at] == expected);
        added += static_cast<int>(expected.size()) - base_k;
        for (auto e = expected.rbegin(); e != expected.rend(); ++e) {
          cache.remove(*e);
          cache.push_front(*e);
        }
        while (cache.size() > size) cache.pop_back();
      }
    }
    row += rows;
  }
  CHECK(row == 24);
  CHECK(added > 10);
}

TEST_CASE("random residents are as many as completion adds, and any of the mask") {
  const auto routers = two_of_twelve();
  const auto grouping = olmoe::parse_grouping("batch:8");
  CompletedRouting best(routers, grouping, {5, 5});
  std::vector<Stretch> stretches;
  for (std::size_t s = 0; s < 8; ++s) stretches.push_back({s, 0, 1});
  std::set<std::vector<Experts>> seen;
  bool beyond_window = false;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CompletedRouting drawn(routers, grouping, {5, 5}, seed);
    CompletedRouting again(routers, grouping, {5, 5}, seed);
    const std::vector<float> logits = some_logits(8, 4);
    const auto expected = routed(best, 0, stretches, logits);
    const auto actual = routed(drawn, 0, stretches, logits);
    CHECK(routed(again, 0, stretches, logits) == actual);
    std::set<int> resident;
    for (std::size_t row = 0; row < 8; ++row) {
      const Experts order = ranked(&logits[row * n_experts]);
      resident.insert(order.begin(), order.begin() + base_k);
    }
    for (std::size_t row = 0; row < 8; ++row) {
      CHECK(actual[row].size() == expected[row].size());
      const Experts order = ranked(&logits[row * n_experts]);
      std::set<int> own(order.begin(), order.begin() + base_k);
      const std::set<int> within(order.begin(), order.begin() + 5);
      for (const int expert : actual[row]) {
        CHECK(resident.count(expert) == 1);
        own.erase(expert);
        beyond_window |= within.count(expert) == 0;
      }
      CHECK(own.empty());
    }
    seen.insert(actual);
  }
  CHECK(beyond_window);
  CHECK(seen.size() > 5);
}

TEST_CASE("a completion out of range is refused") {
  const auto routers = two_of_twelve();
  CHECK_THROWS_AS(CompletedRouting(routers, olmoe::parse_grouping("batch:2"), {0, 8}),
                  std::invalid_argument);
  CHECK_THROWS_AS(CompletedRouting(routers, olmoe::parse_grouping("batch:2"), {8, 0}),
                  std::invalid_argument);
}
