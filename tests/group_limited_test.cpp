// Rankings of published routers: sigmoid with a selection bias, groups of experts.

#include "fdroute/ranking/group_limited.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

static_assert(fd::Ranking<fd::BySigmoid>);
static_assert(fd::Ranking<fd::GroupLimited<>>);
static_assert(fd::Ranking<fd::GroupLimited<fd::BySigmoid>>);

template <class K>
std::vector<float> keys_of(const K& ranking, const std::vector<float>& logits) {
  std::vector<float> keys(logits.size());
  ranking(logits, keys);
  return keys;
}

bool same(float a, float b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

/// By the definition: score every group, sort the groups, mask those beyond the first `kept`.
std::vector<float> limited(std::vector<float> keys, int groups, int kept, bool top2, float masked,
                           bool highest_first) {
  const std::size_t size = keys.size() / index(groups);
  std::vector<float> score;
  for (int g = 0; g < groups; ++g) {
    std::vector<float> group;
    for (std::size_t i = 0; i < size; ++i) {
      if (const float key = keys[index(g) * size + i]; !std::isnan(key)) group.push_back(key);
    }
    group.insert(group.end(), 2, -test::infinity);
    std::sort(group.rbegin(), group.rend());
    score.push_back(top2 && !(std::isinf(group[0]) && group[0] > 0) ? group[0] + group[1]
                                                                    : group[0]);
  }
  std::vector<int> order(index(groups));
  std::iota(order.begin(), order.end(), 0);
  if (highest_first) std::reverse(order.begin(), order.end());
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return score[index(a)] > score[index(b)]; });
  for (std::size_t i = index(kept); i < order.size(); ++i)
    std::fill_n(keys.begin() + static_cast<std::ptrdiff_t>(index(order[i]) * size), size, masked);
  return keys;
}

}  // namespace

TEST_CASE("BySigmoid adds the bias to the sigmoid") {
  const std::vector<float> logits{0.0F,    -0.5F,          3.0F,           100.0F,
                                  -200.0F, test::infinity, -test::infinity};
  const std::vector<float> bias{0.25F, -1.0F, 0.0F, 0.5F, 0.125F, 0.0F, -2.0F};
  const std::vector<float> keys = keys_of(fd::BySigmoid{bias}, logits);
  for (std::size_t j = 0; j < logits.size(); ++j) {
    const auto sigmoid =
        static_cast<float>(1.0L / (1.0L + std::exp(-static_cast<long double>(logits[j]))));
    CHECK(keys[j] == sigmoid + bias[j]);
  }
  CHECK(keys_of(fd::BySigmoid{}, logits)[0] == 0.5F);
  CHECK(std::isnan(keys_of(fd::BySigmoid{}, {test::nan})[0]));
}

TEST_CASE("GroupLimited masks all groups but the best, by definition") {
  test::Random random(23);
  struct Shape {
    int experts, groups;
  };
  for (const auto [experts, groups] : {Shape{2, 1}, Shape{8, 4}, Shape{12, 3}, Shape{64, 8},
                                       Shape{130, 13}, Shape{256, 8}, Shape{1024, 512}}) {
    const test::Batch batch = test::batch_of_every_kind(experts, experts > 200 ? 2 : 6, random);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const int kept = 1 + random.below(groups);
      const bool highest = random.below(2) == 0;
      const auto ties = highest ? fd::TieOrder::highest_index : fd::TieOrder::lowest_index;
      const float masked = random.below(2) == 0 ? 0.0F : -test::infinity;
      for (const bool top2 : {false, true}) {
        const auto score = top2 ? fd::GroupScore::sum_of_top2 : fd::GroupScore::max;
        const fd::GroupLimited<> ranking{
            .ranking = {ties}, .groups = groups, .kept = kept, .score = score, .masked = masked};
        CHECK(ranking.ties == ties);
        const std::vector<float> row = batch.row(t);
        const std::vector<float> expected = limited(row, groups, kept, top2, masked, highest);
        const std::vector<float> keys = keys_of(ranking, row);
        REQUIRE(std::equal(keys.begin(), keys.end(), expected.begin(), same));
      }
    }
  }
}

TEST_CASE("the two group scores choose differently") {
  const std::vector<float> logits{5, 0, 0, 4, 4, 4};  // group maxima 5 and 4, sums 5 and 8
  const auto selected = [&](fd::GroupScore score) {
    const fd::Router router(6, fd::TopK{2}, fd::SoftmaxWeights{}, fd::ExpertBounds{},
                            fd::GroupLimited<>{.groups = 2, .kept = 1, .score = score});
    const auto routing = test::routed(router, fd::LogitsView<float>(logits.data(), 1, 6));
    return std::vector<int>{routing.experts[0], routing.experts[1]};
  };
  CHECK(selected(fd::GroupScore::max) == std::vector<int>{0, 1});
  CHECK(selected(fd::GroupScore::sum_of_top2) == std::vector<int>{3, 4});
}

TEST_CASE("a router refuses groups and biases that do not fit") {
  const auto rejection = [](int experts, const auto& ranking) {
    return test::rejection_of([&] {
      fd::Router(experts, fd::TopK{1}, fd::SoftmaxWeights{}, fd::ExpertBounds{}, ranking);
    });
  };
  using Limited = fd::GroupLimited<>;
  CHECK(rejection(8, Limited{.groups = 4, .kept = 4}) == "no error");
  CHECK(rejection(8, Limited{.groups = 3}) ==
        "GroupLimited: groups must divide the 8 experts, got 3");
  CHECK(rejection(8, Limited{.groups = 0}) ==
        "GroupLimited: groups must divide the 8 experts, got 0");
  CHECK(rejection(8, Limited{.groups = 16}) ==
        "GroupLimited: groups must divide the 8 experts, got 16");
  CHECK(rejection(8, Limited{.groups = 4, .kept = 0}) ==
        "GroupLimited: kept must lie in [1, 4], the number of groups, got 0");
  CHECK(rejection(8, Limited{.groups = 4, .kept = 5}) ==
        "GroupLimited: kept must lie in [1, 4], the number of groups, got 5");
  CHECK(rejection(8, Limited{.groups = 8, .score = fd::GroupScore::sum_of_top2}) ==
        "GroupLimited: a group of one expert has no two largest keys");
  CHECK(rejection(8, Limited{.groups = 8}) == "no error");
  const fd::BySigmoid short_bias{.bias = {0, 0, 0}};
  CHECK(rejection(4, short_bias) == "BySigmoid: bias has 3 values for 4 experts");
  CHECK(rejection(4, fd::GroupLimited<fd::BySigmoid>{.ranking = short_bias}) ==
        "BySigmoid: bias has 3 values for 4 experts");
  CHECK(rejection(3, fd::BySigmoid{.bias = {0, test::infinity, 0}}) ==
        "BySigmoid: bias[1] = inf is not finite");
  CHECK(rejection(3, fd::BySigmoid{}) == "no error");
}
