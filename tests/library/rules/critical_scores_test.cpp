#include "fdroute/detail/rule/critical_scores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <variant>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/detail/rule/expert_critical_scores.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

namespace {

namespace fd = fdroute;
using fd::detail::critical_score;
using fd::detail::ordered;
using test::index;

using AnyScore = std::variant<fd::Logit, fd::LogSoftmax, fd::ZScore>;
using AnyNull = std::variant<fd::NormalNull, fd::TabulatedNull>;

constexpr std::array scores{oracle::Score::logit, oracle::Score::log_softmax,
                            oracle::Score::zscore};

AnyScore policy(oracle::Score score) {
  if (score == oracle::Score::log_softmax) return fd::LogSoftmax{};
  if (score == oracle::Score::zscore) return fd::ZScore{};
  return fd::Logit{};
}

std::string name(oracle::Score score) {
  return std::visit([](auto s) { return std::string(s.name); }, policy(score));
}

struct NamedNull {
  std::string name;
  AnyNull null;
};

// One of every form, with what a table may hold: plateaus, a start below p = 1, a saturated cdf.
std::vector<NamedNull> nulls(oracle::Score score) {
  const fd::NullProvenance fit = test::fitted_on(name(score));
  const bool shifted = score == oracle::Score::log_softmax;
  return {
      {"normal", shifted ? fd::NormalNull{-5.0, 1.75} : fd::NormalNull{}},
      {"log_sf", fd::TabulatedNull::from_log_survival(
                     {-9.0, -6.5, -5.0, -4.25, -3.0, -1.0, 0.5, 2.0},
                     {-0.011, -0.23, -0.71, -0.71, -1.93, -4.57, -4.57, -7.29}, fit)},
      {"cdf", fd::TabulatedNull::from_cdf({-6.0, -4.0, -1.0, 1.0, 2.5},
                                          {0.104, 0.353, 0.807, 0.9513, 0.9957}, fit)},
      {"saturated cdf", fd::TabulatedNull::from_cdf({-8.0, -5.0, -2.0, 0.0, 1.5, 3.0},
                                                    {0.0, 0.317, 0.613, 0.9713, 1.0, 1.0}, fit)},
  };
}

double survival(const AnyNull& null, double score) {
  return std::visit([&](const auto& n) { return n(score); }, null);
}

template <class Rule>
fd::AnyRouter make_router(int experts, Rule rule, oracle::Score score, const AnyNull& null,
                          oracle::Bounds bounds) {
  return std::visit(
      [&](const auto& s, const auto& n) {
        return fd::AnyRouter(fd::Router(experts, rule, s, n, fd::SoftmaxWeights{},
                                        fd::ExpertBounds{bounds.min_k, bounds.max_k}),
                             "");
      },
      policy(score), null);
}

std::vector<int> every_experts_count() {
  std::vector<int> counts{255, 256, 257, 1023, 1024};
  for (int experts = 1; experts <= 130; experts += test::stride_of_cases) counts.push_back(experts);
  return counts;
}

constexpr std::array alphas{0.001, 0.05, 0.3, 0.9};
constexpr std::array bounds{oracle::Bounds{0},    oracle::Bounds{1},    oracle::Bounds{3},
                            oracle::Bounds{0, 1}, oracle::Bounds{1, 8}, oracle::Bounds{3, 5}};

}  // namespace

