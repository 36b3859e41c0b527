// SoftmaxWeights that get back a part of the mass that unselected experts took with them.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fdroute/fdroute.hpp"
#include "library/definition.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

using Ids = std::vector<std::int32_t>;
using Weights = std::vector<float>;

Weights by(const fd::SoftmaxWeights& policy, const std::vector<float>& logits, const Ids& experts) {
  Weights weights(experts.size(), -1.0F);
  policy(logits, experts, weights);
  return weights;
}

fd::SoftmaxWeights mass(double exponent, int k, double temperature = 1.0) {
  return {.temperature = temperature, .mass_exponent = exponent, .mass_k = k};
}

Ids first_of_order(const std::vector<float>& row, int count) {
  const std::vector<int> order = oracle::order(row);
  return {order.begin(), order.begin() + count};
}

bool usable(float logit) {
  return std::isfinite(logit);
}

/// log of a sum of exp(x), the largest taken out; -inf for none.
long double log_sum_exp(const std::vector<long double>& x) {
  if (x.empty()) return -std::numeric_limits<long double>::infinity();
  const long double largest = *std::max_element(x.begin(), x.end());
  long double sum = 0;
  for (const long double a : x) sum += std::exp(a - largest);
  return largest + std::log(sum);
}

/// The formula, in logarithms: log w_j = log P_j + g (log P_K - log P_S). Without +inf.
std::vector<long double> expected(const std::vector<float>& row, const Ids& experts,
                                  const fd::SoftmaxWeights& policy) {
  std::vector<long double> all;
  std::vector<long double> selected;
  for (const float x : row) {
    if (usable(x)) all.push_back(x / static_cast<long double>(policy.temperature));
  }
  for (const std::int32_t j : experts) {
    const float x = row[index(j)];
    if (usable(x)) selected.push_back(x / static_cast<long double>(policy.temperature));
  }
  const long double log_all = log_sum_exp(all);
  std::sort(all.begin(), all.end(), std::greater<>());
  all.resize(std::min(all.size(), index(policy.mass_k)));
  const long double lost = log_sum_exp(all) - log_sum_exp(selected);
  std::vector<long double> weights;
  for (const std::int32_t j : experts) {
    const float x = row[index(j)];
    const long double log_p = x / static_cast<long double>(policy.temperature) - log_all;
    const long double log_w = log_p + static_cast<long double>(policy.mass_exponent) * lost;
    weights.push_back(usable(x) ? std::exp(log_w) : 0.0L);
  }
  return weights;
}

/// How many weights are not within 4 ulp.
int off(const std::vector<float>& row, const Ids& experts, const fd::SoftmaxWeights& policy) {
  const Weights actual = by(policy, row, experts);
  const std::vector<long double> wanted = expected(row, experts, policy);
  int n = 0;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const auto rounded = static_cast<float>(wanted[i]);
    n += oracle::ulps_between(actual[i], rounded) <= 4 ? 0 : 1;
  }
  return n;
}

bool has_plus_infinity(const std::vector<float>& row) {
  return std::ranges::find(row, test::infinity) != row.end();
}

constexpr std::array exponents{0.01, 0.25, 0.5, 0.83, 1.0};

}  // namespace

TEST_CASE("mass_exponent: the softmax over all, times (P_K / P_S)^g") {
  test::Random random(241);
  int compared = 0;
  for (int experts = 1; experts <= 130; experts += experts % 7 == 0 ? 5 : 1) {
    const test::Batch batch = test::batch_of_every_kind(experts, 1, random);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (oracle::finite_values(row).empty() || has_plus_infinity(row)) continue;
      for (const double temperature : {1.0, 1.0, 0.25, 7.0}) {
        const double g = exponents[index(random.below(5))];
        const auto policy = mass(g, 1 + random.below(experts + 3), temperature);
        for (const int count : {0, 1, 1 + random.below(experts), experts}) {
          INFO(experts, " experts, token ", t, ", g ", g, ", K ", policy.mass_k, ", T ",
               temperature, ", count ", count);
          CHECK(off(row, first_of_order(row, count), policy) == 0);
          compared += count;
        }
      }
    }
  }
  CHECK(compared > 100'000);
}

TEST_CASE("mass_exponent: any selection, however far below the largest logit") {
  test::Random random(242);
  for (const int experts : {2, 9, 64, 100}) {
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<float> row;
      const float spread = std::array{1.0F, 5.0F, 40.0F, 300.0F}[index(repeat % 4)];
      for (int j = 0; j < experts; ++j) row.push_back(spread * random.normal());
      Ids ids(index(experts));
      std::iota(ids.begin(), ids.end(), 0);
      random.shuffle(ids);
      ids.resize(index(1 + random.below(experts)));
      for (const double g : exponents) {
        INFO(experts, " experts, repeat ", repeat, ", g ", g);
        CHECK(off(row, ids, mass(g, 1 + random.below(experts))) == 0);
        CHECK(off(row, ids, mass(g, 1 + random.below(experts), 0.5)) == 0);
      }
    }
  }
}

