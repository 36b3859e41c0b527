// No combination of policies gives a weight that is not a number to a row that has one.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fdroute/fdroute.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;
using test::index;

namespace {

using Logits = std::span<const float>;
using Experts = std::span<const std::int32_t>;

/// Any ranking, and any weights, behind one type each.
struct SomeRanking {
  std::function<void(Logits, std::span<float>)> fill;
  fd::TieOrder ties = fd::TieOrder::lowest_index;
  void operator()(Logits logits, std::span<float> keys) const noexcept { fill(logits, keys); }
};
struct SomeWeights {
  std::function<void(Logits, Experts, std::span<float>)> weigh;
  double all = 1.0;  // what renormalised weights add up to; 0 if they are not
  bool softmax = false;
  void operator()(Logits logits, Experts experts, std::span<float> weights) const noexcept {
    weigh(logits, experts, weights);
  }
};

std::vector<SomeRanking> rankings(int experts, test::Random& random) {
  std::vector<float> bias;
  std::vector<float> arbitrary;
  for (int j = 0; j < experts; ++j) {
    bias.push_back(j % 5 == 3 ? -test::infinity : random.normal());
    arbitrary.push_back(random.below(4) == 0 ? test::infinity : random.normal());
  }
  std::vector<SomeRanking> all{
      {fd::ByLogit{}},
      {fd::BySigmoid{}},
      {fd::BySigmoid{bias}},
      // Off are the experts of even id; keys that no logit decides; the smallest logit first.
      {[](Logits logits, std::span<float> keys) {
        for (std::size_t j = 0; j < keys.size(); ++j)
          keys[j] = j % 2 == 0 ? -test::infinity : logits[j];
      }},
      {[arbitrary](Logits, std::span<float> keys) {
        std::copy(arbitrary.begin(), arbitrary.end(), keys.begin());
      }},
      {[](Logits logits, std::span<float> keys) {
        std::transform(logits.begin(), logits.end(), keys.begin(), [](float x) { return -x; });
      }}};
  for (const float masked : {-test::infinity, 0.0F}) {
    all.push_back({fd::GroupLimited<>{.groups = 2, .masked = masked}});
    all.push_back({fd::GroupLimited<fd::BySigmoid>{
        .ranking = {bias}, .groups = 2, .score = fd::GroupScore::sum_of_top2, .masked = masked}});
  }
  return all;
}

std::vector<SomeWeights> weights() {
  std::vector<SomeWeights> all;
  for (const bool renormalize : {false, true}) {
    const double sum = renormalize ? 1.0 : 0.0;
    for (const double temperature : {1.0, 0.3, 1e-3, 1e30}) {
      const fd::SoftmaxWeights softmax{temperature, renormalize};
      all.push_back({softmax, sum, true});
      all.push_back({fd::Scaled<fd::SoftmaxWeights>{softmax, 16.0F}, 16.0 * sum, true});
      if (renormalize) continue;
      for (const double g : {0.3, 1.0}) {
        const fd::SoftmaxWeights mass{.temperature = temperature, .mass_exponent = g, .mass_k = 3};
        all.push_back({mass, sum, true});
      }
    }
    const fd::SigmoidWeights sigmoid{renormalize, renormalize ? 1e-20 : 0.0};
    all.push_back({sigmoid, sum});
    all.push_back({fd::Scaled<fd::SigmoidWeights>{sigmoid, 2.5F}, 2.5 * sum});
  }
  return all;
}

test::Batch nasty_batch(int experts, test::Random& random) {
  test::Batch batch = test::batch_of_every_kind(experts, 2, random);
  for (const float strong : {800.0F, test::infinity, 3e38F}) {
    for (const float weak : {0.0F, -800.0F, -3e38F, -test::infinity, test::nan}) {
      for (const bool even : {false, true}) {
        std::vector<float> row(index(experts), weak);
        for (int j = even ? 0 : 1; j < experts; j += 2) row[index(j)] = strong;
        batch.add(row);
        row.assign(index(experts), weak);
        row[index(even ? 0 : experts - 1)] = strong;
        row[index(experts / 2)] = 0.0F;
        batch.add(row);
      }
    }
  }
  return batch;
}

/// Whether a routing's weights are numbers in range, and make up `all` where they should.
template <class AnyPolicy>
std::string fault(const AnyPolicy& router, const test::Batch& batch, const SomeWeights& expected) {
  const auto out = test::routed(router, batch.view());
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const std::vector<float> row = batch.row(t);
    const auto usable = [](float x) { return x > -test::infinity; };
    double sum = 0.0;
    bool any_usable = false;
    for (int i = 0; i < out.counts[t]; ++i) {
      const float weight = out.weights[t * out.capacity + i];
      const float logit = row[index(out.experts[t * out.capacity + i])];
      if (!(weight >= 0.0F && weight <= 16.0F))
        return "token " + std::to_string(t) + ": not in range";
      if (!usable(logit) && weight != 0.0F) return "token " + std::to_string(t) + ": masked";
      any_usable |= usable(logit);
      sum += static_cast<double>(weight);
    }
    const bool routed = !fd::has(out.status[t], fd::TokenStatus::no_finite_logit);
    if (routed && any_usable && expected.softmax && expected.all > 0.0 &&
        std::abs(sum - expected.all) > 1e-4 * expected.all)
      return "token " + std::to_string(t) + ": a sum of " + std::to_string(sum);
  }
  return "";
}

}  // namespace