TEST_CASE("Benjamini-Hochberg on critical scores is the definition, for every experts count") {
  test::Random random(1);
  std::int64_t tokens = 0;
  std::int64_t none = 0;   // rows by the rule's count: 0,
  std::int64_t some = 0;   // between,
  std::int64_t whole = 0;  // all experts
  for (const int experts : every_experts_count()) {
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    for (const oracle::Score score : scores) {
      for (const NamedNull& null : nulls(score)) {
        std::vector<std::vector<double>> sorted_p;  // of the rows with a finite logit
        for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
          sorted_p.emplace_back();
          const std::vector<float> row = batch.row(t);
          if (oracle::finite_values(row).empty()) continue;
          sorted_p.back() = oracle::sorted_p_values(
              oracle::scores(score, row), [&](double s) { return survival(null.null, s); });
        }
        for (std::size_t a = 0; a < alphas.size(); ++a) {
          for (std::size_t b = 0; b < bounds.size(); ++b) {
            if (bounds[b].min_k > experts) continue;
            // All pairs for small counts; then each alpha meets each bound at every third count.
            if (experts > 16 && (index(experts) + a + b) % 3 != 0) continue;
            const fd::BenjaminiHochberg rule{alphas[a]};
            const auto router = make_router(experts, rule, score, null.null, bounds[b]);
            const auto padding = static_cast<fd::Padding>(b % 2);
            const auto out = test::routed(router, batch.view(), padding);
            REQUIRE(out.guards_intact());
            for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t, ++tokens) {
              const int count = oracle::benjamini_hochberg(sorted_p[index(t)], alphas[a]);
              const std::vector<float> row = batch.row(t);
              const auto expected = oracle::route(row, count, bounds[b]);
              const std::string fault = test::difference(expected, out, t, row);
              if (!fault.empty()) {
                FAIL(experts, " experts, score ", name(score), ", null ", null.name, ", alpha ",
                     alphas[a], ", min_k ", bounds[b].min_k, ", max_k ", bounds[b].max_k, ": ",
                     fault);
              }
              ++(count == 0 ? none : count < experts ? some : whole);
            }
          }
        }
      }
    }
  }
  // The rows must have been worth it.
  constexpr int stride = test::stride_of_cases;
  CHECK(tokens > 200'000 / stride);
  CHECK(none > 20'000 / stride);
  CHECK(some > 50'000 / stride);
  CHECK(whole > 5'000 / stride);
}

TEST_CASE("nothing of fdroute in the expectation: scores, p-values, rule, order and weights") {
  test::Random random(2);
  const std::vector<double> grid{-9.0, -6.5, -5.0, -4.25, -3.0, -1.0, 0.5, 2.0};
  const std::vector<double> log_sf{-0.011, -0.23, -0.71, -0.71, -1.93, -4.57, -4.57, -7.29};
  const std::vector<double> cdf{0.0, 0.104, 0.353, 0.607, 0.807, 0.9513, 0.9957, 1.0};
  std::vector<int> counts_seen(129);
  for (const oracle::Score score : scores) {
    const fd::NullProvenance fit = test::fitted_on(name(score));
    const std::array<AnyNull, 3> library{
        fd::NormalNull{-0.5, 1.25},
        fd::TabulatedNull::from_log_survival(grid, log_sf, fit),
        fd::TabulatedNull::from_cdf(grid, cdf, fit),
    };
    const std::array<oracle::Null, 3> definition{
        [](double s) { return oracle::normal_survival(s, -0.5, 1.25); },
        [&](double s) { return oracle::log_survival_table(grid, log_sf, s); },
        [&](double s) { return oracle::cdf_table(grid, cdf, s); },
    };
    for (const int experts : {1, 2, 7, 64, 65, 128}) {
      const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
      for (std::size_t n = 0; n < library.size(); ++n) {
        for (const double alpha : {0.0113, 0.0517, 0.317, 0.871}) {
          const auto router =
              make_router(experts, fd::BenjaminiHochberg{alpha}, score, library[n], {0});
          const auto out = test::routed(router, batch.view());
          for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
            const std::vector<float> row = batch.row(t);
            int count = 0;
            if (!oracle::finite_values(row).empty()) {
              const auto p = oracle::sorted_p_values(oracle::scores(score, row), definition[n]);
              // The two nulls may differ in the last bits, which only matters this close to a
              // critical value. No row comes so close.
              for (int k = 1; k <= experts; ++k) {
                const double critical = alpha * k / experts;
                REQUIRE(std::abs(p[index(k - 1)] - critical) > 1e-12 * critical);
              }
              count = oracle::benjamini_hochberg(p, alpha);
            }
            CHECK(test::difference(oracle::route(row, count, {0}), out, t, row) == "");
            ++counts_seen[index(count)];
          }
        }
      }
    }
  }
  int different = 0;
  for (const int rows : counts_seen) different += static_cast<int>(rows > 0);
  CHECK(different > 60);
}

namespace {

/// For scores 1..m, the p-value is exactly the critical value of rank m + 1 - score, or `ulps`
/// beyond it; 1 below.
struct CriticalNull {
  double alpha;
  int experts;
  int ulps = 0;

  double operator()(double score) const noexcept {
    if (!(score >= 1.0)) return 1.0;
    const int rank = score >= experts ? 1 : experts + 1 - static_cast<int>(score);
    double p = alpha * rank / experts;
    for (int i = 0; i < ulps; ++i) p = std::nextafter(p, 1.0);
    for (int i = 0; i > ulps; --i) p = std::nextafter(p, 0.0);
    return p;
  }
};

int count_of(const std::vector<float>& row, double alpha, CriticalNull null) {
  const fd::Router router(null.experts, fd::BenjaminiHochberg{alpha}, fd::Logit{}, null,
                          fd::SoftmaxWeights{}, fd::ExpertBounds{0});
  const test::Batch batch{null.experts, row};
  return test::routed(router, batch.view()).counts[0];
}

}  // namespace

TEST_CASE("a p-value equal to its critical value is rejected, one ulp above it is not") {
  test::Random random(3);
  for (const double alpha : {0.05, 0.1, 0.3, 1.0 / 3.0}) {
    for (int experts = 1; experts <= 130; experts += test::stride_of_cases) {
      std::vector<float> all(index(experts));
      std::iota(all.begin(), all.end(), 1.0F);
      random.shuffle(all);
      CAPTURE(alpha);
      CAPTURE(experts);
      // p(k) = critical_value(k) for all k.
      CHECK(count_of(all, alpha, {alpha, experts, 0}) == experts);
      CHECK(count_of(all, alpha, {alpha, experts, -1}) == experts);
      CHECK(count_of(all, alpha, {alpha, experts, 1}) == 0);
      // p(1) = ... = p(k) = critical_value(k), the others 1: k hangs on one comparison.
      for (int k = 1; k <= experts; k += 1 + experts / 7) {
        std::vector<float> one(index(experts), 0.5F);
        for (int i = 0; i < k; ++i) one[index(i)] = static_cast<float>(experts + 1 - k);
        random.shuffle(one);
        CHECK(count_of(one, alpha, {alpha, experts, 0}) == k);
        CHECK(count_of(one, alpha, {alpha, experts, 1}) == 0);
      }
      // Any mixture of such values.
      for (int repeat = 0; repeat < 4; ++repeat) {
        std::vector<float> row;
        for (int j = 0; j < experts; ++j)
          row.push_back(static_cast<float>(random.below(experts + 1 + experts / 2)));
        for (const int ulps : {-1, 0, 1}) {
          const CriticalNull null{alpha, experts, ulps};
          const auto p = oracle::sorted_p_values(row, null);
          CHECK(count_of(row, alpha, null) == oracle::benjamini_hochberg(p, alpha));
        }
      }
    }
  }
}

namespace {

template <class Null>
void check_minimal(const Null& null, double critical_p, int& inside) {
  constexpr float lowest = std::numeric_limits<float>::lowest();
  const float t = critical_score(null, critical_p);
  CAPTURE(critical_p);
  CAPTURE(t);
  if (std::isnan(t)) {
    CHECK(null(static_cast<double>(test::infinity)) > critical_p);
    return;
  }
  CHECK(null(static_cast<double>(t)) <= critical_p);
  if (t == lowest) return;
  CHECK(null(static_cast<double>(std::nextafter(t, -test::infinity))) > critical_p);
  ++inside;
}

}  // namespace

TEST_CASE("a critical score passes, and the float below it does not") {
  test::Random random(4);
  std::vector<double> critical_ps{5e-324, 1e-310, 1e-300, 1e-100, 1e-20, 1e-6, 0.5, 1 - 0x1p-53};
  for (int i = 0; i < 300; ++i) critical_ps.push_back(random.uniform());
  for (int i = 0; i < 300; ++i) critical_ps.push_back(std::exp(-600.0 * random.uniform()));
  int inside = 0;
  for (const double p : critical_ps) {
    for (const oracle::Score score : scores) {
      for (const NamedNull& null : nulls(score))
        std::visit([&](const auto& n) { check_minimal(n, p, inside); }, null.null);
    }
    check_minimal(fd::NormalNull{1e30, 1e25}, p, inside);
    check_minimal(fd::NormalNull{0.0, 1e-42}, p, inside);
    check_minimal(CriticalNull{0.3, 100}, p, inside);
  }
  CHECK(inside > 5000);
}

TEST_CASE("an expert's critical scores for the counts that have a row, and NaN after the experts") {
  const fd::BenjaminiHochberg rule{0.3};
  for (const int experts : {1, 2, 31, 32, 33, 34, 63, 64, 65, 130}) {
    CAPTURE(experts);
    fd::PerExpertNull<fd::NormalNull> nulls;
    for (int j = 0; j < experts; ++j) nulls.nulls.push_back({0.3 * (j % 7), 0.5 + 0.2 * (j % 4)});
    const auto table = fd::detail::ExpertCriticalScores::table(rule, nulls, experts);
    const fd::detail::ExpertCriticalScores critical(table.data(), experts);
    CHECK(table.size() == index(std::min(experts, 33)) * index((experts + 63) / 64 * 64));
    CHECK(critical.rows() == std::min(experts, 33));
    const float* before = nullptr;
    for (int k = 1; k <= experts; ++k) {
      const float* row = critical.of_count(k);
      CHECK((row != nullptr) == (k <= 32 || k == experts));
      if (row == nullptr) continue;
      CHECK(row == critical.row(std::min(k, 33) - 1));
      for (int j = 0; j < experts; ++j) {
        CHECK(row[j] == critical_score(nulls.nulls[index(j)], rule.critical_value(k, experts)));
        CHECK((before == nullptr || row[j] <= before[j]));
      }
      for (int j = experts; j < (experts + 63) / 64 * 64; ++j) CHECK(std::isnan(row[j]));
      before = row;
    }
  }
}

TEST_CASE("critical scores at the ends of float's range") {
  struct Step {
    double at;
    double low = 0.0;
    double operator()(double score) const noexcept { return score >= at ? low : 1.0; }
  };
  using Limits = std::numeric_limits<float>;
  CHECK(critical_score(Step{-1e300}, 0.5) == Limits::lowest());
  CHECK(critical_score(Step{Limits::lowest()}, 0.5) == Limits::lowest());
  CHECK(critical_score(Step{Limits::max()}, 0.5) == Limits::max());
  CHECK(critical_score(Step{1e300}, 0.5) == test::infinity);
  CHECK(std::isnan(critical_score(Step{0.0, 0.6}, 0.5)));
  CHECK(critical_score(Step{0.0, 0.5}, 0.5) == 0.0F);
  CHECK(critical_score(Step{0x1p-149}, 0.5) == 0x1p-149F);
  CHECK(critical_score(Step{-0x1p-149}, 0.5) == -0x1p-149F);
  CHECK(critical_score(Step{0x1p-150}, 0.5) == 0x1p-149F);
  CHECK(critical_score(Step{1.0 + 0x1p-30}, 0.5) == 1.0F + 0x1p-23F);
}

TEST_CASE("ordered bits compare as the floats do, NaN below all") {
  using Limits = std::numeric_limits<float>;
  const std::vector<float> ascending{-test::infinity,
                                     Limits::lowest(),
                                     -1.5F,
                                     -1.0F,
                                     -Limits::min(),
                                     -2.0F * Limits::denorm_min(),
                                     -Limits::denorm_min(),
                                     0.0F,
                                     Limits::denorm_min(),
                                     Limits::min(),
                                     1.0F,
                                     1.0F + Limits::epsilon(),
                                     Limits::max(),
                                     test::infinity};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j)
      CHECK((ordered(ascending[i]) < ordered(ascending[j])) == (i < j));
    CHECK(ordered(test::nan) < ordered(ascending[i]));
    CHECK(ordered(-test::nan) < ordered(ascending[i]));
    CHECK(fd::detail::from_ordered(ordered(ascending[i])) == ascending[i]);
  }
  CHECK(ordered(-0.0F) == ordered(0.0F));
  for (std::uint64_t bits = 0; bits <= 0xFFFF'FFFFU; bits += 65'521) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(x)) continue;
    REQUIRE(fd::detail::from_ordered(ordered(x)) == x);
    if (x != test::infinity) {
      REQUIRE(ordered(x) < ordered(std::nextafter(x, test::infinity)));
    }
  }
}

TEST_CASE("the n largest logits come in the total order, for every n") {
  test::Random random(5);
  for (const int experts : {1, 2, 3, 17, 64}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 4, random);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      const std::vector<int> expected = oracle::order(row);
      for (int n = 1; n <= experts; ++n) {
        std::vector<std::uint64_t> keys(index(experts));
        std::vector<std::int32_t> ranking(index(n), -7);
        fd::detail::rank_largest(row, fd::TieOrder::lowest_index, keys, ranking);
        REQUIRE(ranking == std::vector<std::int32_t>(expected.begin(), expected.begin() + n));
      }
    }
  }
}