TEST_CASE("mass_exponent: by hand") {
  // P = .4, .3, .2, .1
  std::vector<float> row;
  for (const float p : {0.4F, 0.3F, 0.2F, 0.1F}) row.push_back(std::log(p));
  const auto near = [](float x) { return doctest::Approx(x).epsilon(1e-6); };
  CHECK(by(mass(0.5, 3), row, {0})[0] == near(0.6F));  // .4 sqrt(.9 / .4)
  CHECK(by(mass(1.0, 3), row, {0})[0] == near(0.9F));
  const Weights two = by(mass(1.0, 3), row, {0, 1});
  CHECK(two[0] == near(0.9F * 4 / 7));
  CHECK(two[1] == near(0.9F * 3 / 7));
  // More experts than K: a factor below 1.
  const Weights four = by(mass(0.5, 2), row, {0, 1, 2, 3});
  CHECK(four[0] == near(0.4F * std::sqrt(0.7F)));
  CHECK(four[3] == near(0.1F * std::sqrt(0.7F)));
  // Experts that a ranking prefers: P_K is still the largest logits'.
  CHECK(by(mass(0.5, 3), row, {3})[0] == near(0.3F));  // .1 sqrt(.9 / .1)
}

TEST_CASE("mass_exponent: without one, and for the K largest, the bits are those of no factor") {
  test::Random random(243);
  const auto bits = [](const Weights& w) {
    std::vector<std::uint32_t> all;
    for (const float x : w) all.push_back(std::bit_cast<std::uint32_t>(x));
    return all;
  };
  for (const int experts : {1, 8, 31, 64, 130, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (oracle::finite_values(row).empty()) continue;
      const int k = 1 + random.below(experts);
      const Ids ids = first_of_order(row, k);
      for (const double temperature : {1.0, 0.7}) {
        const auto plain = bits(by({.temperature = temperature}, row, ids));
        CHECK(bits(by(mass(0.0, 3, temperature), row, ids)) == plain);
        for (const double g : exponents)
          CHECK(bits(by(mass(g, k, temperature), row, ids)) == plain);
      }
    }
  }
}

TEST_CASE("mass_exponent: weights sum to P_K^g P_S^(1 - g); with g = 1 and all experts to 1") {
  test::Random random(244);
  for (const int experts : {5, 64, 100}) {
    for (int repeat = 0; repeat < 100; ++repeat) {
      std::vector<float> row;
      for (int j = 0; j < experts; ++j) row.push_back(2.0F * random.normal());
      const auto p = [&](int k) {
        const Weights w = by({}, row, first_of_order(row, k));
        return std::accumulate(w.begin(), w.end(), 0.0);
      };
      const int k = 1 + random.below(experts);
      const int count = 1 + random.below(experts);
      const Ids ids = first_of_order(row, count);
      for (const double g : exponents) {
        const Weights w = by(mass(g, k), row, ids);
        CHECK(std::accumulate(w.begin(), w.end(), 0.0) ==
              doctest::Approx(std::pow(p(k), g) * std::pow(p(count), 1.0 - g)).epsilon(1e-6));
      }
      const Weights renormalised = by({.renormalize = true}, row, ids);
      const Weights all = by(mass(1.0, experts + repeat % 2), row, ids);
      for (std::size_t i = 0; i < ids.size(); ++i)
        CHECK(oracle::ulps_between(all[i], renormalised[i]) <= 4);
    }
  }
}

TEST_CASE("mass_exponent: NaN, infinities and empty selections") {
  const float inf = test::infinity;
  const std::vector<float> odd{inf, 3.0F, test::nan, inf, -inf};
  for (const double temperature : {1.0, 0.5}) {
    const auto half = mass(0.5, 2, temperature);
    const auto whole = mass(1.0, 2, temperature);
    CHECK(by(half, odd, {}).empty());
    CHECK(by(half, odd, {2, 4}) == Weights{0.0F, 0.0F});
    // The two +inf share 1, and are the 2 largest.
    CHECK(by(half, odd, {0, 3, 1, 2, 4}) == Weights{0.5F, 0.5F, 0.0F, 0.0F, 0.0F});
    // One of them: P_K / P_S = 2.
    const float root = std::sqrt(0.5F);
    CHECK(by(half, odd, {3, 1})[0] == doctest::Approx(root).epsilon(1e-7));
    CHECK(by(half, odd, {3, 1})[1] == 0.0F);
    CHECK(by(whole, odd, {3, 1}) == Weights{1.0F, 0.0F});
    // None of them: the limit, where P_S goes to 0.
    CHECK(by(half, odd, {1, 2}) == Weights{0.0F, 0.0F});
    CHECK(by(whole, odd, {1, 2}) == Weights{1.0F, 0.0F});
    // NaN is no number of the row, and no part of any mass.
    CHECK(by(half, {test::nan, 2.0F, -inf}, {1, 0, 2}) == Weights{1.0F, 0.0F, 0.0F});
    CHECK(by(half, {test::nan, -inf}, {0}) == Weights{0.0F});
    // Differences beyond float's and exp's range.
    CHECK(by(half, {3e38F, -3e38F}, {1}) == Weights{0.0F});
    CHECK(by(whole, {3e38F, -3e38F}, {1}) == Weights{1.0F});
  }
}

