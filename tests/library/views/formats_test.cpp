#include "fdroute/formats.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

/// Token by token, its (expert, weight) pairs in the order in which they stand.
using Pairs = std::vector<std::vector<std::pair<int, float>>>;

template <class Id>
Pairs pairs(const test::Padded<Id>& routing) {
  Pairs result(index(routing.tokens));
  for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
    for (std::ptrdiff_t i = t * routing.capacity; i < t * routing.capacity + routing.counts[t]; ++i)
      result[index(t)].emplace_back(static_cast<int>(routing.experts[i]), routing.weights[i]);
  }
  return result;
}

/// Each token's pairs by descending weight, equal weights by lower index.
Pairs by_weight(Pairs routing) {
  for (auto& token : routing) {
    std::sort(token.begin(), token.end());
    std::stable_sort(token.begin(), token.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  }
  return routing;
}

/// Every place behind a count holds the padding that the view asks for.
template <class Id>
bool well_padded(const test::Padded<Id>& routing) {
  for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
    const std::ptrdiff_t row = t * routing.capacity;
    const Id valid = routing.counts[t] > 0 ? routing.experts[row] : Id{0};
    const Id expected = routing.padding == fd::Padding::minus_one ? Id{-1} : valid;
    for (std::ptrdiff_t i = row + routing.counts[t]; i < row + routing.capacity; ++i)
      if (routing.experts[i] != expected || routing.weights[i] != 0.0F) return false;
  }
  return routing.guards_intact();
}

/// With room for the routing and no more.
template <class Id>
test::Csr<> csr_of(test::Padded<Id>& routing) {
  test::Csr<> csr(routing.tokens, fd::assignments(routing.view(), routing.tokens));
  fd::to_csr(routing.view(), routing.tokens, csr.view());
  return csr;
}

constexpr int some_sizes[] = {1, 2, 13, 63, 64, 65, 128, 130};

/// Routings of 0 to all experts of all kinds of rows, some of whose weights round to 0.
template <class Check>
void for_every_routing(const Check& check) {
  test::Random random(17);
  for (const int experts : some_sizes) {
    const fd::Router router(experts, fd::BenjaminiHochberg{0.6}, fd::ZScore{}, fd::NormalNull{},
                            fd::SoftmaxWeights{.temperature = 0.05}, fd::ExpertBounds{0});
    const test::Batch batch = test::batch_of_every_kind(experts, 9, random);
    auto routing = test::routed(router, batch.view());
    check(routing, experts);
  }
}

}  // namespace

TEST_CASE("CSR holds the padded routing without its padding, and leads back to it") {
  for_every_routing([](auto& routing, int) {
    test::Csr<> csr = csr_of(routing);
    const Pairs expected = pairs(routing);
    CHECK(csr.offsets[0] == 0);
    for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
      const auto& token = expected[index(t)];
      REQUIRE(csr.offsets[t + 1] - csr.offsets[t] == static_cast<std::int64_t>(token.size()));
      for (std::size_t i = 0; i < token.size(); ++i) {
        const std::ptrdiff_t place = csr.offsets[t] + static_cast<std::ptrdiff_t>(i);
        CHECK(csr.experts[place] == token[i].first);
        CHECK(csr.weights[place] == token[i].second);
      }
    }
    CHECK(csr.status == routing.status);
    CHECK(csr.guards_intact());

    test::Padded<std::int64_t> back(routing.tokens, routing.capacity + 2);
    fd::to_padded(csr.view(), routing.tokens, back.view());
    CHECK(pairs(back) == expected);
    CHECK(well_padded(back));
    CHECK(back.status == routing.status);
  });
}

TEST_CASE("a padded routing takes another width, id type and padding") {
  for_every_routing([](auto& routing, int experts) {
    test::Padded<std::int64_t> wide(routing.tokens, experts + 3, fd::Padding::repeat_valid);
    fd::to_padded(routing.view(), routing.tokens, wide.view());
    CHECK(pairs(wide) == pairs(routing));
    CHECK(well_padded(wide));
    CHECK(wide.status == routing.status);
    test::Padded<std::int32_t> back(routing.tokens, routing.capacity);
    fd::to_padded(wide.view(), routing.tokens, back.view());
    CHECK(back == routing);
  });
}

