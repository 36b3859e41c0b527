#include "fdroute/views.hpp"

#include <doctest/doctest.h>

#include <Eigen/Core>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using fd::TokenStatus;
using test::index;

namespace {

/// An engine's own logit type: eighths.
struct Eighths {
  std::int16_t value;
  explicit operator float() const { return static_cast<float>(value) / 8.0F; }
};

static_assert(fd::LogitValue<float> && fd::LogitValue<double> && fd::LogitValue<Eighths>);
static_assert(fd::LogitValue<Eigen::half> && fd::LogitValue<Eigen::bfloat16>);
static_assert(!fd::LogitValue<const char*>);

auto bh_router(int experts, fd::ExpertBounds bounds = {}) {
  return fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                    fd::SoftmaxWeights{}, bounds);
}

}  // namespace

TEST_CASE("a logits view finds its rows") {
  const std::array<float, 12> data{};
  const fd::LogitsView dense(data.data(), 4, 3);
  CHECK(dense.stride == 3);
  CHECK(dense.row(2) == data.data() + 6);
  const fd::LogitsView strided(data.data(), 2, 3, 5);
  CHECK(strided.row(1) == data.data() + 5);
  const fd::LogitsView slice = dense.slice(1, 2);
  CHECK(slice.data == data.data() + 3);
  CHECK((slice.tokens == 2 && slice.experts == 3 && slice.stride == 3));
  CHECK(strided.slice(1, 1).data == data.data() + 5);
  CHECK(strided.slice(1, 1).stride == 5);
  // A batch may hold more than 2^31 logits.
  static_assert(std::is_same_v<decltype(dense.tokens), std::ptrdiff_t>);
  static_assert(std::is_same_v<decltype(dense.stride), std::ptrdiff_t>);
}

TEST_CASE("routing views find their rows and deduce the type of ids") {
  std::array<std::int64_t, 6> experts{};
  std::array<float, 6> weights{};
  std::array<std::int32_t, 3> counts{};
  std::array<TokenStatus, 3> status{};
  const fd::RoutingView plain{experts.data(), weights.data(), counts.data(), 2};
  static_assert(std::is_same_v<decltype(plain), const fd::RoutingView<std::int64_t>>);
  CHECK(plain.padding == fd::Padding::minus_one);
  CHECK(plain.from(2).experts == experts.data() + 4);
  CHECK(plain.from(2).weights == weights.data() + 4);
  CHECK(plain.from(2).counts == counts.data() + 2);
  CHECK(plain.from(2).status == nullptr);
  const fd::RoutingView full{
      experts.data(), weights.data(), counts.data(), 2, fd::Padding::repeat_valid, status.data()};
  CHECK(full.from(1).status == status.data() + 1);
  CHECK(full.from(1).padding == fd::Padding::repeat_valid);
  CHECK(full.from(1).capacity == 2);

  const fd::DenseView bare{weights.data(), 2};
  CHECK(bare.from(1).weights == weights.data() + 2);
  CHECK((bare.from(1).counts == nullptr && bare.from(1).status == nullptr));
  const fd::DenseView dense{weights.data(), 2, counts.data(), status.data()};
  CHECK((dense.from(1).counts == counts.data() + 1 && dense.from(1).status == status.data() + 1));
  CHECK(dense.from(1).stride == 2);

  std::array<std::int64_t, 4> offsets{};
  const fd::CsrView csr{offsets.data(), experts.data(), weights.data()};
  static_assert(std::is_same_v<decltype(csr), const fd::CsrView<std::int64_t>>);
  CHECK(csr.from(2).offsets == offsets.data() + 2);
  // Offsets count from the first of all places.
  CHECK((csr.from(2).experts == experts.data() && csr.from(2).weights == weights.data()));
  CHECK(csr.from(2).status == nullptr);
  const fd::CsrView csr_with{offsets.data(), experts.data(), weights.data(), status.data()};
  CHECK(csr_with.from(2).status == status.data() + 2);
}

TEST_CASE("statuses combine as bits") {
  constexpr TokenStatus both = TokenStatus::has_nan | TokenStatus::no_finite_logit;
  static_assert(has(both, TokenStatus::has_nan) && has(both, TokenStatus::no_finite_logit));
  static_assert(!has(TokenStatus::has_nan, TokenStatus::no_finite_logit));
  static_assert(!has(TokenStatus::ok, TokenStatus::has_nan));
  static_assert(sizeof(TokenStatus) == 1);
}

