// Rankings of published routers: sigmoid with a selection bias, groups of experts.

#include "fdroute/ranking/group_limited.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
namespace presets = fdroute::presets;
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

/// By the definition: score every group by its usable experts, sort the groups, mask those beyond
/// the first `kept`. What is not usable has key NaN.
std::vector<float> limited(std::vector<float> keys, int groups, int kept, bool top2, float masked,
                           bool highest_first) {
  const std::size_t size = keys.size() / index(groups);
  std::vector<float> score;
  for (float& key : keys) {
    if (key == -test::infinity) key = test::nan;
  }
  for (int g = 0; g < groups; ++g) {
    std::vector<float> group;
    for (std::size_t i = 0; i < size; ++i) {
      if (const float key = keys[index(g) * size + i]; !std::isnan(key)) group.push_back(key);
    }
    std::sort(group.rbegin(), group.rend());
    if (group.empty()) {
      score.push_back(-test::infinity);
    } else if (!top2 || group.size() == 1 || std::isinf(group[0])) {
      score.push_back(group[0]);
    } else {
      constexpr float most = std::numeric_limits<float>::max();
      score.push_back(std::min(std::max(group[0] + group[1], -most), most));
    }
  }
  std::vector<int> order(index(groups));
  std::iota(order.begin(), order.end(), 0);
  if (highest_first) std::reverse(order.begin(), order.end());
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return score[index(a)] > score[index(b)]; });
  for (std::size_t i = index(kept); i < order.size(); ++i) {
    for (std::size_t j = index(order[i]) * size; j < (index(order[i]) + 1) * size; ++j)
      keys[j] = std::isnan(keys[j]) ? keys[j] : masked;
  }
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
    const float alone = keys_of(fd::BySigmoid{}, logits)[j];
    CHECK(keys[j] == (logits[j] > -test::infinity ? alone + bias[j] : logits[j]));
    if (logits[j] > -test::infinity) CHECK(oracle::ulps_between(alone, sigmoid) <= 3);
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

TEST_CASE("a logit of -inf masks, whatever the bias") {
  std::vector<float> logits(16);
  for (std::size_t j = 0; j < 16; ++j) logits[j] = j % 2 == 0 ? -1.0F : 0.0F;
  logits[5] = -test::infinity;
  logits[7] = -1e30F;  // a sigmoid of 0, but a number
  std::vector<float> bias(16);
  bias[5] = 0.5F;
  bias[7] = -0.25F;
  const auto last_of = [&](const auto& router) {
    const auto out = test::routed(router, fd::LogitsView<float>(logits.data(), 1, 16));
    CHECK(out.counts[0] == 16);
    CHECK(out.weights[15] == 0.0F);
    CHECK(out.experts[14] == 7);
    return out.experts[15];
  };
  const presets::DeepseekV3Config v3{
      .n_routed_experts = 16, .num_experts_per_tok = 16, .n_group = 1, .topk_group = 1};
  CHECK(last_of(presets::deepseek_v3(v3, bias)) == 5);
  CHECK(last_of(presets::glm4_moe({.n_routed_experts = 16, .num_experts_per_tok = 16}, bias)) == 5);
  const fd::TopK topk{16};
  const fd::SigmoidWeights weights;
  CHECK(last_of(fd::Router(16, topk, weights, fd::ExpertBounds{}, fd::BySigmoid{bias})) == 5);
  CHECK(last_of(fd::Router(16, topk, weights, fd::ExpertBounds{}, fd::BySigmoid{})) == 5);
  CHECK(last_of(fd::Router(16, topk, weights, fd::ExpertBounds{}, fd::ByLogit{})) == 5);
  for (const float masked : {-test::infinity, 0.0F}) {
    const fd::GroupLimited<> groups{.groups = 4, .kept = 4, .masked = masked};
    CHECK(last_of(fd::Router(16, topk, weights, fd::ExpertBounds{}, groups)) == 5);
  }
}