TEST_CASE("the fixed top-k form holds valid ids only, and the same weighted sum") {
  test::Random random(3);
  const fd::Router router(32, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                          fd::SoftmaxWeights{}, fd::ExpertBounds{0, 6});
  const test::Batch batch = test::batch_of_every_kind(32, 20, random);
  auto routing = test::routed(router, batch.view());
  test::Padded<> fixed(batch.tokens(), 8, fd::Padding::repeat_valid);
  fd::to_padded(routing.view(), batch.tokens(), fixed.view());
  const Pairs expected = pairs(routing);
  bool some_empty = false;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    some_empty |= routing.counts[t] == 0;
    std::vector<float> of_count(32);
    std::vector<float> of_all_places(32);
    for (std::ptrdiff_t i = 0; i < 8; ++i) {
      const int expert = fixed.experts[8 * t + i];
      REQUIRE((expert >= 0 && expert < 32));
      of_all_places[index(expert)] += fixed.weights[8 * t + i];
    }
    for (const auto& [expert, weight] : expected[index(t)]) of_count[index(expert)] += weight;
    CHECK(of_count == of_all_places);
  }
  CHECK(some_empty);
}

TEST_CASE("a bitmask has the bits of the selected experts and no other") {
  for_every_routing([](auto& routing, int experts) {
    const int words = fd::BitmaskView::words_per_token(experts);
    REQUIRE(words == (experts + 63) / 64);
    test::Guarded<std::uint64_t> bits(routing.tokens * words);
    fd::to_bitmask(routing.view(), routing.tokens, fd::BitmaskView{bits.data(), words});
    CHECK(bits.guards_intact());
    const Pairs selected = pairs(routing);
    for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
      for (int bit = 0; bit < 64 * words; ++bit) {
        const bool set = (bits[t * words + bit / 64] >> (bit % 64) & 1U) != 0;
        const bool expected = std::any_of(selected[index(t)].begin(), selected[index(t)].end(),
                                          [&](const auto& pair) { return pair.first == bit; });
        REQUIRE(set == expected);
      }
    }
  });
}

TEST_CASE("dense weights and a bitmask give the routing back, weights that round to 0 included") {
  int zeros = 0;
  for_every_routing([&](auto& routing, int experts) {
    test::Guarded<float> weights(routing.tokens * experts);
    test::Guarded<std::int32_t> counts(routing.tokens);
    test::Guarded<fd::TokenStatus> status(routing.tokens);
    const fd::DenseView dense{weights.data(), experts, counts.data(), status.data()};
    fd::to_dense(routing.view(), routing.tokens, experts, dense);
    CHECK(weights.guards_intact());
    CHECK(counts == routing.counts);
    CHECK(status == routing.status);
    Pairs in_dense(index(routing.tokens));
    for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
      for (int e = 0; e < experts; ++e) {
        if (weights[t * experts + e] != 0.0F)
          in_dense[index(t)].emplace_back(e, weights[t * experts + e]);
      }
    }
    Pairs without_zeros = pairs(routing);
    for (auto& token : without_zeros) {
      const auto size = token.size();
      std::erase_if(token, [](const auto& pair) { return pair.second == 0.0F; });
      zeros += static_cast<int>(size - token.size());
    }
    CHECK(by_weight(in_dense) == by_weight(without_zeros));

    const int words = fd::BitmaskView::words_per_token(experts);
    std::vector<std::uint64_t> bits(index(routing.tokens * words));
    const fd::BitmaskView selected{bits.data(), words};
    fd::to_bitmask(routing.view(), routing.tokens, selected);
    test::Padded<> back(routing.tokens, routing.capacity);
    fd::to_padded(dense, selected, routing.tokens, back.view());
    CHECK(pairs(back) == by_weight(pairs(routing)));
    CHECK(well_padded(back));
  });
  CHECK(zeros > 0);
}

TEST_CASE("a plan by expert leads back to the tokens") {
  for_every_routing([](auto& routing, int experts) {
    fd::DispatchPlan plan;
    plan.build(routing.view(), routing.tokens, experts);
    test::Padded<> back(routing.tokens, routing.capacity);
    fd::to_padded(plan, routing.tokens, back.view());
    CHECK(pairs(back) == by_weight(pairs(routing)));
    CHECK(well_padded(back));
  });
}

TEST_CASE("no tokens") {
  test::Padded<> none(0, 4);
  const test::Csr<> csr = csr_of(none);
  CHECK(csr.offsets[0] == 0);
  CHECK(fd::assignments(none.view(), 0) == 0);
}
