#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <set>
#include <span>
#include <vector>

#include "fdroute/residency.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

/// A random padded routing over `experts` experts.
struct Routing {
  Routing(std::ptrdiff_t n_tokens, int n_experts, int width, test::Random& random)
      : tokens(n_tokens), experts(n_experts), capacity(std::min(width, n_experts)) {
    std::vector<std::int32_t> all;
    for (int j = 0; j < experts; ++j) all.push_back(j);
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      random.shuffle(all);
      counts.push_back(random.below(capacity + 1));
      for (int i = 0; i < capacity; ++i) {
        ids.push_back(i < counts.back() ? all[index(i)] : -1);
        // Few values, so that sums tie.
        weights.push_back(static_cast<float>(random.below(4)) / 4.0F);
      }
    }
  }

  fd::RoutingView<> view() { return {ids.data(), weights.data(), counts.data(), capacity}; }

  std::vector<std::int32_t> row(std::ptrdiff_t t) const {
    const auto first = ids.begin() + t * capacity;
    return {first, first + counts[index(t)]};
  }

  std::ptrdiff_t tokens;
  int experts;
  int capacity;
  std::vector<std::int32_t> ids{};
  std::vector<float> weights{};
  std::vector<std::int32_t> counts{};
};

std::set<int> members(const fd::ExpertSet& set) {
  std::set<int> result;
  for (int j = 0; j < fd::max_experts; ++j)
    if (set.contains(j)) result.insert(j);
  CHECK(set.size() == static_cast<int>(result.size()));
  return result;
}

/// The definition of a budget: sort all that was selected by sum, then by id, and take from there.
std::set<int> bought(const Routing& routing, int budget, int keep) {
  std::set<int> kept;
  std::vector<double> sums(index(routing.experts), 0.0);
  std::set<int> selected;
  for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
    const std::vector<std::int32_t> row = routing.row(t);
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (static_cast<int>(i) < keep) kept.insert(row[i]);
      selected.insert(row[i]);
      sums[index(row[i])] += double{routing.weights[index(t * routing.capacity) + i]};
    }
  }
  std::vector<int> by_sum(selected.begin(), selected.end());
  std::stable_sort(by_sum.begin(), by_sum.end(),
                   [&](int a, int b) { return sums[index(a)] > sums[index(b)]; });
  for (const int e : by_sum) {
    if (static_cast<int>(kept.size()) >= budget) break;
    kept.insert(e);
  }
  return kept;
}

/// An LRU cache as a list, the last used expert first.
struct ListCache {
  std::size_t room;
  std::list<std::int32_t> order{};

  int step(const std::vector<std::int32_t>& experts) {
    int loads = 0;
    for (const std::int32_t e : experts)
      if (std::find(order.begin(), order.end(), e) == order.end()) ++loads;
    for (auto e = experts.rbegin(); e != experts.rend(); ++e) {
      order.remove(*e);
      order.push_front(*e);
    }
    while (order.size() > room) order.pop_back();
    return loads;
  }
};

}  // namespace

TEST_CASE("a set of experts holds what was inserted") {
  fd::ExpertSet set;
  CHECK(set.size() == 0);
  for (const int j : {0, 63, 64, 511, 1023}) {
    CHECK_FALSE(set.contains(j));
    set.insert(j);
    set.insert(j);
    CHECK(set.contains(j));
  }
  CHECK(members(set) == std::set<int>{0, 63, 64, 511, 1023});
  set.erase(64);
  set.erase(65);
  CHECK(members(set) == std::set<int>{0, 63, 511, 1023});
  CHECK(set != fd::ExpertSet{});
}

TEST_CASE("union_of holds what some token selected") {
  test::Random random(1611);
  for (const int experts : {1, 5, 64, 65, 200, 1024}) {
    for (const std::ptrdiff_t tokens : {0, 1, 7, 40}) {
      Routing routing(tokens, experts, 6, random);
      std::set<int> expected;
      for (std::ptrdiff_t t = 0; t < tokens; ++t)
        for (const std::int32_t e : routing.row(t)) expected.insert(e);
      CHECK(members(fd::union_of(routing.view(), tokens, experts)) == expected);
    }
  }
}