TEST_CASE("every token has its status, and the call returns their union") {
  const auto router = bh_router(3);
  const test::Batch batch{3,
                          {1.0F, 2.0F, 3.0F,                                 //
                           test::nan, 2.0F, 3.0F,                            //
                           test::nan, test::nan, test::nan,                  //
                           test::infinity, -test::infinity, test::infinity,  //
                           test::nan, -test::infinity, test::infinity,       //
                           test::infinity, 0.0F, -test::infinity}};
  const std::vector<int> expected{0, 1, 3, 2, 3, 0};
  test::Padded out(6, router.capacity());
  CHECK(static_cast<int>(router.route(batch.view(), out.view())) == 3);
  for (std::ptrdiff_t t = 0; t < 6; ++t) {
    CHECK(static_cast<int>(out.status[t]) == expected[index(t)]);
    CHECK(static_cast<int>(router.route(batch.view().slice(t, 1), out.view().from(t))) ==
          expected[index(t)]);
  }
  CHECK(router.route(batch.view().slice(0, 0), out.view()) == TokenStatus::ok);
}

TEST_CASE("statuses and dense counts may be left out") {
  test::Random random(51);
  const test::Batch batch = test::batch_of_every_kind(16, 1, random);
  const auto router = bh_router(16, {0, 5});
  const auto full = test::routed(router, batch.view());
  test::Padded out(batch.tokens(), router.capacity());
  const fd::RoutingView without{out.experts.data(), out.weights.data(), out.counts.data(), 5};
  CHECK(static_cast<int>(router.route(batch.view(), without)) == 3);
  CHECK(out.experts == full.experts);
  CHECK(out.weights == full.weights);
  CHECK(out.counts == full.counts);
  CHECK(out.status == test::Guarded<TokenStatus>(batch.tokens()));  // untouched
}

TEST_CASE("what a token leaves unused is padded as asked") {
  const auto router = bh_router(4, {0, 3});
  const test::Batch batch{4,
                          {0.0F, 9.0F, 0.0F, 0.0F,  // one expert
                           1.0F, 1.0F, 1.0F, 1.0F,  // none
                           test::nan, test::nan, test::nan, test::nan}};
  const auto minus_one = test::routed(router, batch.view(), fd::Padding::minus_one);
  const auto repeated = test::routed(router, batch.view(), fd::Padding::repeat_valid);
  const std::array<std::int32_t, 3> counts{1, 0, 0};
  const std::array<std::int32_t, 9> with_minus_one{1, -1, -1, -1, -1, -1, -1, -1, -1};
  const std::array<std::int32_t, 9> with_valid{1, 1, 1, 0, 0, 0, 0, 0, 0};
  for (std::ptrdiff_t t = 0; t < 3; ++t) CHECK(minus_one.counts[t] == counts[index(t)]);
  for (std::ptrdiff_t i = 0; i < 9; ++i) {
    CHECK(minus_one.experts[i] == with_minus_one[index(i)]);
    CHECK(repeated.experts[i] == with_valid[index(i)]);
    if (i > 0) {
      CHECK(std::bit_cast<std::uint32_t>(minus_one.weights[i]) == 0);
      CHECK(std::bit_cast<std::uint32_t>(repeated.weights[i]) == 0);
    }
  }
  CHECK(minus_one.counts == repeated.counts);
}

TEST_CASE("rows may be wider than the router's capacity; ids may have another type") {
  test::Random random(52);
  const test::Batch batch = test::batch_of_every_kind(20, 3, random);
  const auto router = bh_router(20, {1, 4});
  const auto narrow = test::routed(router, batch.view());
  for (const auto padding : {fd::Padding::minus_one, fd::Padding::repeat_valid}) {
    test::Padded<std::int64_t> wide(batch.tokens(), 7, padding);
    router.route(batch.view(), wide.view());
    CHECK(wide.guards_intact());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      oracle::Token token;
      for (int i = 0; i < narrow.counts[t]; ++i) {
        token.experts.push_back(narrow.experts[4 * t + i]);
        token.weights.push_back(static_cast<double>(narrow.weights[4 * t + i]));
      }
      token.has_nan = has(narrow.status[t], TokenStatus::has_nan);
      token.no_finite_logit = has(narrow.status[t], TokenStatus::no_finite_logit);
      CHECK(test::difference(token, wide, t, batch.row(t)) == "");
    }
  }
}

