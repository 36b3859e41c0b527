#include "fdroute/openmp.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using fd::TokenStatus;
using test::index;

namespace {

/// An engine's own execution: two threads, each from its end.
struct TwoThreads {
  template <class Body>
  TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    TokenStatus second_half = TokenStatus::ok;
    std::thread second([&] {
      for (std::ptrdiff_t i = n - 1; i >= n / 2; --i) second_half = second_half | body(i);
    });
    TokenStatus status = TokenStatus::ok;
    for (std::ptrdiff_t i = 0; i < n / 2; ++i) status = status | body(i);
    second.join();
    return status | second_half;
  }
};

static_assert(fd::Execution<fd::Serial> && fd::Execution<fd::OpenMP> && fd::Execution<TwoThreads>);
static_assert(!fd::Execution<int>);

template <class Execution>
void check_execution(Execution execution) {
  for (const std::ptrdiff_t n : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> visits(index(n));
    const TokenStatus status = execution.for_each(n, [&](std::ptrdiff_t i) noexcept {
      ++visits[index(i)];
      return i == 5     ? TokenStatus::has_nan
             : i == 999 ? TokenStatus::no_finite_logit
                        : TokenStatus::ok;
    });
    for (const auto& count : visits) CHECK(count == 1);
    CHECK(has(status, TokenStatus::has_nan) == (n > 5));
    CHECK(has(status, TokenStatus::no_finite_logit) == (n > 999));
  }
}

template <class Execution, class AnyPolicy>
void check_routing(Execution execution, const AnyPolicy& router, const test::Batch& batch) {
  for (const std::ptrdiff_t tokens : {std::ptrdiff_t{0}, std::ptrdiff_t{1}, std::ptrdiff_t{2},
                                      std::ptrdiff_t{65}, batch.tokens()}) {
    const auto view = batch.view().slice(0, tokens);
    test::Padded expected(tokens, router.capacity());
    test::Padded actual(tokens, router.capacity());
    const TokenStatus status = router.route(view, expected.view());
    CHECK(router.route(execution, view, actual.view()) == status);
    CHECK(actual == expected);
    CHECK(actual.guards_intact());

    test::Guarded<float> dense(tokens * router.experts());
    test::Guarded<float> dense_expected(tokens * router.experts());
    router.route(view, fd::DenseView{dense_expected.data(), router.experts()});
    CHECK(router.route(execution, view, fd::DenseView{dense.data(), router.experts()}) == status);
    CHECK(dense == dense_expected);

    CHECK(test::difference_of_csr(router, view, execution) == "");
  }
}

}  // namespace

TEST_CASE("executions run every index once and unite the statuses") {
  check_execution(fd::Serial{});
  check_execution(fd::OpenMP{});
  check_execution(TwoThreads{});
  for (const int threads : {1, 2, 3, 8}) check_execution(fd::OpenMP{threads});
}

TEST_CASE("no status is lost when two threads yield theirs at the same moment") {
  int lost = 0;
  for (int repeat = 0; repeat < 300; ++repeat) {
    std::atomic<int> arrived{0};
    const TokenStatus status = fd::OpenMP{2}.for_each(2, [&](std::ptrdiff_t i) noexcept {
      ++arrived;
      // Not for ever: there may be one thread after all.
      for (int spin = 0; spin < 20'000 && arrived < 2; ++spin) {
      }
      return i == 0 ? TokenStatus::has_nan : TokenStatus::no_finite_logit;
    });
    lost += static_cast<int>(status != (TokenStatus::has_nan | TokenStatus::no_finite_logit));
  }
  CHECK(lost == 0);
}

TEST_CASE("a routing is the same, bit for bit, on any number of threads") {
  test::Random random(101);
  for (const int experts : {5, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 20, random);
    const fd::Router router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                            fd::SoftmaxWeights{}, fd::ExpertBounds{0, 4});
    const fd::AnyRouter any(router, "");
    const auto check = [&](auto execution) {
      const fd::LogitsView logits = batch.view();
      static_assert(noexcept(router.route(execution, logits, fd::DenseView{nullptr, 0})));
      static_assert(noexcept(any.route(execution, logits, fd::DenseView{nullptr, 0})));
      static_assert(noexcept(router.route(execution, logits, fd::CsrView<>{})));
      check_routing(execution, router, batch);
      check_routing(execution, any, batch);
    };
    check(fd::serial);
    check(TwoThreads{});
    for (const int threads : {0, 1, 2, 3}) check(fd::OpenMP{threads});
  }
}