TEST_CASE("budget_of keeps every token's best and buys the largest sums") {
  test::Random random(1612);
  for (int repeat = 0; repeat < 400; ++repeat) {
    const int experts = 1 + random.below(repeat % 10 == 0 ? 300 : 40);
    Routing routing(random.below(20), experts, 1 + random.below(9), random);
    const int budget = random.below(experts + 5);
    const int keep = random.below(4);
    CHECK(members(fd::budget_of(routing.view(), routing.tokens, experts, budget, keep)) ==
          bought(routing, budget, keep));
  }
}

TEST_CASE(
    "budget_of by hand: ties by lower id, sums that are NaN last, kept ones beyond the budget") {
  std::vector<std::int32_t> ids{5, 2, 4, 9, 4, 2};
  std::vector<float> weights{0.5F, 0.25F, 0.25F, 0.75F, 0.125F, 0.125F};
  std::vector<std::int32_t> counts{3, 3};
  const fd::RoutingView<> routing{ids.data(), weights.data(), counts.data(), 3};
  CHECK(members(fd::budget_of(routing, 2, 10, 3)) == std::set<int>{2, 5, 9});
  CHECK(members(fd::budget_of(routing, 2, 10, 1)) == std::set<int>{5, 9});
  CHECK(members(fd::budget_of(routing, 2, 10, 0, 0)).empty());
  CHECK(members(fd::budget_of(routing, 2, 10, 1, 0)) == std::set<int>{9});
  CHECK(members(fd::budget_of(routing, 2, 10, 9)) == std::set<int>{2, 4, 5, 9});
  weights[1] = test::nan;  // of expert 2
  CHECK(members(fd::budget_of(routing, 2, 10, 3)) == std::set<int>{4, 5, 9});
  CHECK(members(fd::budget_of(routing, 2, 10, 4)) == std::set<int>{2, 4, 5, 9});
}

TEST_CASE("an expert cache holds the last used experts and counts its loads") {
  test::Random random(1613);
  for (int repeat = 0; repeat < 60; ++repeat) {
    const int experts = 1 + random.below(repeat % 10 == 0 ? fd::max_experts : 70);
    const int size = 1 + random.below(experts);
    Routing routing(60, experts, 1 + random.below(10), random);
    fd::ExpertCache cache(experts, size);
    CHECK(cache.experts() == experts);
    CHECK(cache.size() == size);
    ListCache expected{index(size)};
    for (int turn = 0; turn < 2; ++turn) {
      CHECK(members(cache.resident()).empty());
      for (std::ptrdiff_t t = 0; t < 40; ++t) {
        const std::vector<std::int32_t> row = routing.row(t);
        CHECK(cache.touch(std::span(row)) == expected.step(row));
        CHECK(members(cache.resident()) ==
              std::set<int>(expected.order.begin(), expected.order.end()));
      }
      std::int64_t loads = 0;
      for (std::ptrdiff_t t = 40; t < 60; ++t) loads += expected.step(routing.row(t));
      CHECK(cache.touch(routing.view().from(40), 20) == loads);
      CHECK(members(cache.resident()) ==
            std::set<int>(expected.order.begin(), expected.order.end()));
      cache.clear();
      expected.order.clear();
    }
  }
}

TEST_CASE("an expert cache by hand") {
  fd::ExpertCache cache(8, 3);
  const auto touch = [&](const std::vector<std::int64_t>& ids) {
    return cache.touch(std::span(ids));
  };
  CHECK(touch({0, 1}) == 2);
  CHECK(touch({2}) == 1);
  // 1 was used before 0 of the first step: it is the one that leaves.
  CHECK(touch({3, 2}) == 1);
  CHECK(members(cache.resident()) == std::set<int>{0, 2, 3});
  // A hit of the step does not leave for a load of the step.
  CHECK(touch({4, 5, 0}) == 2);
  CHECK(members(cache.resident()) == std::set<int>{0, 4, 5});
  // More than there is room for: all are loaded, the best stay.
  CHECK(touch({6, 7, 1, 4}) == 3);
  CHECK(members(cache.resident()) == std::set<int>{1, 6, 7});
  CHECK(test::rejection_of([] { fd::ExpertCache(8, 9); }) ==
        "ExpertCache: 1 <= size <= experts <= 1024 must hold, got size 9, experts 8");
  CHECK(test::rejection_of([] { fd::ExpertCache(8, 0); }) ==
        "ExpertCache: 1 <= size <= experts <= 1024 must hold, got size 0, experts 8");
  CHECK(test::rejection_of([] { fd::ExpertCache(1025, 8); }) ==
        "ExpertCache: 1 <= size <= experts <= 1024 must hold, got size 8, experts 1025");
}
