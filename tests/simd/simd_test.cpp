#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "archs.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"
#include "routes.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;
using test::index;

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Of random cases, for each policy and number of experts. tests/matrix has emulated machines.
#if defined(FDROUTE_TEST_NATIVE)
constexpr int repeats = 1;
#else
constexpr int repeats = 4;
#endif

/// The name of the first form in which two routings differ by a bit, or "".
std::string difference(const Routes& a, const Routes& b) {
  if (!same_bits(a.counts, b.counts)) return "counts";
  if (!same_bits(a.experts, b.experts)) return "experts";
  if (!same_bits(a.weights, b.weights)) return "weights";
  if (!same_bits(a.status, b.status)) return "status";
  if (!same_bits(a.dense, b.dense)) return "dense";
  if (!same_bits(a.masks, b.masks)) return "masks";
  if (!same_bits(a.offsets, b.offsets)) return "offsets";
  if (!same_bits(a.csr_experts, b.csr_experts)) return "CSR experts";
  if (!same_bits(a.csr_weights, b.csr_weights)) return "CSR weights";
  if (!same_bits(a.dense_status, b.dense_status)) return "dense status";
  if (!same_bits(a.mask_status, b.mask_status)) return "mask status";
  if (!same_bits(a.csr_status, b.csr_status)) return "CSR status";
  if (!same_bits(a.completed_counts, b.completed_counts)) return "completed counts";
  if (!same_bits(a.completed_experts, b.completed_experts)) return "completed experts";
  if (!same_bits(a.completed_weights, b.completed_weights)) return "completed weights";
  if (!same_bits(a.completed_status, b.completed_status)) return "completed status";
  return "";
}

/// The name of the first form that differs by a bit from the padded one, or "".
std::string difference_of_forms(const Routes& routes, int experts) {
  const std::size_t tokens = routes.counts.size();
  const auto m = static_cast<std::size_t>(experts);
  const std::size_t width = routes.experts.size() / tokens;
  const std::size_t words = (m + 63) / 64;
  std::vector<float> dense(tokens * m);
  std::vector<std::uint64_t> masks(tokens * words);
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> csr_experts;
  std::vector<float> csr_weights;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = t * width; i < t * width + index(routes.counts[t]); ++i) {
      const auto expert = index(routes.experts[i]);
      dense[t * m + expert] = routes.weights[i];
      masks[t * words + expert / 64] |= std::uint64_t{1} << (expert % 64);
      csr_experts.push_back(routes.experts[i]);
      csr_weights.push_back(routes.weights[i]);
    }
    offsets.push_back(static_cast<std::int64_t>(csr_experts.size()));
  }
  if (!same_bits(dense, routes.dense)) return "dense";
  if (!same_bits(masks, routes.masks)) return "masks";
  if (!same_bits(offsets, routes.offsets)) return "offsets";
  if (!same_bits(csr_experts, routes.csr_experts)) return "CSR experts";
  if (!same_bits(csr_weights, routes.csr_weights)) return "CSR weights";
  if (!same_bits(routes.status, routes.dense_status)) return "dense status";
  if (!same_bits(routes.status, routes.mask_status)) return "mask status";
  if (!same_bits(routes.status, routes.csr_status)) return "CSR status";
  return "";
}

std::string text_of(const Case& c) {
  const AnyRanking& r = c.ranking;
  return "policy " + std::to_string(static_cast<int>(c.policy)) + ", ranking " +
         std::to_string(static_cast<int>(r.kind)) + ", groups " +
         std::to_string(r.by_groups.groups) + ", kept " + std::to_string(r.by_groups.kept) +
         ", sigmoid weights " + std::to_string(c.weights.by_sigmoid) + ", experts " +
         std::to_string(c.experts) + ", k " + std::to_string(c.k) + ", alpha " +
         std::to_string(c.alpha) + ", min_k " + std::to_string(c.bounds.min_k) + ", max_k " +
         std::to_string(c.bounds.max_k) + ", slices of " + std::to_string(c.slice);
}

std::vector<int> every_width() {
  std::vector<int> widths(130);
  std::iota(widths.begin(), widths.end(), 1);
  for (const int experts : {160, 255, 256, 257, 384, 511, 512, 513, 1023, 1024})
    widths.push_back(experts);
  return widths;
}

