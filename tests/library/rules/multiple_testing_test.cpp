#include "fdroute/multiple_testing.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "fdroute/router.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/benjamini_yekutieli.hpp"
#include "fdroute/selection/bonferroni.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/local_fdr.hpp"
#include "fdroute/selection/sidak.hpp"
#include "fdroute/selection/storey_bh.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/selection/two_stage_bky.hpp"
#include "library/rule_oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

static_assert(fd::AdjustingRule<fd::BenjaminiHochberg> && fd::AdjustingRule<fd::Hommel>);
static_assert(!fd::AdjustingRule<fd::TopK> && !fd::AdjustingRule<fd::LocalFdr>);

namespace {

using Values = std::vector<double>;

template <class R>
Values adjusted(const R& rule, const Values& p) {
  Values out(p.size());
  fd::adjusted(rule, p, out);
  return out;
}

/// Calls `visit` with every rule that has adjusted p-values.
template <class Visit>
void with_every_adjusting_rule(double alpha, const Visit& visit) {
  visit(fd::Bonferroni{alpha}, "Bonferroni");
  visit(fd::Sidak{alpha}, "Sidak");
  visit(fd::Holm{alpha}, "Holm");
  visit(fd::Hochberg{alpha}, "Hochberg");
  visit(fd::Hommel{alpha}, "Hommel");
  visit(fd::BenjaminiHochberg{alpha}, "BenjaminiHochberg");
  visit(fd::BenjaminiYekutieli{alpha}, "BenjaminiYekutieli");
  visit(fd::EBH{alpha}, "EBH");
  visit(fd::EBH{alpha, 0.2}, "EBH, kappa 0.2");
  visit(fd::StoreyBH{alpha}, "StoreyBH");
  visit(fd::StoreyBH{alpha, 0.2}, "StoreyBH, lambda 0.2");
  visit(fd::TwoStageBKY{alpha}, "TwoStageBKY");
}

/// The columns of a golden file by name, by case.
using Table = std::map<std::string, std::map<std::string, Values>>;

Table read_golden(const std::string& name, const std::string& origin) {
  std::ifstream file(FDROUTE_SOURCE_DIR "/tests/golden/" + name);
  const auto fields_of = [](const std::string& line) {
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, ',');) fields.push_back(field);
    return fields;
  };
  std::string line;
  std::getline(file, line);
  REQUIRE(line.starts_with("# " + origin));
  std::getline(file, line);
  const std::vector<std::string> columns = fields_of(line);
  Table table;
  while (std::getline(file, line)) {
    const std::vector<std::string> fields = fields_of(line);
    REQUIRE(fields.size() == columns.size());
    for (std::size_t i = 1; i < fields.size(); ++i) {
      // strtod also reads subnormals.
      table[fields[0]][columns[i]].push_back(std::strtod(fields[i].c_str(), nullptr));
    }
  }
  return table;
}

/// The largest relative difference.
double discrepancy(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
  }
  return largest;
}

/// Scores 0 .. m-1 have the given p-values, the largest score the smallest.
struct LookupNull {
  Values sorted_p;

  double operator()(double score) const noexcept {
    const double last = static_cast<double>(sorted_p.size()) - 1.0;
    if (!(score >= 0.0)) return 1.0;
    return sorted_p[static_cast<std::size_t>(last - std::floor(std::min(score, last)))];
  }
};

template <class R>
int routed_count(const R& rule, const Values& p) {
  LookupNull null{p};
  std::sort(null.sorted_p.begin(), null.sorted_p.end());
  const int m = static_cast<int>(p.size());
  test::Batch batch{m};
  for (int j = 0; j < m; ++j) batch.logits.push_back(static_cast<float>(j));
  const fd::Router router(m, rule, fd::Logit{}, null, fd::SoftmaxWeights{}, fd::ExpertBounds{0});
  return test::routed(router, batch.view()).counts[0];
}

}  // namespace

// ---- R and statsmodels --------------------------------------------------------------------------