TEST_CASE("no combination of policies weighs by NaN") {
  test::Random random(131);
  for (const int experts : {2, 4, 10, 64}) {
    const test::Batch batch = nasty_batch(experts, random);
    std::vector<fd::NormalNull> nulls;
    std::vector<double> prior;
    for (int j = 0; j < experts; ++j) {
      nulls.push_back({static_cast<double>(random.normal()), 1.0});
      prior.push_back(j % 2 == 0 ? 0.0 : 2.0);
    }
    const fd::NormalNull normal{0.0, 1.0};
    const int k = 1 + experts / 4;
    int number = 0;
    for (const SomeWeights& w : weights()) {
      for (const SomeRanking& ranking : rankings(experts, random)) {
        if (++number % test::stride_of_cases != 0) continue;
        INFO(experts, " experts, combination ", number);
        const fd::ExpertBounds bounds{1, k};
        const fd::BenjaminiHochberg bh{0.5};
        const fd::LogSoftmax score;
        const fd::ZScore zscore;
        CHECK(fault(fd::Router(experts, fd::TopK{k}, w, bounds, ranking), batch, w) == "");
        CHECK(fault(fd::Router(experts, fd::TopP{0.9}, w, bounds, ranking), batch, w) == "");
        CHECK(fault(fd::Router(experts, bh, zscore, normal, w, bounds, ranking), batch, w) == "");
        CHECK(fault(fd::Router(experts, bh, score, fd::PerExpertNull<fd::NormalNull>{nulls}, w,
                               bounds, ranking),
                    batch, w) == "");
        CHECK(fault(fd::Router(experts, bh, score, fd::WeightedNull{normal, prior}, w, bounds,
                               ranking),
                    batch, w) == "");
      }
    }
  }
}

TEST_CASE("renormalised weights are relative to the largest of the selected experts") {
  const auto routed = [](const auto& router, const std::vector<float>& row) {
    const auto out = test::routed(router, fd::LogitsView<float>(row.data(), 1, 2));
    return std::vector<float>{static_cast<float>(out.experts[0]), out.weights[0]};
  };
  // Expert 1 is preferred to one whose exp is beyond any ratio.
  const std::vector<float> preferred{1, 1};
  for (const double temperature : {1.0, 0.5}) {
    const fd::SoftmaxWeights weights{temperature, true};
    const SomeRanking without{[](Logits logits, std::span<float> keys) {
      keys[0] = -test::infinity;
      keys[1] = logits[1];
    }};
    const fd::Router off(2, fd::TopK{1}, weights, fd::ExpertBounds{}, without);
    CHECK(routed(off, {800, 0}) == preferred);
    CHECK(routed(off, {test::infinity, 0}) == preferred);
    const fd::PerExpertNull<fd::NormalNull> nulls{{{1000, 1}, {-10, 1}}};
    const fd::Router by_p(2, fd::TopK{1}, fd::Logit{}, nulls, weights);
    CHECK(routed(by_p, {800, 0}) == preferred);
  }
}