AnyWeights random_weights(test::Random& random) {
  const bool renormalize = random.below(2) == 0;
  const double mass_exponent = renormalize || random.below(2) == 0 ? 0.0 : 0.4;
  return {.softmax = {random.below(4) == 0 ? 0.7 : 1.0, renormalize, mass_exponent,
                      1 + random.below(random.below(2) == 0 ? 12 : 140)},
          .sigmoid = {renormalize, std::array{0.0, 1e-20, 0.25}[index(random.below(3))]},
          .by_sigmoid = random.below(3) == 0,
          .factor = std::array{1.0F, 1.0F, 2.5F}[index(random.below(3))]};
}

/// A ranking for `experts` experts, by logits half of the time; any number of groups that there
/// may be, and most often one that kernels know.
AnyRanking random_ranking(int experts, test::Random& random) {
  AnyRanking ranking;
  if (random.below(2) == 0) return ranking;
  ranking.kind = static_cast<AnyRanking::Kind>(random.below(AnyRanking::kinds));
  std::vector<int> divisors;
  for (int n = 1; n <= experts; ++n) {
    if (experts % n == 0 && (n <= 16 || random.below(4) == 0)) divisors.push_back(n);
  }
  const int groups = divisors[index(random.below(static_cast<int>(divisors.size())))];
  const int kept = 1 + random.below(groups);
  const auto score =
      groups < experts && random.below(2) == 0 ? fd::GroupScore::sum_of_top2 : fd::GroupScore::max;
  const float masked = random.below(3) == 0 ? 0.0F : -test::infinity;
  ranking.by_groups = {{}, groups, kept, score, masked};
  std::vector<float> bias;
  if (random.below(3) > 0) {
    for (int j = 0; j < experts; ++j) bias.push_back(0.2F * random.normal());
    if (random.below(3) == 0)
      bias[index(random.below(experts))] = experts > 1 ? -test::infinity : 0.0F;
  }
  ranking.by_sigmoid_groups = {{bias}, groups, kept, score, masked};
  return ranking;
}

/// Draws a policy for `experts` experts.
Case random_case(Case::Policy policy, int experts, test::Random& random) {
  constexpr std::array alphas{0.01, 0.3, 0.7, 0.99};
  Case c;
  c.policy = policy;
  c.experts = experts;
  c.k = 1 + random.below(random.below(2) == 0 ? std::min(experts, 17) : experts);
  c.alpha = alphas[index(random.below(4))];
  // Such sums are met exactly where logits are equal.
  if (policy == Case::Policy::top_p && random.below(2) == 0)
    c.alpha = (1 + random.below(16)) / 16.0;
  c.weights = random_weights(random);
  c.ranking = random_ranking(experts, random);
  constexpr std::array stored{Case::Stored::as_float, Case::Stored::as_float,
                              Case::Stored::as_columns, Case::Stored::as_double,
                              Case::Stored::as_half};
  c.stored = stored[index(random.below(5))];
  c.slice = random.below(3) == 0 ? 0 : 1 + random.below(17);
  const int min_k = random.below(3) == 0 ? random.below(std::min(experts, 20) + 1) : 0;
  c.bounds = {min_k,
              random.below(2) == 0 ? std::max(1, min_k + random.below(9)) : fd::ExpertBounds::all};
  return c;
}

/// Rows of every kind, some of few experts, all in one lane of 16 or spread, and, in half of the
/// batches, one far from 0, where a float's steps are coarse.
test::Batch random_batch(int experts, test::Random& random) {
  test::Batch batch = test::batch_of_every_kind(experts, experts > 130 ? 1 : 2, random);
  for (int i = 0; i < 4; ++i) {
    std::vector<float> row(index(experts), -test::infinity);
    const int step = i % 2 == 0 ? 16 : 1 + random.below(experts);
    for (int j = random.below(experts); j < experts; j += step) row[index(j)] = random.normal();
    batch.add(row);
  }
  for (const int of_ten : {1, 5, 9}) {  // masked experts
    std::vector<float> row;
    for (int j = 0; j < experts; ++j)
      row.push_back(random.below(10) < of_ten ? -test::infinity : 2.0F * random.normal());
    batch.add(row);
  }
  if (random.below(2) == 0) {
    const float centre = std::array{399.0F, 900.0F, -2000.0F, 20'000.0F}[index(random.below(4))];
    std::vector<float> row;
    for (int j = 0; j < experts; ++j) row.push_back(centre + 2.0F * random.normal());
    batch.add(row);
  }
  return batch;
}

}  // namespace

