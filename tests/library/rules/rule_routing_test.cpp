// Every rule that reads p-values, in a router: the same experts as by the written definitions, on
// every kind of row.

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_yekutieli.hpp"
#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/bonferroni.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/local_fdr.hpp"
#include "fdroute/selection/sidak.hpp"
#include "fdroute/selection/storey_bh.hpp"
#include "fdroute/selection/two_stage_bky.hpp"
#include "library/rule_oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

static_assert(fd::StepUpRule<fd::Bonferroni> && fd::StepUpRule<fd::Sidak>);
static_assert(fd::StepUpRule<fd::Hochberg> && fd::StepUpRule<fd::BenjaminiYekutieli>);
static_assert(fd::StepUpRule<fd::EBH> && !fd::StepDownRule<fd::EBH>);
static_assert(fd::StepDownRule<fd::Holm> && !fd::StepUpRule<fd::Holm>);
static_assert(fd::Rule<fd::Hommel> && !fd::CriticalValueRule<fd::Hommel>);
static_assert(fd::Rule<fd::StoreyBH> && !fd::CriticalValueRule<fd::StoreyBH>);
static_assert(fd::Rule<fd::TwoStageBKY> && fd::Rule<fd::LocalFdr>);

namespace {

using Definition = std::function<int(const std::vector<double>&)>;

template <class R>
void check(const R& rule, const Definition& definition) {
  test::Random random(91);
  std::set<int> counts;
  for (const int experts : {1, 2, 3, 17, 64, 130, 1023, 1024}) {
    CAPTURE(experts);
    const test::Batch batch = test::batch_of_every_kind(experts, experts > 200 ? 1 : 8, random);
    const fd::Router router(experts, rule, fd::ZScore{}, fd::NormalNull{0.0, 0.5},
                            fd::SoftmaxWeights{}, fd::ExpertBounds{0});
    const auto out = test::routed(router, batch.view());
    CHECK(out.guards_intact());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      int count = 0;
      if (!oracle::finite_values(row).empty()) {
        count = definition(oracle::sorted_p_values(
            oracle::scores(oracle::Score::zscore, row),
            [](double score) { return oracle::normal_survival(score, 0.0, 0.5); }));
      }
      const std::string fault = test::difference(oracle::route(row, count, {0}), out, t, row);
      CHECK(fault == "");
      counts.insert(count);
    }
  }
  CHECK(counts.size() > 5);
}

}  // namespace

TEST_CASE("Bonferroni routes by its definition") {
  check(fd::Bonferroni{0.3}, [](const auto& p) { return oracle::bonferroni(p, 0.3); });
}

TEST_CASE("Sidak routes by its definition") {
  check(fd::Sidak{0.3}, [](const auto& p) { return oracle::sidak(p, 0.3); });
}

TEST_CASE("Holm routes by its definition") {
  check(fd::Holm{0.3}, [](const auto& p) { return oracle::holm(p, 0.3); });
}

TEST_CASE("Hochberg routes by its definition") {
  check(fd::Hochberg{0.3}, [](const auto& p) { return oracle::hochberg(p, 0.3); });
}

TEST_CASE("Hommel routes by its definition") {
  check(fd::Hommel{0.3}, [](const auto& p) { return oracle::hommel(p, 0.3); });
}

TEST_CASE("BenjaminiYekutieli routes by its definition") {
  check(fd::BenjaminiYekutieli{0.3},
        [](const auto& p) { return oracle::benjamini_yekutieli(p, 0.3); });
}

TEST_CASE("EBH routes by its definition") {
  check(fd::EBH{0.3, 0.4}, [](const auto& p) { return oracle::ebh(p, 0.3, 0.4); });
}

TEST_CASE("StoreyBH routes by its definition") {
  check(fd::StoreyBH{0.3, 0.6}, [](const auto& p) { return oracle::storey(p, 0.3, 0.6); });
}

TEST_CASE("TwoStageBKY routes by its definition") {
  check(fd::TwoStageBKY{0.3}, [](const auto& p) { return oracle::two_stage(p, 0.3); });
}

TEST_CASE("LocalFdr routes by its definition") {
  check(fd::LocalFdr{0.3}, [](const auto& p) { return oracle::local_fdr(p, 0.3); });
}

TEST_CASE("HigherCriticism routes by its definition") {
  check(fd::HigherCriticism{.search = 0.4, .critical = 2.5}, [](const auto& p) {
    return oracle::argmax_deviation(p, 0.4, 2.5, oracle::higher_criticism_of_rank);
  });
}

TEST_CASE("BerkJones routes by its definition") {
  check(fd::BerkJones{.search = 0.4, .critical = 1.5},
        [](const auto& p) { return oracle::argmax_deviation(p, 0.4, 1.5, oracle::berk_jones); });
}