TEST_CASE("mass_exponent: rows without a finite logit, masked experts, through a router") {
  test::Batch batch{4};
  batch.add({test::nan, test::nan, test::nan, test::nan});
  batch.add({-test::infinity, 0.0F, -test::infinity, -test::infinity});
  const auto out =
      test::routed(fd::Router(4, fd::TopK{2}, mass(0.5, 3), fd::ExpertBounds{1, 2}), batch.view());
  CHECK(fd::has(out.status[0], fd::TokenStatus::no_finite_logit));
  CHECK((out.weights[0] == 0.0F && out.counts[0] == 1));
  CHECK((out.experts[2] == 1 && out.weights[2] == 1.0F && out.weights[3] == 0.0F));
}

TEST_CASE("mass_exponent: what a router refuses") {
  const auto rejection = [](const fd::SoftmaxWeights& weights) {
    return test::rejection_of([&] { fd::Router(4, fd::TopK{2}, weights); });
  };
  CHECK(rejection(mass(1.0, 4)) == "no error");
  CHECK(rejection(mass(0.5, 400)) == "no error");  // all experts
  CHECK(rejection(mass(-0.1, 4)) == "SoftmaxWeights: mass_exponent must lie in [0, 1], got -0.1");
  CHECK(rejection(mass(1.5, 4)) == "SoftmaxWeights: mass_exponent must lie in [0, 1], got 1.5");
  CHECK(rejection(mass(std::numeric_limits<double>::quiet_NaN(), 4)) ==
        "SoftmaxWeights: mass_exponent must lie in [0, 1], got nan");
  CHECK(rejection(mass(0.5, 0)) == "SoftmaxWeights: mass_k must be at least 1, got 0");
  CHECK(rejection({.renormalize = true, .mass_exponent = 0.5}) ==
        "SoftmaxWeights: renormalize undoes mass_exponent, got 0.5");
  CHECK(rejection({.renormalize = true, .mass_k = 4}) == "no error");
}

TEST_CASE("mass_exponent: rankings and nulls that do not go by logits are weighed as defined") {
  test::Random random(245);
  for (const int experts : {8, 40, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    std::vector<fd::NormalNull> nulls;
    for (int j = 0; j < experts; ++j) nulls.push_back({0.3 * random.normal(), 1.0});
    const auto check = [&](const auto& router) {
      const auto out = test::routed(router, batch.view());
      CHECK(out == test::routed(test::Definition(router), batch.view()));
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        if (fd::has(out.status[t], fd::TokenStatus::no_finite_logit)) continue;
        const std::int32_t* ids = &out.experts[t * out.capacity];
        const Ids selected(ids, ids + out.counts[t]);
        const Weights direct = by(router.weights(), batch.row(t), selected);
        for (std::size_t i = 0; i < selected.size(); ++i)
          CHECK(out.weights[t * out.capacity + static_cast<std::ptrdiff_t>(i)] == direct[i]);
      }
    };
    const auto policy = mass(0.4, 4);
    const fd::GroupLimited<> groups{.groups = 4, .kept = 1};
    check(fd::Router(experts, fd::TopK{2}, policy, fd::ExpertBounds{}, groups));
    check(fd::Router(experts, fd::BenjaminiHochberg{0.5}, fd::ZScore{},
                     fd::PerExpertNull<fd::NormalNull>{nulls}, policy));
  }
}

TEST_CASE("mass_exponent: Scaled multiplies last") {
  test::Random random(246);
  const test::Batch batch = test::batch_of_every_kind(64, 2, random);
  const auto plain = test::routed(fd::Router(64, fd::TopK{3}, mass(0.4, 8)), batch.view());
  const auto scaled =
      test::routed(fd::Router(64, fd::TopK{3}, fd::Scaled<fd::SoftmaxWeights>{mass(0.4, 8), 2.5F}),
                   batch.view());
  for (std::ptrdiff_t i = 0; i < 3 * batch.tokens(); ++i)
    CHECK(scaled.weights[i] == 2.5F * plain.weights[i]);
}