TEST_CASE("adjusted p-values are those of R's p.adjust, and so are the rejections, routed or not") {
  const Table cases = read_golden("p_adjust.csv", "R version ");
  REQUIRE(cases.size() == 19);
  std::set<int> counts;
  for (const auto& entry : cases) {
    CAPTURE(entry.first);
    const Values& p = entry.second.at("p");
    const auto check = [&](auto rule, const char* method) {
      CAPTURE(method);
      const Values& golden = entry.second.at(method);
      CHECK(discrepancy(adjusted(rule, p), golden) < 1e-13);
      for (const double alpha : {0.001, 0.00513, 0.0123, 0.0347, 0.0472, 0.0513, 0.107, 0.213,
                                 0.351, 0.5031, 0.749, 0.987}) {
        CAPTURE(alpha);
        int rejected = 0;
        for (const double value : golden) {
          // Closer to alpha than this, rounding in the adjustment would decide, not the rule.
          REQUIRE(std::abs(value - alpha) > 1e-12);
          rejected += static_cast<int>(value <= alpha);
        }
        rule.alpha = alpha;
        CHECK(fd::rejections(rule, p) == rejected);
        CHECK(routed_count(rule, p) == rejected);
        counts.insert(rejected);
      }
    };
    check(fd::BenjaminiHochberg{}, "BH");
    check(fd::BenjaminiYekutieli{}, "BY");
    check(fd::Bonferroni{}, "bonferroni");
    check(fd::Holm{}, "holm");
    check(fd::Hochberg{}, "hochberg");
    check(fd::Hommel{}, "hommel");
  }
  CHECK(counts.size() > 30);
}

TEST_CASE("adjusted p-values are those of statsmodels' multipletests") {
  const Table cases = read_golden("multipletests.csv", "statsmodels ");
  REQUIRE(cases.size() == 19);
  for (const auto& entry : cases) {
    CAPTURE(entry.first);
    const Values& p = entry.second.at("p");
    const auto error = [&](auto rule, const char* method) {
      return discrepancy(adjusted(rule, p), entry.second.at(method));
    };
    CHECK(error(fd::Bonferroni{}, "bonferroni") < 1e-13);
    CHECK(error(fd::Sidak{}, "sidak") < 1e-13);
    CHECK(error(fd::Holm{}, "holm") < 1e-13);
    CHECK(error(fd::Hochberg{}, "simes-hochberg") < 1e-13);
    CHECK(error(fd::Hommel{}, "hommel") < 1e-13);
    CHECK(error(fd::BenjaminiHochberg{}, "fdr_bh") < 1e-13);
    CHECK(error(fd::BenjaminiYekutieli{}, "fdr_by") < 1e-13);
    for (const double alpha : {0.01, 0.05, 0.25}) {
      const std::string method = "fdr_tsbky@" + std::string(alpha == 0.01   ? "0.01"
                                                            : alpha == 0.05 ? "0.05"
                                                                            : "0.25");
      CAPTURE(method);
      Values ours = adjusted(fd::TwoStageBKY{alpha}, p);
      const Values& golden = entry.second.at(method);
      // There, a p-value of 1 takes part in the second stage, and nothing exceeds its value. Here
      // it is never rejected.
      double most = 1.0;
      for (std::size_t j = 0; j < p.size(); ++j) {
        if (p[j] == 1.0) most = golden[j];
      }
      Values capped;
      for (const double value : golden) capped.push_back(std::min(1.0, value));
      for (double& value : ours) value = std::min(most, value);
      CHECK(discrepancy(ours, capped) < 1e-13);
    }
  }
}

TEST_CASE("Benjamini and Hochberg's fifteen endpoints") {
  const Values p{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000};
  // As the paper says in section 3.2.
  CHECK(fd::rejections(fd::BenjaminiHochberg{0.05}, p) == 4);
  CHECK(fd::threshold(fd::BenjaminiHochberg{0.05}, p) == 0.0095);
  CHECK(fd::rejections(fd::Bonferroni{0.05}, p) == 3);
  CHECK(fd::rejections(fd::Hochberg{0.05}, p) == 3);
  // By hand. BKY: 4 in the first stage, then 0.0344 <= (0.05 / 1.05) 8 / 11 = 0.0346.
  CHECK(fd::rejections(fd::TwoStageBKY{0.05}, p) == 8);
  // Storey: 4 are above 0.5, so m pi0 = (1 + 4) / 0.5 = 10, and 0.0344 <= 0.05 8 / 10.
  CHECK(fd::rejections(fd::StoreyBH{0.05}, p) == 8);
  CHECK(fd::threshold(fd::Bonferroni{1e-6}, p) == std::nullopt);
}

