// Flush-to-zero and denormals-are-zero, as docs/numerics.md says.

#include <doctest/doctest.h>

#if defined(__SSE2__)

#include <xmmintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

/// Both modes, until the end of a scope.
class Flushing {
 public:
  Flushing() { _mm_setcsr(before_ | 0x8040U); }
  ~Flushing() { _mm_setcsr(before_); }
  Flushing(const Flushing&) = delete;
  Flushing& operator=(const Flushing&) = delete;

 private:
  unsigned before_ = _mm_getcsr();
};

template <class AnyPolicy>
auto flushed(const AnyPolicy& router, fd::LogitsView<float> logits) {
  const Flushing flushing;
  return test::routed(router, logits);
}

/// The ids of all places, and the counts, are the same.
template <class A>
bool same_ids(const A& a, const A& b) {
  return a.experts == b.experts && a.counts == b.counts;
}

}  // namespace

TEST_CASE("the modes are those meant: an addition flushes") {
  volatile float tiny = std::numeric_limits<float>::denorm_min();
  const Flushing flushing;
  CHECK_FALSE(tiny + tiny > 0.0F);
}

TEST_CASE("subnormal logits rank in their order whatever is flushed") {
  test::Random random(101);
  for (const int experts : {8, 16, 64, 100, 300}) {
    CAPTURE(experts);
    std::vector<float> logits;
    for (int t = 0; t < 40; ++t) {
      for (int j = 0; j < experts; ++j)
        logits.push_back(test::random_logit(
            j % 3 == 0 && t % 2 == 0 ? test::Rows::signed_zeros : test::Rows::denormal, random));
    }
    const test::Batch batch{experts, logits};
    for (const int k : {1, 3, 8, 17}) {
      if (k > experts) continue;
      CAPTURE(k);
      const fd::Router router(experts, fd::TopK{k});
      const auto expected = test::routed(router, batch.view());
      CHECK(flushed(router, batch.view()) == expected);
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const auto alone = test::routed(router, batch.view().slice(t, 1));
        CHECK(flushed(router, batch.view().slice(t, 1)) == alone);
      }
      // By the definition: ordered by value, then by index.
      const std::vector<float> row = batch.row(0);
      for (int i = 1; i < k; ++i) {
        const auto a = static_cast<std::size_t>(expected.experts[i - 1]);
        const auto b = static_cast<std::size_t>(expected.experts[i]);
        CHECK((row[a] > row[b] || (row[a] == row[b] && a < b)));
      }
    }
  }
}

TEST_CASE("logits that are not subnormal route to the same bits, but for weights that are") {
  test::Random random(102);
  const auto check = [&](const auto& router) {
    std::vector<float> logits;
    for (int t = 0; t < 60; ++t) {
      for (int j = 0; j < router.experts(); ++j) logits.push_back(20.0F * random.normal());
    }
    const test::Batch batch{router.experts(), logits};
    const auto expected = test::routed(router, batch.view());
    const auto actual = flushed(router, batch.view());
    CHECK(same_ids(actual, expected));
    const auto places = batch.tokens() * router.capacity();
    for (std::ptrdiff_t i = 0; i < places; ++i) {
      if (expected.weights[i] >= std::numeric_limits<float>::min())
        CHECK(actual.weights[i] == expected.weights[i]);
      else
        CHECK(actual.weights[i] == 0.0F);
    }
  };
  const fd::ExpertBounds bounds{0, 16};
  check(fd::Router(64, fd::TopK{16}));
  check(fd::Router(64, fd::BenjaminiHochberg{}, fd::LogSoftmax{}, fd::NormalNull{-60.0, 20.0},
                   fd::SoftmaxWeights{}, bounds));
  check(fd::Router(64, fd::Hommel{}, fd::LogSoftmax{}, fd::NormalNull{-60.0, 20.0},
                   fd::SoftmaxWeights{}, bounds));
  check(fd::Router(64, fd::TopK{8}, fd::SoftmaxWeights{0.5}, fd::ExpertBounds{}, fd::BySigmoid{}));
}

TEST_CASE("ordered integers are those of the values, neighbours side by side") {
  using fd::detail::from_ordered;
  using fd::detail::ordered;
  const Flushing flushing;
  constexpr float tiny = std::numeric_limits<float>::denorm_min();
  CHECK(ordered(tiny) == ordered(0.0F) + 1);
  CHECK(ordered(-tiny) == ordered(0.0F) - 1);
  CHECK(ordered(-0.0F) == ordered(0.0F));
  CHECK(ordered(test::nan) < ordered(-test::infinity));
  CHECK(ordered(-test::nan) < ordered(-test::infinity));
  for (const float x : {-test::infinity, -1.0F, -tiny, 0.0F, tiny, 3.0F, test::infinity})
    CHECK(ordered(from_ordered(ordered(x))) == ordered(x));
}

#else

TEST_CASE("this machine has no MXCSR") {}

#endif
