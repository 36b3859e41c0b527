#include "fdroute/parse_rule.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/multiple_testing.hpp"
#include "library/every_policy.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

std::string rule_rejection(const std::string& rule, int m = 12) {
  return test::rejection_of([&] { fd::parse_rule(rule, m); });
}

/// P-values as a token has them: some small, some tied, one not a number.
std::vector<double> some_p(test::Random& random) {
  std::vector<double> p(12);
  for (double& value : p) value = random.below(3) == 0 ? 0.01 * random.below(4) : random.uniform();
  if (random.below(4) == 0) p[3] = std::numeric_limits<double>::quiet_NaN();
  return p;
}

}  // namespace

TEST_CASE("a rule's string makes the procedure of the rule") {
  test::Random random(91);
  std::set<std::string> compared;
  const auto check = [&](const std::string& text, const auto& rule) {
    CAPTURE(text);
    compared.insert(text.substr(0, text.find(':')));
    const fd::AnyProcedure procedure = fd::parse_rule(text, 12);
    CHECK(procedure.hypotheses() == 12);
    CHECK(fd::parse_rule(procedure.describe(), 12).describe() == procedure.describe());
    using R = std::remove_cvref_t<decltype(rule)>;
    CHECK(procedure.adjusts() == fd::AdjustingRule<R>);
    for (int i = 0; i < 50; ++i) {
      const std::vector<double> p = some_p(random);
      CHECK(procedure.rejections(p) == fd::rejections(rule, p));
      CHECK(procedure.threshold(p) == fd::threshold(rule, p));
      if constexpr (fd::AdjustingRule<R>) {
        std::vector<double> mine(12);
        std::vector<double> theirs(12);
        procedure.adjusted(p, mine);
        fd::adjusted(rule, p, theirs);
        CHECK(mine == theirs);
      }
    }
  };
  check("topk:k=3", fd::TopK{3});
  check("bh:alpha=0.2", fd::BenjaminiHochberg{0.2});
  check("by:alpha=0.2", fd::BenjaminiYekutieli{0.2});
  check("ebh:alpha=0.2,kappa=0.3", fd::EBH{0.2, 0.3});
  check("bonferroni:alpha=0.2", fd::Bonferroni{0.2});
  check("sidak:alpha=0.2", fd::Sidak{0.2});
  check("holm:alpha=0.2", fd::Holm{0.2});
  check("hochberg:alpha=0.2", fd::Hochberg{0.2});
  check("hommel:alpha=0.2", fd::Hommel{0.2});
  check("storey:alpha=0.2,lambda=0.3", fd::StoreyBH{0.2, 0.3});
  check("bky:alpha=0.2", fd::TwoStageBKY{0.2});
  check("lfdr:alpha=0.3", fd::LocalFdr{0.3});
  fd::HigherCriticism hc{0.4, fd::HigherCriticism::Deviation::of_rank};
  hc.critical = fd::critical_statistic(hc, 12, 0.1);
  check("hc:search=0.4,deviation=rank,level=0.1", hc);
  check("bj:search=0.4", fd::BerkJones{0.4});
  auto names = test::names_of_rules_of_p();
  names.emplace_back("topk");
  CHECK(compared == std::set(names.begin(), names.end()));
}

TEST_CASE("what a rule leaves out takes its documented value") {
  CHECK(fd::parse_rule("bh", 12).describe() == "bh:alpha=0.05");
  CHECK(fd::parse_rule("hc", 12).describe() == "hc:search=0.5,deviation=rank,level=1");
}

TEST_CASE("what is no procedure is refused in words") {
  CHECK(
      rule_rejection("bhh") ==
      "policy 'bhh', position 1: unknown rule 'bhh' (did you mean 'bh'?); accepted are topk, "
      "top_p, relative, threshold, slope, bh, by, ebh, bonferroni, sidak, holm, hochberg, hommel, "
      "storey, bky, hc, bj, lfdr");
  CHECK(rule_rejection("mixtral").starts_with(
      "policy 'mixtral', position 1: unknown rule 'mixtral'"));
  CHECK(
      rule_rejection("preset:bh").starts_with("policy 'preset:bh', position 8: unknown rule 'bh'"));
  CHECK(rule_rejection("top_p") == "policy 'top_p' reads logits, not p-values");
  CHECK(rule_rejection("bh:alpha=0.1,min_k=1") ==
        "policy 'bh:alpha=0.1,min_k=1', position 14: unknown key 'min_k'; bh accepts alpha");
  CHECK(rule_rejection("bh:alpha=2") ==
        "policy 'bh:alpha=2': BenjaminiHochberg: alpha must lie in "
        "(0, 1), got 2");
  CHECK(rule_rejection("topk:k=13").find("TopK: k must lie in [1, 12]") != std::string::npos);
  const fd::AnyProcedure hc = fd::parse_rule("hc", 2);
  std::vector<double> p{0.1, 0.2};
  CHECK(test::rejection_of([&] { hc.adjusted(p, p); }) ==
        "hc:search=0.5,deviation=rank,level=1 has no adjusted p-values");
  CHECK(test::rejection_of([&] { hc.rejections(std::vector{0.1}); }) ==
        "the procedure is one for 2 p-values, got 1");
  CHECK(test::rejection_of([&] {
          hc.rejections(std::vector{0.1, 1.5});
        }) == "p[1] must lie in [0, 1], got 1.5");
}