// ---- The definitions ----------------------------------------------------------------------------

namespace {

/// Sorted p-values that crowd where rules decide.
Values random_p(int m, test::Random& random) {
  const double power = 1.0 + 3.0 * random.uniform();
  Values p;
  for (int i = 0; i < m; ++i) {
    switch (random.below(12)) {
      case 0:
        p.push_back(random.below(2));
        break;
      case 1:
        p.push_back(p.empty() ? 0.5 : p[index(random.below(i))]);
        break;
      default:
        p.push_back(std::pow(random.uniform(), power));
    }
  }
  std::sort(p.begin(), p.end());
  return p;
}

std::vector<int> every_size() {
  std::vector<int> sizes{1023, 1024};
  for (int m = 1; m <= 130; ++m) sizes.push_back(m);
  return sizes;
}

}  // namespace

TEST_CASE("every rule is its definition") {
  test::Random random(41);
  std::set<int> fractions;
  for (const int m : every_size()) {
    CAPTURE(m);
    for (const double alpha : {0.01, 0.2, 0.7}) {
      CAPTURE(alpha);
      const Values p = random_p(m, random);
      fractions.insert(10 * oracle::hochberg(p, alpha) / m);
      CHECK(fd::Bonferroni{alpha}(p) == oracle::bonferroni(p, alpha));
      CHECK(fd::Sidak{alpha}(p) == oracle::sidak(p, alpha));
      CHECK(fd::Holm{alpha}(p) == oracle::holm(p, alpha));
      CHECK(fd::Hochberg{alpha}(p) == oracle::hochberg(p, alpha));
      CHECK(fd::Hommel{alpha}(p) == oracle::hommel(p, alpha));
      CHECK(fd::BenjaminiYekutieli{alpha}(p) == oracle::benjamini_yekutieli(p, alpha));
      // Each rejects what the one before it does.
      CHECK(fd::Bonferroni{alpha}(p) <= fd::Holm{alpha}(p));
      CHECK(fd::Holm{alpha}(p) <= fd::Hochberg{alpha}(p));
      CHECK(fd::Hochberg{alpha}(p) <= fd::Hommel{alpha}(p));
      CHECK(fd::Hommel{alpha}(p) <= fd::BenjaminiHochberg{alpha}(p));
      CHECK(fd::TwoStageBKY{alpha}(p) == oracle::two_stage(p, alpha));
      CHECK(fd::LocalFdr{alpha}(p) == oracle::local_fdr(p, alpha));
      for (const double share : {0.1, 0.5, 0.9}) {
        CHECK(fd::StoreyBH{alpha, share}(p) == oracle::storey(p, alpha, share));
        CHECK(fd::EBH{alpha, share}(p) == oracle::ebh(p, alpha, share));
      }
    }
  }
  CHECK(fractions.size() > 4);
}

TEST_CASE("Hommel's rule is the closure of Simes' test") {
  test::Random random(42);
  std::set<int> counts;
  for (int repeat = 0; repeat < 100; ++repeat) {
    const Values p = random_p(1 + random.below(8), random);
    for (const double alpha : {0.05, 0.3, 0.8}) {
      const int count = fd::Hommel{alpha}(p);
      CHECK(count == oracle::hommel_by_closure(p, alpha));
      counts.insert(count);
    }
  }
  CHECK(counts.size() > 6);
}