Routes route_by_definition(const Case& c) {
  return route_on<fd::ScalarArch, true>(c);
}

TEST_CASE("every Arch routes with the same bits, and as the definition says") {
  const std::vector<Compiled> archs = vector_archs();
  const Compiled scalar = compiled_for_scalar();
  test::Random random(141);
  constexpr int stride = test::stride_of_cases;
  std::int64_t selected = 0;
  std::int64_t added = 0;
  for (const int experts : every_width()) {
    for (int policy = experts % stride; policy < Case::policies; policy += stride) {
      if (!is_compiled(static_cast<Case::Policy>(policy))) continue;
      for (int repeat = 0; repeat < repeats; ++repeat) {
        Case c = random_case(static_cast<Case::Policy>(policy), experts, random);
        c.logits = random_batch(experts, random).logits;
        const Routes expected = scalar.route(c);
        const Routes definition = route_by_definition(c);
        CHECK_MESSAGE(difference(definition, expected) == "", text_of(c));
        CHECK_MESSAGE(difference_of_forms(expected, experts) == "", text_of(c));
        for (const Compiled& arch : archs)
          CHECK_MESSAGE(difference(arch.route(c), expected) == "", arch.name, ": ", text_of(c));
        selected = std::accumulate(expected.counts.begin(), expected.counts.end(), selected);
        added = std::accumulate(expected.completed_counts.begin(), expected.completed_counts.end(),
                                added) -
                std::accumulate(expected.counts.begin(), expected.counts.end(), std::int64_t{0});
      }
    }
  }
  if (FDROUTE_POLICIES != ~0U) return;  // of some alone these are less
  CHECK(selected > 25'000 * repeats / stride);
  CHECK(added > 2'500 * repeats / stride);
}

// Whole blocks of them are written at once.
TEST_CASE("many rows of few experts, all of finite numbers") {
  if (!is_compiled(Case::Policy::topk)) return;
  const std::vector<Compiled> archs = vector_archs();
  test::Random random(145);
  for (const int experts : {1, 2, 5, 8, 9, 15, 16, 17, 24, 31, 32}) {
    for (const int k : {1, 2, 3, 4, 5, 8}) {
      Case c = random_case(Case::Policy::topk, experts, random);
      c.k = std::min(k, experts);
      c.bounds = {};
      c.ranking = {};
      c.stored = Case::Stored::as_float;
      c.slice = 0;
      for (int i = 0; i < 37 * experts; ++i) c.logits.push_back(random.normal());
      const Routes definition = route_by_definition(c);
      for (const Compiled& arch : archs)
        CHECK_MESSAGE(difference(definition, arch.route(c)) == "", arch.name, ": ", text_of(c));
    }
  }
}

// One token a call has a kernel of its own.
TEST_CASE("one token a call: every number of experts, ties, any ranking and weights") {
  using Policy = Case::Policy;
  const std::vector<Compiled> archs = vector_archs();
  test::Random random(149);
  for (const Policy policy : {Policy::topk, Policy::bh_logit, Policy::bh_log_softmax,
                              Policy::bh_zscore, Policy::holm_zscore}) {
    if (!is_compiled(policy)) continue;
    for (const int experts :
         {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 128, 160, 192, 256, 384, 1024}) {
      for (const int k : {1, 1, 2, 3, 4, 6, 8, 9, 16, 17}) {
        if (k > experts) continue;
        Case c = random_case(policy, experts, random);
        c.k = k;
        c.slice = 1;
        if (random.below(2) == 0) c.bounds = {};
        if (random.below(2) == 0) c.ranking = {};
        if (random.below(2) == 0) c.stored = Case::Stored::as_float;
        c.logits = random_batch(experts, random).logits;
        for (int i = 0; i < 16 * experts; ++i) {
          const float x = 1.5F * random.normal();
          c.logits.push_back(i < 8 * experts ? x : std::round(3.0F * x) / 3.0F);
        }
        const Routes definition = route_by_definition(c);
        for (const Compiled& arch : archs)
          CHECK_MESSAGE(difference(definition, arch.route(c)) == "", arch.name, ": ", text_of(c));
        CHECK_MESSAGE(difference(definition, compiled_for_scalar().route(c)) == "", text_of(c));
      }
    }
  }
}

TEST_CASE("TopP where a sum of probabilities is the level, or next to it") {
  if (!is_compiled(Case::Policy::top_p)) return;
  const std::vector<Compiled> archs = vector_archs();
  test::Random random(143);
  for (const int experts : {2, 7, 64, 100, 256, 1000}) {
    for (int repeat = 0; repeat < 40; repeat += test::stride_of_cases) {
      Case c = random_case(Case::Policy::top_p, experts, random);
      for (int j = 0; j < experts; ++j)
        c.logits.push_back(static_cast<float>(8.0 * random.uniform()));
      // As the rule sums.
      std::vector<float> sorted = c.logits;
      std::sort(sorted.begin(), sorted.end(), std::greater<>{});
      std::vector<double> sums;
      double sum = 0.0;
      for (const float x : sorted) sums.push_back(sum += std::exp(double{x} - double{sorted[0]}));
      const double level = sums[index(random.below(experts - 1))] / sum;
      for (const double p : {level, level * (1.0 - 1e-15), level * (1.0 + 1e-15),
                             level * (1.0 - 1e-7), level * (1.0 + 1e-7), level * (1.0 + 1e-5)}) {
        c.alpha = std::min(p, 1.0);
        const Routes definition = route_by_definition(c);
        for (const Compiled& arch : archs) {
          CHECK_MESSAGE(difference(definition, arch.route(c)) == "", arch.name, ": ", text_of(c));
        }
      }
    }
  }
}

// 256 experts, as many as are sorted in 16 columns.
TEST_CASE("TopP that takes all experts of many tokens") {
  if (!is_compiled(Case::Policy::top_p)) return;
  test::Random random(146);
  Case c = random_case(Case::Policy::top_p, 256, random);
  c.alpha = 1.0;
  c.bounds = {};
  c.ranking = {};
  c.stored = Case::Stored::as_float;
  c.slice = 0;
  c.logits.assign(std::size_t{5} * 256, 1.0F);
  const Routes definition = route_by_definition(c);
  CHECK(definition.counts == std::vector<std::int32_t>(5, 256));
  for (const Compiled& arch : vector_archs())
    CHECK_MESSAGE(difference(definition, arch.route(c)) == "", arch.name, ": ", text_of(c));
}

TEST_CASE("RelativeThreshold of logits next to the threshold") {
  if (!is_compiled(Case::Policy::relative)) return;
  const std::vector<Compiled> archs = vector_archs();
  test::Random random(144);
  std::int64_t selected = 0;
  for (int repeat = 0; repeat < 300; ++repeat) {
    Case c = random_case(Case::Policy::relative, 64, random);
    c.ranking = {};  // whose keys are the logits
    c.stored = Case::Stored::as_float;
    c.alpha = random.uniform() * 0.9 + 0.01;
    c.bounds = {0, fd::ExpertBounds::all};
    const auto largest = static_cast<float>(20.0 * (random.uniform() - 0.5));
    const auto near = static_cast<float>(double{largest} + std::log(c.alpha));
    c.logits.assign(64, std::nextafter(near, -test::infinity));
    std::fill_n(c.logits.begin(), 20, near);
    std::fill_n(c.logits.begin() + 20, 3, std::nextafter(near, test::infinity));
    c.logits[40] = largest;
    const Routes definition = route_by_definition(c);
    for (const Compiled& arch : archs) {
      CHECK_MESSAGE(difference(definition, arch.route(c)) == "", arch.name, ": ", text_of(c));
    }
    // In twice the precision, where near-ties do not depend on a rounding.
    const auto reached =
        static_cast<long double>(largest) + static_cast<long double>(std::log(c.alpha));
    const int expected = static_cast<long double>(near) >= reached ? 24 : 4;
    CHECK(definition.counts[0] == expected);
    selected += expected;
  }
  CHECK(selected > 300 * 8);
  CHECK(selected < 300 * 20);
}

TEST_CASE("every Arch widens all halves as their conversion does") {
  std::vector<Half> halves(0x10000);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i].bits = static_cast<std::uint16_t>(i);
  const auto check = [&](const char* name, const std::vector<float>& widened) {
    int wrong = 0;
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const auto expected = static_cast<float>(halves[i]);
      wrong += std::isnan(expected) ? !std::isnan(widened[i])
                                    : std::bit_cast<std::uint32_t>(widened[i]) !=
                                          std::bit_cast<std::uint32_t>(expected);
    }
    CHECK_MESSAGE(wrong == 0, name);
  };
  for (const Compiled& arch : vector_archs()) {
    check(arch.name, arch.widened(halves));
    check(arch.name, arch.widened_by_integers(halves));
  }
  check("scalar", compiled_for_scalar().widened(halves));
}

