#include "fdroute/any_router.hpp"

#include <doctest/doctest.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

template <class T, class Out>
constexpr bool routes_without_throwing = noexcept(std::declval<const fd::AnyRouter&>().route(
    std::declval<fd::LogitsView<T>>(), std::declval<Out>()));

static_assert(routes_without_throwing<float, fd::RoutingView<>>);
static_assert(routes_without_throwing<double, fd::RoutingView<std::int64_t>>);
static_assert(routes_without_throwing<Eigen::bfloat16, fd::DenseView>);
static_assert(routes_without_throwing<float, fd::CsrView<std::int64_t>>);

/// Counts live copies of a router that holds it.
struct Counted {
  std::shared_ptr<int> alive = std::make_shared<int>(0);
  int operator()(std::span<const double> p) const noexcept { return static_cast<int>(p.size()); }
};

auto bh_router(int experts) {
  return fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                    fd::SoftmaxWeights{}, fd::ExpertBounds{0, 12});
}

}  // namespace

TEST_CASE("an AnyRouter routes as the router in it does, whatever the number of tokens") {
  test::Random random(81);
  const auto check = [&](const auto& router) {
    const fd::AnyRouter any(router, "a policy");
    CHECK(any.experts() == router.experts());
    CHECK(any.capacity() == router.capacity());
    CHECK(any.policy() == "a policy");
    const test::Batch batch = test::batch_of_every_kind(router.experts(), 11, random);
    REQUIRE(batch.tokens() > 140);
    // Around the sizes of the blocks in which it hands tokens on.
    for (const int tokens : {0, 1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 140}) {
      const auto view = batch.view().slice(2, tokens);
      const auto expected = test::routed(router, view);
      const auto actual = test::routed(any, view);
      CHECK(actual == expected);
      CHECK(actual.guards_intact());
    }
  };
  check(bh_router(16));
  check(bh_router(1));
  check(fd::Router(20, fd::TopK{3}, fd::SoftmaxWeights{0.5, true}));
  check(fd::Router(1024, fd::TopP{0.5}));
  check(fd::Router(64, fd::BenjaminiHochberg{}, fd::LogSoftmax{}, fd::NormalNull{-4.0, 1.0}));
}

TEST_CASE("an AnyRouter keeps strides, paddings, ids, statuses and dense forms") {
  test::Random random(82);
  const auto router = bh_router(16);
  const fd::AnyRouter any(router, "");
  const test::Batch batch = test::batch_of_every_kind(16, 7, random);
  const std::ptrdiff_t tokens = batch.tokens();
  const fd::LogitsView every_other(batch.logits.data(), tokens / 2, 16, 32);
  for (const auto padding : {fd::Padding::minus_one, fd::Padding::repeat_valid}) {
    CHECK(test::routed<std::int64_t>(any, every_other, padding) ==
          test::routed<std::int64_t>(router, every_other, padding));
    test::Padded wide(tokens, 14, padding);
    test::Padded expected(tokens, 14, padding);
    CHECK(any.route(batch.view(), wide.view()) == router.route(batch.view(), expected.view()));
    CHECK(wide == expected);
  }
  for (const std::ptrdiff_t stride : {16, 21}) {
    test::Guarded<float> weights(tokens * stride);
    test::Guarded<float> expected(tokens * stride);
    test::Guarded<std::int32_t> counts(tokens);
    test::Guarded<std::int32_t> expected_counts(tokens);
    any.route(batch.view(), fd::DenseView{weights.data(), stride, counts.data()});
    router.route(batch.view(), fd::DenseView{expected.data(), stride, expected_counts.data()});
    CHECK(weights == expected);
    CHECK(counts == expected_counts);
  }
}