TEST_CASE("a critical value is passed by itself and not by the next p-value") {
  for (const int m : {1, 2, 7, 64, 1024}) {
    CAPTURE(m);
    with_every_adjusting_rule(0.3, [&](const auto& rule, const char* name) {
      using R = std::decay_t<decltype(rule)>;
      if constexpr (fd::CriticalValueRule<R>) {
        CAPTURE(name);
        for (int k = 1; k <= m; ++k) {
          const double critical = rule.critical_value(k, m);
          // Smaller ones to step over, larger ones that fail.
          Values p(index(m), 1.0);
          std::fill_n(p.begin(), k - 1, 0.0);
          p[index(k - 1)] = critical;
          CHECK(rule(p) == k);
          p[index(k - 1)] = std::nextafter(critical, 1.0);
          CHECK(rule(p) == k - 1);
        }
      }
    });
  }
}

TEST_CASE("no rule rejects a p-value of 1") {
  for (const int m : {1, 2, 10, 64}) {
    for (int ones = 1; ones <= m; ++ones) {
      Values p(index(m), 1.0);
      std::fill_n(p.begin(), m - ones, 0.0);
      for (const double alpha : {0.25, 0.999}) {
        with_every_adjusting_rule(alpha, [&](const auto& rule, const char* name) {
          CAPTURE(name);
          CHECK(rule(p) == m - ones);
          CHECK(adjusted(rule, p) == p);
        });
        CHECK(fd::LocalFdr{alpha}(p) == m - ones);
      }
    }
  }
}

// ---- Adjusted p-values --------------------------------------------------------------------------

TEST_CASE("a p-value is rejected at alpha exactly when its adjusted one is at most alpha") {
  test::Random random(43);
  int rejected = 0;
  int kept = 0;
  for (const int m : {1, 2, 3, 10, 64, 130}) {
    CAPTURE(m);
    for (int repeat = 0; repeat < 30; ++repeat) {
      const Values p = random_p(m, random);
      for (const double alpha : {0.01, 0.05, 0.3, 0.7}) {
        with_every_adjusting_rule(alpha, [&](const auto& rule, const char* name) {
          CAPTURE(name);
          const int count = rule(p);
          const Values after = adjusted(rule, p);
          for (int j = 0; j < m; ++j) {
            const double value = after[index(j)];
            if (std::abs(value - alpha) <= 1e-12 * alpha) continue;
            CHECK((value <= alpha) == (j < count));
            ++(j < count ? rejected : kept);
          }
        });
      }
    }
  }
  CHECK(rejected > 10'000);
  CHECK(kept > 10'000);
}

TEST_CASE("at the adjusted p-value itself, rounding is all that may differ") {
  test::Random random(44);
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Values p = random_p(1 + random.below(64), random);
    with_every_adjusting_rule(0.1, [&](auto rule, const char* name) {
      if constexpr (!std::is_same_v<decltype(rule), fd::TwoStageBKY>) {
        CAPTURE(name);
        const std::size_t j = index(random.below(static_cast<int>(p.size())));
        const double at = adjusted(rule, p)[j];
        if (!(at > 1e-300 && at < 0.999)) return;
        rule.alpha = at * (1.0 + 1e-12);
        CHECK(rule(p) > static_cast<int>(j));
        rule.alpha = at * (1.0 - 1e-12);
        CHECK(rule(p) <= static_cast<int>(j));
      }
    });
  }
}

// ---- The functions ------------------------------------------------------------------------------

TEST_CASE("p-values come in any order, and NaN counts as 1") {
  test::Random random(45);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const Values sorted = random_p(1 + random.below(40), random);
    Values shuffled = sorted;
    random.shuffle(shuffled);
    for (double& p : shuffled) {
      if (p == 1.0) p = std::numeric_limits<double>::quiet_NaN();
    }
    with_every_adjusting_rule(0.3, [&](const auto& rule, const char* name) {
      CAPTURE(name);
      const int count = rule(sorted);
      CHECK(fd::rejections(rule, shuffled) == count);
      const auto largest = fd::threshold(rule, shuffled);
      CHECK(largest.has_value() == (count > 0));
      if (count > 0) CHECK(largest == sorted[index(count - 1)]);
      const Values of_sorted = adjusted(rule, sorted);
      const Values of_shuffled = adjusted(rule, shuffled);
      for (std::size_t j = 0; j < sorted.size(); ++j) {
        const double p = std::isnan(shuffled[j]) ? 1.0 : shuffled[j];
        const auto place = std::find(sorted.begin(), sorted.end(), p) - sorted.begin();
        CHECK(of_shuffled[j] == of_sorted[index(place)]);
      }
      // In place.
      Values p = shuffled;
      fd::adjusted(rule, p, p);
      CHECK(p == of_shuffled);
    });
  }
}