TEST_CASE("exps, their sum and the scores are the same bits on every Arch, and near the truth") {
  const std::vector<Compiled> archs = vector_archs();
  const Compiled scalar = compiled_for_scalar();
  const fd::TabulatedNull table = log_table<fd::Logit>(0.0);
  test::Random random(142);
  double worst = 0.0;            // ulp of a normal exp
  double worst_subnormal = 0.0;  // smallest floats of a subnormal one
  double worst_sum = 0.0;        // relative to the sum of the exps as they are
  double worst_log = 0.0;
  for (int repeat = 0; repeat < 6000; repeat += test::stride_of_cases) {
    const int experts = repeat % 50 == 0 ? 1024 : 1 + random.below(200);
    const double centre = std::array{
        0.0, 1.0, 30.0, 340.0, -399.0, -450.0, 990.0, 3e5, -3e38}[index(random.below(9))];
    const double spread = std::array{1e-3, 1.0, 8.0, 40.0, 108.0, 3e38}[index(random.below(6))];
    std::vector<float> row;
    for (int j = 0; j < experts; ++j) {
      row.push_back(random.below(30) == 0
                        ? -test::infinity
                        : static_cast<float>(centre + spread * (random.uniform() - 0.5)));
    }
    row[index(random.below(experts))] = static_cast<float>(centre + 0.5 * spread);
    const RowKernels actual = scalar.kernels(row);
    for (const Compiled& arch : archs) {
      const RowKernels other = arch.kernels(row);
      CHECK(same_bits(other.exps, actual.exps));
      CHECK(same_bits(other.p, actual.p));
      CHECK(std::bit_cast<std::uint64_t>(other.sum) == std::bit_cast<std::uint64_t>(actual.sum));
      CHECK(other.log_softmax.shift == actual.log_softmax.shift);
      CHECK(other.zscore.shift == actual.zscore.shift);
      CHECK(other.zscore.scale == actual.zscore.scale);
    }
    // The public scores and p-values are the scalar ones.
    for (std::size_t j = 0; j < row.size(); ++j) {
      const double x{row[j]};
      if (x > -oracle::infinity) CHECK(table(x) == actual.p[j]);
    }
    CHECK(fd::LogSoftmax{}(row).shift == actual.log_softmax.shift);
    CHECK(fd::ZScore{}(row).scale == actual.zscore.scale);

    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0.0;
    for (std::size_t j = 0; j < row.size(); ++j) {
      const double exact = std::exp(double{row[j]} - largest);
      const double error = std::abs(double{actual.exps[j]} - exact);
      sum += double{actual.exps[j]};
      if (exact >= 0x1p-126) {
        worst = std::max(worst, error / std::ldexp(1.0, std::ilogb(exact) - 23));
      } else {
        worst_subnormal = std::max(worst_subnormal, error / 0x1p-149);
      }
      if (double{row[j]} == largest) CHECK(actual.exps[j] == 1.0F);
    }
    worst_sum = std::max(worst_sum, std::abs(actual.sum - sum) / sum);
    const double log = fd::detail::log_of_sum(actual.sum);
    worst_log = std::max(worst_log, std::abs(log - std::log(actual.sum)) / std::max(log, 0x1p-7));
  }
  MESSAGE("exp: ", worst, " ulp, subnormal: ", worst_subnormal, ", sum: ", worst_sum,
          ", log: ", worst_log);
  CHECK(worst <= 1.2);
  CHECK(worst_subnormal <= 1.2);
  CHECK(worst_sum <= 0x1p-23);
  CHECK(worst_log <= 0x1p-44);
}