TEST_CASE("a bias of -inf disables an expert for good") {
  test::Random random(24);
  std::vector<float> bias(16);
  bias[3] = bias[8] = -test::infinity;
  const auto router = presets::deepseek_v3(
      {.n_routed_experts = 16, .num_experts_per_tok = 8, .n_group = 4, .topk_group = 3}, bias);
  const test::Batch batch = test::batch_of_every_kind(16, 20, random);
  const auto out = test::routed(router, batch.view());
  int disabled = 0;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const std::vector<float> row = batch.row(t);
    if (std::count_if(row.begin(), row.end(), [](float x) { return x > -test::infinity; }) < 10)
      continue;
    for (int i = 0; i < 8; ++i)
      disabled += out.experts[t * 8 + i] == 3 || out.experts[t * 8 + i] == 8;
  }
  CHECK(disabled == 0);
}

TEST_CASE("usable experts come first, those of groups that are left out too") {
  test::Random random(25);
  const std::vector<float> zeros(64);
  const auto v3 = presets::deepseek_v3(
      {.n_routed_experts = 64, .num_experts_per_tok = 8, .n_group = 8, .topk_group = 4}, zeros);
  const auto v2 = presets::deepseek_v2(
      {.n_routed_experts = 64, .num_experts_per_tok = 8, .n_group = 8, .topk_group = 4});
  const fd::Router filled(
      64, fd::TopK{8}, fd::SoftmaxWeights{}, fd::ExpertBounds{},
      fd::GroupLimited<>{
          .groups = 8, .kept = 4, .score = fd::GroupScore::sum_of_top2, .masked = 0.0F});
  const auto check = [](const auto& router, const std::vector<float>& row, int usable) {
    const auto out = test::routed(router, fd::LogitsView<float>(row.data(), 1, 64));
    CHECK(out.counts[0] == 8);
    for (int i = 0; i < 8; ++i)
      CHECK((row[index(out.experts[i])] > -test::infinity) == (i < usable));
  };
  for (int repeat = 0; repeat < 400; ++repeat) {
    std::vector<float> row;
    for (int j = 0; j < 64; ++j) row.push_back(random.below(2) == 0 ? test::nan : -test::infinity);
    const int usable = 1 + random.below(10);
    const bool far = random.below(4) == 0;
    for (int placed = 0; placed < usable;) {
      float& logit = row[index(random.below(64))];
      if (logit > -test::infinity) continue;
      logit = 3.0F * random.normal();
      if (far) logit = std::copysign(3e38F, logit);
      if (placed > 0 && random.below(9) == 0) logit = test::infinity;
      ++placed;
    }
    check(v3, row, usable);
    check(v2, row, usable);
    check(filled, row, usable);
  }
  std::vector<float> row(64, test::nan);
  row[63] = 3.0F;
  check(v3, row, 1);
  CHECK(test::routed(v3, fd::LogitsView<float>(row.data(), 1, 64)).experts[0] == 63);
}

TEST_CASE("a group counts what it has") {
  const auto best_group = [](const std::vector<float>& logits) {
    const std::vector<float> keys =
        keys_of(fd::GroupLimited<>{.groups = 3, .score = fd::GroupScore::sum_of_top2}, logits);
    return std::find_if(keys.begin(), keys.end(), [](float x) { return std::isfinite(x); }) -
           keys.begin();
  };
  const float off = -test::infinity;
  CHECK(best_group({off, off, off, -5, test::nan, off}) == 3);
  CHECK(best_group({1, 1, off, 3, test::nan, test::nan}) == 3);
  CHECK(best_group({2, 2, off, 3, test::nan, off}) == 0);
  // The sum of two finite keys ranks above a dead group, however small.
  CHECK(best_group({off, off, test::nan, off, -3e38F, -3e38F}) == 4);
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
        "BySigmoid: bias[1] must be finite or -inf, got inf");
  CHECK(rejection(3, fd::BySigmoid{.bias = {0, 0, test::nan}}) ==
        "BySigmoid: bias[2] must be finite or -inf, got nan");
  CHECK(rejection(3, fd::BySigmoid{.bias = {0, -test::infinity, 0}}) == "no error");
  CHECK(rejection(2, fd::BySigmoid{.bias = {-test::infinity, -test::infinity}}) ==
        "BySigmoid: every bias is -inf");
  CHECK(rejection(3, fd::BySigmoid{}) == "no error");
}