TEST_CASE("no p-values, no rejections") {
  with_every_adjusting_rule(0.3, [&](const auto& rule, const char* name) {
    CAPTURE(name);
    CHECK(rule({}) == 0);
    CHECK(fd::rejections(rule, {}) == 0);
    CHECK(fd::threshold(rule, {}) == std::nullopt);
    CHECK(adjusted(rule, {}).empty());
  });
}

TEST_CASE("what is no p-value, and a rule out of range, are errors") {
  const auto message = [](const auto& rule, const Values& p) {
    return test::rejection_of([&] { fd::rejections(rule, p); });
  };
  CHECK(message(fd::Holm{}, {0.1, 1.5}) == "p[1] must lie in [0, 1], got 1.5");
  CHECK(message(fd::Holm{}, {-1e-9, 1.5}) == "p[0] must lie in [0, 1], got -1e-09");
  CHECK(message(fd::TopK{3}, {0.1, 0.2}) ==
        "TopK: k must lie in [1, 2], the number of experts, got 3");
  CHECK(test::rejection_of([] {
          std::array<double, 1> out{};
          fd::adjusted(fd::Holm{}, Values{0.1, 0.2}, out);
        }) == "adjusted: 2 p-values, room for 1");
  for (const double alpha : {0.0, 1.0, -0.1, std::nan("")}) {
    with_every_adjusting_rule(alpha, [&](const auto& rule, const char*) {
      const std::string text = message(rule, {0.5});
      CHECK(text.find(": alpha must lie in (0, 1), got ") != std::string::npos);
    });
    CHECK(message(fd::LocalFdr{alpha}, {0.5}).starts_with("LocalFdr: alpha must lie in (0, 1)"));
  }
  CHECK(message(fd::StoreyBH{0.1, 1.0}, {0.5}) == "StoreyBH: lambda must lie in (0, 1), got 1");
  CHECK(message(fd::EBH{0.1, 0.0}, {0.5}) == "EBH: kappa must lie in (0, 1), got 0");
}

// ---- Weights ------------------------------------------------------------------------------------

TEST_CASE("weighted Benjamini-Hochberg is Benjamini-Hochberg on p / w") {
  const Values p{0.02, 0.03, 0.5, 0.04};
  const Values weights{0.5, 2.5, 0.0, 1.0};
  CHECK(fd::weighted_p_values(p, weights) == Values{0.04, 0.03 / 2.5, 1.0, 0.04});
  CHECK(fd::rejections(fd::BenjaminiHochberg{0.05}, p) == 0);
  CHECK(fd::rejections(fd::BenjaminiHochberg{0.055}, fd::weighted_p_values(p, weights)) == 3);
  CHECK(fd::weighted_p_values(p, Values(4, 1.0)) == p);
  CHECK(fd::weighted_p_values(Values{0.0, 0.9}, Values{0.0, 2.0}) == Values{1.0, 0.45});
  CHECK(fd::weighted_p_values(Values{0.9, 0.0}, Values{0.5, 1.5}) == Values{1.0, 0.0});

  const auto message = [](const Values& p_values, const Values& w) {
    return test::rejection_of([&] { fd::weighted_p_values(p_values, w); });
  };
  CHECK(message(p, {1.0}) == "weighted_p_values: 4 p-values, 1 weights");
  CHECK(message({0.1, 0.2}, {1.0, 1.5}) ==
        "weighted_p_values: the weights' mean must be 1, got 1.25");
  CHECK(message({0.1, 0.2}, {-1.0, 3.0}) ==
        "weighted_p_values: weights[0] must be finite and >= 0, got -1");
  CHECK(message({0.1, 2.0}, {1.0, 1.0}) == "p[1] must lie in [0, 1], got 2");
}