TEST_CASE_TEMPLATE("an AnyRouter converts logits of any type", T, double, Eigen::half,
                   Eigen::bfloat16) {
  test::Random random(83);
  const test::Batch batch = test::batch_of_every_kind(24, 3, random);
  std::vector<T> logits;
  for (const float x : batch.logits) logits.push_back(static_cast<T>(x));
  const auto router = bh_router(24);
  const fd::AnyRouter any(router, "");
  for (const std::ptrdiff_t tokens : {0, 1, 3, 4, 5, 39}) {
    for (const std::ptrdiff_t stride : {24, 0}) {
      const fd::LogitsView view(logits.data(), tokens, 24, stride);
      test::Padded expected(tokens, router.capacity());
      test::Padded actual(tokens, router.capacity());
      router.route(view, expected.view());
      any.route(view, actual.view());
      CHECK(actual == expected);
      CHECK(actual.guards_intact());
      CHECK(test::difference_of_csr(any, view) == "");
    }
  }
}

namespace {

/// An engine's own: the upper half of a float.
struct OwnBf16 {
  std::uint16_t bits;
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace

template <>
inline constexpr auto fdroute::logit_format<OwnBf16> = fdroute::LogitFormat::bfloat16;

TEST_CASE_TEMPLATE("rows of 16 bits are widened whole, whatever their length and place", T,
                   Eigen::half, Eigen::bfloat16, OwnBf16) {
  test::Random random(84);
  for (const int experts : {1, 7, 15, 16, 17, 31, 64, 130, 1009, 1024}) {
    CAPTURE(experts);
    const fd::Router router(experts, fd::TopK{std::min(experts, 5)});
    const fd::AnyRouter any(router, "");
    for (const std::ptrdiff_t tokens : {1, 3, 17}) {
      const std::ptrdiff_t stride = experts + 3;
      // No byte more than the view's.
      std::vector<T> logits(index((tokens - 1) * stride + experts));
      for (T& logit : logits) {
        const auto bits = std::bit_cast<std::uint32_t>(random.normal());
        logit = std::bit_cast<T>(static_cast<std::uint16_t>(bits >> 16));
      }
      const fd::LogitsView view(logits.data(), tokens, experts, stride);
      test::Padded expected(tokens, router.capacity());
      test::Padded actual(tokens, router.capacity());
      CHECK(router.route(view, expected.view()) == any.route(view, actual.view()));
      CHECK(actual == expected);
    }
  }
}

namespace {

/// A bfloat16 that knows how often one was converted.
struct CountedBf16 {
  static inline int conversions = 0;
  std::uint16_t bits;
  explicit operator float() const {
    ++conversions;
    return static_cast<float>(OwnBf16{bits});
  }
};

}  // namespace

template <>
inline constexpr auto fdroute::logit_format<CountedBf16> = fdroute::LogitFormat::bfloat16;

TEST_CASE("logits of a type with a format are not converted one by one") {
  constexpr int experts = 64;
  constexpr int tokens = 20;
  const fd::AnyRouter any(bh_router(experts), "");
  std::vector<CountedBf16> logits(index(tokens * experts));
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i].bits = static_cast<std::uint16_t>(0x3F80 + 7 * i % 64);
  test::Padded out(tokens, any.capacity());
  any.route(fd::LogitsView(logits.data(), tokens, experts), out.view());
  CHECK(CountedBf16::conversions == 0);
}

TEST_CASE("copies of an AnyRouter share the router, and outlive one another") {
  const Counted rule;
  CHECK(rule.alive.use_count() == 1);
  std::optional<fd::AnyRouter> first(std::in_place,
                                     fd::Router(4, rule, fd::ZScore{}, fd::NormalNull{}), "all");
  CHECK(rule.alive.use_count() == 2);
  const fd::AnyRouter second = *first;
  CHECK(rule.alive.use_count() == 2);
  first.reset();
  const test::Batch batch{4, {1.0F, 2.0F, 3.0F, 4.0F}};
  CHECK(test::routed(second, batch.view()).counts[0] == 4);
  CHECK(second.policy() == "all");
}