TEST_CASE("strided logits are routed as contiguous ones, and what lies between is not read") {
  test::Random random(53);
  const test::Batch batch = test::batch_of_every_kind(11, 2, random);
  const auto router = bh_router(11);
  const auto expected = test::routed(router, batch.view());
  for (const std::ptrdiff_t stride : {11, 12, 40}) {
    std::vector<float> spread(index(stride * batch.tokens()), 1e30F);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const auto row = batch.row(t);
      std::copy(row.begin(), row.end(), spread.begin() + t * stride);
    }
    const fd::LogitsView view(spread.data(), batch.tokens(), 11, stride);
    CHECK(test::routed(router, view) == expected);
  }
  // A negative stride walks backwards; stride 0 reads one row again and again.
  const fd::LogitsView backwards(batch.logits.data() + 11 * (batch.tokens() - 1), batch.tokens(),
                                 11, -11);
  const auto reversed = test::routed(router, backwards);
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
    CHECK(reversed.counts[t] == expected.counts[batch.tokens() - 1 - t]);
  const auto repeated = test::routed(router, fd::LogitsView(batch.logits.data(), 3, 11, 0));
  for (std::ptrdiff_t t = 0; t < 3; ++t) CHECK(repeated.counts[t] == expected.counts[0]);
}

TEST_CASE("a dense routing scatters the padded one") {
  test::Random random(54);
  for (const int experts : {1, 7, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
    const auto router = bh_router(experts, {0});
    const auto padded = test::routed(router, batch.view());
    for (const std::ptrdiff_t stride : {experts, experts + 5}) {
      test::Guarded<float> weights(batch.tokens() * stride);
      test::Guarded<std::int32_t> counts(batch.tokens());
      test::Guarded<TokenStatus> status(batch.tokens());
      test::Guarded<float> expected(batch.tokens() * stride);
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        // What lies between the rows stays as it was.
        std::fill_n(expected.data() + t * stride, experts, 0.0F);
        for (std::ptrdiff_t i = 0; i < padded.counts[t]; ++i) {
          expected.data()[t * stride + padded.experts[t * experts + i]] =
              padded.weights[t * experts + i];
        }
      }
      const fd::DenseView out{weights.data(), stride, counts.data(), status.data()};
      CHECK(static_cast<int>(router.route(batch.view(), out)) == 3);
      CHECK(weights == expected);
      CHECK(counts == padded.counts);
      CHECK(status == padded.status);
      const test::Guarded<float> written = weights;
      router.route(batch.view(), fd::DenseView{weights.data(), stride});
      CHECK(weights == written);
    }
  }
}

TEST_CASE_TEMPLATE("logits of any type are routed as the floats they convert to", T, double,
                   Eigen::half, Eigen::bfloat16, Eighths) {
  test::Random random(55);
  const int experts = 24;
  std::vector<T> logits;
  std::vector<float> as_float;
  for (int i = 0; i < 40 * experts; ++i) {
    // Multiples of 1/8 up to 16, exact in all of these types.
    const int eighths = random.below(257) - 128;
    if constexpr (std::is_same_v<T, Eighths>) {
      logits.push_back({static_cast<std::int16_t>(eighths)});
    } else {
      logits.push_back(static_cast<T>(static_cast<float>(eighths) / 8.0F));
      if (i % 50 == 0) logits.back() = static_cast<T>(test::nan);
      if (i % 70 == 0) logits.back() = static_cast<T>(test::infinity);
      if (i % 90 == 0) logits.back() = static_cast<T>(-test::infinity);
    }
    as_float.push_back(static_cast<float>(logits.back()));
  }
  const auto router = bh_router(experts, {0});
  const auto expected = test::routed(router, fd::LogitsView(as_float.data(), 40, experts));
  test::Padded out(40, experts);
  router.route(fd::LogitsView(logits.data(), 40, experts), out.view());
  CHECK(out == expected);
  CHECK(out.guards_intact());
}

TEST_CASE("a double beyond float's range becomes an infinity, one too small a zero") {
  const std::array<double, 4> logits{-1e300, 1e-300, 1e300, 1.0};
  const fd::Router router(4, fd::TopK{4});
  test::Padded out(1, 4);
  router.route(fd::LogitsView(logits.data(), 1, 4), out.view());
  const std::array<std::int32_t, 4> order{2, 3, 1, 0};
  for (std::ptrdiff_t i = 0; i < 4; ++i) CHECK(out.experts[i] == order[index(i)]);
  CHECK(out.weights[0] == 1.0F);
  CHECK(out.weights[1] == 0.0F);
  // Two doubles that round to one float tie: the lower index comes first.
  const std::array<double, 4> close{1.0, 1.0 + 1e-12, 0.0, 0.0};
  router.route(fd::LogitsView(close.data(), 1, 4), out.view());
  CHECK((out.experts[0] == 0 && out.experts[1] == 1));
}
