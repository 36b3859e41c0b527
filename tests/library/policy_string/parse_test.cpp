#include "fdroute/parse.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/router.hpp"
#include "library/every_policy.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

fd::TabulatedNull table(std::string score) {
  return fd::TabulatedNull::from_log_survival({-6.0, -4.0, -3.0, -1.5}, {-0.1, -0.9, -2.5, -7.0},
                                              test::fitted_on(std::move(score)));
}

/// The message about a policy over 16 experts; with a table unless `score` is empty.
std::string rejection(const std::string& policy, const std::string& score = "log_softmax") {
  return test::rejection_of([&] {
    if (score.empty()) {
      fd::parse_router(policy, 16);
    } else {
      fd::parse_router(policy, 16, table(score));
    }
  });
}

std::string canonical(const std::string& policy, fd::SoftmaxWeights weights = {}) {
  return fd::parse_router(policy, 16, table("log_softmax"), weights).policy();
}

template <class A, class B>
bool route_alike(const A& a, const B& b) {
  test::Random random(71);
  const test::Batch batch = test::batch_of_every_kind(16, 12, random);
  REQUIRE(a.capacity() == b.capacity());
  REQUIRE(a.experts() == 16);
  return test::routed(a, batch.view()) == test::routed(b, batch.view());
}

}  // namespace

TEST_CASE("a policy string makes the router that it describes") {
  const fd::SoftmaxWeights weights{0.5, true};
  const fd::ExpertBounds bounds{2, 5};
  const auto null = table("log_softmax");
  const auto parse = [&](const std::string& policy) {
    return fd::parse_router(policy, 16, null, weights);
  };
  CHECK(route_alike(parse("topk:k=3"), fd::Router(16, fd::TopK{3}, weights)));
  CHECK(route_alike(
      parse("topk:k=9,max_k=4,renormalize=false,temperature=2"),
      fd::Router(16, fd::TopK{9}, fd::SoftmaxWeights{2.0, false}, fd::ExpertBounds{1, 4})));
  CHECK(route_alike(parse("top_p:p=0.7,min_k=2,max_k=5"),
                    fd::Router(16, fd::TopP{0.7}, weights, bounds)));
  CHECK(route_alike(parse("relative:t=0.25,min_k=2,max_k=5"),
                    fd::Router(16, fd::RelativeThreshold{0.25}, weights, bounds)));
  CHECK(route_alike(parse("threshold:t=0.125,min_k=2,max_k=5"),
                    fd::Router(16, fd::AbsoluteThreshold{0.125}, weights, bounds)));
  CHECK(route_alike(parse("slope:c=-1.5,sigma=0.25,min_k=2,max_k=5"),
                    fd::Router(16, fd::LogSlope{-1.5, 0.25}, weights, bounds)));
  const fd::BenjaminiHochberg rule{0.3};
  CHECK(route_alike(parse("bh:alpha=0.3,min_k=2,max_k=5"),
                    fd::Router(16, rule, fd::LogSoftmax{}, null, weights, bounds)));
  CHECK(route_alike(parse("bh:alpha=0.3,null=normal"),
                    fd::Router(16, rule, fd::ZScore{}, fd::NormalNull{}, weights)));
  CHECK(route_alike(parse("bh:alpha=0.3,null=normal,mean=-4,sd=1.5,score=log_softmax,min_k=0"),
                    fd::Router(16, rule, fd::LogSoftmax{}, fd::NormalNull{-4.0, 1.5}, weights,
                               fd::ExpertBounds{0})));
  CHECK(route_alike(parse("bh:alpha=0.3,null=normal,score=logit"),
                    fd::Router(16, rule, fd::Logit{}, fd::NormalNull{}, weights)));
  CHECK(route_alike(fd::parse_router("bh:alpha=0.3", 16, table("zscore"), weights),
                    fd::Router(16, rule, fd::ZScore{}, table("zscore"), weights)));
  CHECK(route_alike(fd::parse_router("bh:alpha=0.3", 16, table("robust_zscore"), weights),
                    fd::Router(16, rule, fd::RobustZScore{}, table("robust_zscore"), weights)));
  CHECK(route_alike(parse("holm:alpha=0.3,null=normal,score=robust_zscore,max_k=5"),
                    fd::Router(16, fd::Holm{0.3}, fd::RobustZScore{}, fd::NormalNull{}, weights,
                               fd::ExpertBounds{1, 5})));
  // The comparison can tell.
  CHECK(!route_alike(parse("bh:alpha=0.3"), parse("bh:alpha=0.7")));
  CHECK(!route_alike(parse("bh:alpha=0.3"), parse("bh:alpha=0.3,null=normal")));
}

TEST_CASE("every rule that reads p-values has a string") {
  const auto null = table("log_softmax");
  test::Random random(72);
  const test::Batch batch = test::batch_of_every_kind(16, 12, random);
  // Another way to the same experts may round their weights differently.
  const auto select_alike = [&](const auto& a, const auto& b) {
    const auto of_a = test::routed(a, batch.view());
    const auto of_b = test::routed(b, batch.view());
    return of_a.experts == of_b.experts && of_a.counts == of_b.counts;
  };
  std::set<std::string> compared{"bh"};  // in the test above
  const auto alike = [&](const std::string& policy, const test::PlainRule& rule) {
    CAPTURE(policy);
    compared.insert(policy.substr(0, policy.find(':')));
    return select_alike(fd::parse_router(policy, 16, null),
                        fd::Router(16, rule, fd::LogSoftmax{}, null)) &&
           select_alike(fd::parse_router(policy + ",null=logistic,location=0.1,scale=0.4", 16),
                        fd::Router(16, rule, fd::ZScore{}, fd::LogisticNull{0.1, 0.4}));
  };
  CHECK(alike("by:alpha=0.6", test::PlainRule{fd::BenjaminiYekutieli{0.6}}));
  CHECK(alike("ebh:alpha=0.6,kappa=0.3", test::PlainRule{fd::EBH{0.6, 0.3}}));
  CHECK(alike("bonferroni:alpha=0.6", test::PlainRule{fd::Bonferroni{0.6}}));
  CHECK(alike("sidak:alpha=0.6", test::PlainRule{fd::Sidak{0.6}}));
  CHECK(alike("holm:alpha=0.6", test::PlainRule{fd::Holm{0.6}}));
  CHECK(alike("hochberg:alpha=0.6", test::PlainRule{fd::Hochberg{0.6}}));
  CHECK(alike("hommel:alpha=0.6", test::PlainRule{fd::Hommel{0.6}}));
  CHECK(alike("storey:alpha=0.3,lambda=0.2", test::PlainRule{fd::StoreyBH{0.3, 0.2}}));
  CHECK(alike("bky:alpha=0.3", test::PlainRule{fd::TwoStageBKY{0.3}}));
  CHECK(alike("lfdr:alpha=0.3", test::PlainRule{fd::LocalFdr{0.3}}));
  fd::HigherCriticism hc{0.4};
  CHECK(alike("hc:search=0.4", test::PlainRule{hc}));
  hc.deviation = fd::HigherCriticism::Deviation::of_p;
  CHECK(alike("hc:search=0.4,deviation=p", test::PlainRule{hc}));
  hc.critical = fd::critical_statistic(hc, 16, 0.1);
  CHECK(alike("hc:search=0.4,deviation=p,level=0.1", test::PlainRule{hc}));
  fd::BerkJones bj{0.4};
  CHECK(alike("bj:search=0.4", test::PlainRule{bj}));
  bj.critical = fd::critical_statistic(bj, 16, 0.1);
  CHECK(alike("bj:search=0.4,level=0.1", test::PlainRule{bj}));
  const auto names = test::names_of_rules_of_p();
  CHECK(compared == std::set(names.begin(), names.end()));
  // The comparison can tell.
  CHECK(!alike("bj:search=0.4", test::PlainRule{bj}));
  CHECK(!alike("holm:alpha=0.6", test::PlainRule{fd::Hochberg{0.6}}));
  CHECK(!alike("hommel:alpha=0.6", test::PlainRule{fd::Hochberg{0.6}}));
}

TEST_CASE("what a policy leaves out takes its documented value") {
  CHECK(canonical("topk") == "topk:k=8,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(canonical("top_p") == "top_p:p=0.9,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(canonical("relative") == "relative:t=0.1,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(canonical("threshold") ==
        "threshold:t=0.05,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(canonical("slope") ==
        "slope:c=-3,sigma=0.3,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(canonical("bh") ==
        "bh:alpha=0.05,min_k=1,max_k=16,null=tabulated,score=log_softmax,temperature=1,"
        "renormalize=false");
  CHECK(fd::parse_router("bh:null=normal", 16).policy() ==
        "bh:alpha=0.05,min_k=1,max_k=16,null=normal,score=zscore,mean=0,sd=1,temperature=1,"
        "renormalize=false");
  const std::string rest =
      "min_k=1,max_k=16,null=tabulated,score=log_softmax,temperature=1,renormalize=false";
  for (const std::string name : {"by", "bonferroni", "sidak", "holm", "hochberg", "hommel", "bky"})
    CHECK(canonical(name) == name + ":alpha=0.05," + rest);
  CHECK(canonical("storey") == "storey:alpha=0.05,lambda=0.5," + rest);
  CHECK(canonical("ebh") == "ebh:alpha=0.05,kappa=0.5," + rest);
  CHECK(canonical("lfdr") == "lfdr:alpha=0.2," + rest);
  CHECK(canonical("hc") == "hc:search=0.5,deviation=rank,level=1," + rest);
  CHECK(canonical("bj") == "bj:search=0.5,level=1," + rest);
  CHECK(fd::parse_router("lfdr:null=logistic", 16).policy() ==
        "lfdr:alpha=0.2,min_k=1,max_k=16,null=logistic,score=zscore,location=0,"
        "scale=0.5513288954217921,temperature=1,renormalize=false");
  CHECK(fd::parse_router("bh:null=normal", 16, table("logit")).policy() ==
        fd::parse_router("bh:null=normal", 16).policy());
  CHECK(fd::parse_router("bh", 16, table("zscore")).policy() ==
        "bh:alpha=0.05,min_k=1,max_k=16,null=tabulated,score=zscore,temperature=1,"
        "renormalize=false");
  // A model's own convention.
  CHECK(canonical("topk:k=2", {0.25, true}) ==
        "topk:k=2,min_k=1,max_k=16,temperature=0.25,renormalize=true");
  CHECK(canonical("topk:k=2,renormalize=false,temperature=3", {0.25, true}) ==
        "topk:k=2,min_k=1,max_k=16,temperature=3,renormalize=false");
}

TEST_CASE("mass_exponent and mass_k are written where there is an exponent") {
  const std::string topk = "topk:k=2,min_k=1,max_k=16,temperature=1,renormalize=false";
  CHECK(canonical("topk:k=2,mass_exponent=0") == topk);
  CHECK(canonical("topk:k=2,mass_exponent=0,mass_k=8") == topk);
  CHECK(canonical("topk:k=2,mass_k=5") == topk + ",mass_k=5");  // not in vain: it was given
  CHECK(canonical("topk:k=2,mass_exponent=0.4") == topk + ",mass_exponent=0.4,mass_k=8");
  CHECK(canonical("topk:k=2,mass_k=6,mass_exponent=0.4") == topk + ",mass_exponent=0.4,mass_k=6");
  CHECK(canonical("topk:k=2,weights=scaled(softmax),mass_exponent=0.4,factor=2")
            .ends_with("renormalize=false,mass_exponent=0.4,mass_k=8,factor=2"));
  // A model's own.
  const fd::SoftmaxWeights own{.mass_exponent = 0.25, .mass_k = 6};
  CHECK(canonical("topk:k=2", own) == topk + ",mass_exponent=0.25,mass_k=6");
  CHECK(canonical("topk:k=2,mass_exponent=0.25", own) == topk + ",mass_exponent=0.25,mass_k=6");
  CHECK(canonical("topk:k=2,mass_exponent=0", own) == topk + ",mass_exponent=0");
  for (const std::string policy : {"topk:k=2", "topk:k=2,mass_exponent=0", "bh:mass_k=3",
                                   "bh:alpha=0.1,mass_exponent=0.37", "top_p:mass_exponent=1"}) {
    CHECK(canonical(canonical(policy)) == canonical(policy));
    CHECK(canonical(canonical(policy, own), own) == canonical(policy, own));
  }
  CHECK(rejection("bh:mass_exponent=1.5") ==
        "policy 'bh:mass_exponent=1.5': SoftmaxWeights: mass_exponent must lie in [0, 1], got 1.5");
  CHECK(rejection("bh:mass_exponent=0.5,mass_k=0") ==
        "policy 'bh:mass_exponent=0.5,mass_k=0': SoftmaxWeights: mass_k must be at least 1, got 0");
  CHECK(rejection("bh:renormalize=true,mass_exponent=0.5") ==
        "policy 'bh:renormalize=true,mass_exponent=0.5': SoftmaxWeights: renormalize undoes "
        "mass_exponent, got 0.5");
}

TEST_CASE("a string's mass_exponent routes as the weights put together in C++") {
  test::Random random(57);
  const test::Batch batch = test::batch_of_every_kind(16, 4, random);
  const fd::SoftmaxWeights weights{.mass_exponent = 0.4, .mass_k = 6};
  CHECK(test::routed(fd::parse_router("topk:k=2,mass_exponent=0.4,mass_k=6", 16), batch.view()) ==
        test::routed(fd::Router(16, fd::TopK{2}, weights), batch.view()));
  const fd::AnyRouter bh = fd::parse_router(
      "bh:alpha=0.3,null=normal,mass_exponent=0.4,mass_k=6,weights=scaled(softmax),factor=2", 16);
  const fd::Router same(16, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                        fd::Scaled<fd::SoftmaxWeights>{weights, 2.0F});
  CHECK(test::routed(bh, batch.view()) == test::routed(same, batch.view()));
}

TEST_CASE("a written-out policy reads back as itself") {
  std::vector<std::string> policies{"topk",
                                    "topk:k=1",
                                    "topk:k=16,max_k=3",
                                    "topk:min_k=9",
                                    "topk:max_k=999",
                                    "top_p:p=1",
                                    "top_p:p=0.1,min_k=0",
                                    "relative:t=1e-3",
                                    "relative:t=1",
                                    "threshold",
                                    "threshold:t=1e-3,min_k=0",
                                    "slope",
                                    "slope:c=-2.5,sigma=0",
                                    "bh",
                                    "bh:alpha=0.1",
                                    "bh:alpha=0.30000000000000004",
                                    "bh:alpha=1e-300",
                                    "bh:alpha=.5",
                                    "bh:alpha=5e-1",
                                    "bh:min_k=0,max_k=1",
                                    "bh:max_k=8,min_k=8",
                                    "bh:score=log_softmax",
                                    "bh:null=tabulated",
                                    "bh:null=normal",
                                    "bh:sd=0.1,mean=-7.25,null=normal",
                                    "bh:null=normal,mean=1e300,sd=1e-300",
                                    "bh:null=normal,score=logit",
                                    "bh:null=normal,score=log_softmax",
                                    "bh:temperature=0.3",
                                    "bh:renormalize=true,temperature=12345.678",
                                    "bh:renormalize=false",
                                    "bh:null=logistic",
                                    "bh:null=logistic,location=-7.25,scale=0.1",
                                    "by",
                                    "by:alpha=0.3,null=normal",
                                    "ebh",
                                    "ebh:kappa=0.25,alpha=0.9",
                                    "bonferroni:alpha=0.4",
                                    "sidak:alpha=0.4,score=log_softmax",
                                    "holm:alpha=0.4,min_k=0",
                                    "hochberg:null=logistic,alpha=0.4",
                                    "hommel:alpha=0.4",
                                    "storey",
                                    "storey:lambda=0.3,alpha=0.2",
                                    "bky:alpha=0.3",
                                    "hc",
                                    "hc:search=0.25,deviation=p",
                                    "hc:level=0.1",
                                    "bj:search=0.75,level=0.3",
                                    "lfdr",
                                    "lfdr:alpha=0.5,null=normal"};
  for (const std::string_view name : fd::policy_names()) {
    const bool biased = test::takes(name, "selection_bias");
    policies.push_back(std::string(name) + (biased ? ":selection_bias=none" : ""));
  }
  for (const std::string& policy : policies) {
    CAPTURE(policy);
    const fd::AnyRouter once = fd::parse_router(policy, 16, table("log_softmax"));
    const fd::AnyRouter twice = fd::parse_router(once.policy(), 16, table("log_softmax"));
    CHECK(twice.policy() == once.policy());
    CHECK(route_alike(once, twice));
    // A model's convention no longer matters: everything is written.
    CHECK(canonical(once.policy(), {0.125, true}) == once.policy());
  }
  CHECK(canonical("bh:alpha=.5") == canonical("bh:alpha=5e-1"));
  CHECK(canonical("bh:max_k=4,alpha=0.5") == canonical("bh:alpha=0.5,max_k=4"));
}

TEST_CASE("a malformed policy: where, and what is accepted there") {
  std::string policies;
  for (const std::string_view name : fd::policy_names())
    policies.append(policies.empty() ? "; accepted are " : ", ").append(name);
  CHECK(rejection("") == "policy '', position 1: unknown policy ''" + policies);
  CHECK(rejection("top-k") ==
        "policy 'top-k', position 1: unknown policy 'top-k' (did you mean 'topk'?)" + policies);
  CHECK(rejection("BH") ==
        "policy 'BH', position 1: unknown policy 'BH' (did you mean 'bh'?)" + policies);
  CHECK(rejection(" bh") ==
        "policy ' bh', position 1: unknown policy ' bh' (did you mean 'bh'?)" + policies);
  CHECK(rejection("topk,k=3") ==
        "policy 'topk,k=3', position 1: unknown policy 'topk,k=3'" + policies);
  CHECK(rejection(":k=3") == "policy ':k=3', position 1: unknown policy ''" + policies);

  CHECK(rejection("topk:") == "policy 'topk:', position 6: key=value expected, got ''");
  CHECK(rejection("topk:k") == "policy 'topk:k', position 6: key=value expected, got 'k'");
  CHECK(rejection("topk:k=") == "policy 'topk:k=', position 6: key=value expected, got 'k='");
  CHECK(rejection("topk:=3") == "policy 'topk:=3', position 6: key=value expected, got '=3'");
  CHECK(rejection("topk:k=3,") == "policy 'topk:k=3,', position 10: key=value expected, got ''");
  CHECK(rejection("topk:,k=3") == "policy 'topk:,k=3', position 6: key=value expected, got ''");
  CHECK(rejection("topk:k=3,,max_k=2") ==
        "policy 'topk:k=3,,max_k=2', position 10: key=value expected, got ''");
  CHECK(rejection("topk:k=3;max_k=2") ==
        "policy 'topk:k=3;max_k=2', position 8: k takes an integer, got '3;max_k=2'");
  CHECK(rejection("topk:k=3,k=3") == "policy 'topk:k=3,k=3', position 10: 'k' is given twice");

  CHECK(rejection("topk:kk=3") ==
        "policy 'topk:kk=3', position 6: unknown key 'kk'; topk accepts k, min_k, max_k, ranking, "
        "ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("topk:k=3,alpha=0.1") ==
        "policy 'topk:k=3,alpha=0.1', position 10: unknown key 'alpha'; topk accepts k, min_k, "
        "max_k, ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("top_p:t=0.1") ==
        "policy 'top_p:t=0.1', position 7: unknown key 't'; top_p accepts p, min_k, max_k, "
        "ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("relative:p=0.1") ==
        "policy 'relative:p=0.1', position 10: unknown key 'p'; relative accepts t, min_k, max_k, "
        "ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("bh:k=3") ==
        "policy 'bh:k=3', position 4: unknown key 'k'; bh accepts alpha, min_k, max_k, null, "
        "score, prior, ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("bh:mean=0") ==
        "policy 'bh:mean=0', position 4: unknown key 'mean'; bh accepts alpha, min_k, max_k, null, "
        "score, prior, ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(rejection("bh:null=normal,k=2") ==
        "policy 'bh:null=normal,k=2', position 16: unknown key 'k'; bh accepts alpha, min_k, "
        "max_k, null, score, mean, sd, prior, ranking, ties, weights, temperature, renormalize, "
        "mass_exponent, mass_k");

  CHECK(rejection("topk:k=three") ==
        "policy 'topk:k=three', position 8: k takes an integer, got 'three'");
  CHECK(rejection("topk:k=3.0") ==
        "policy 'topk:k=3.0', position 8: k takes an integer, got '3.0'");
  CHECK(rejection("topk:k= 3") == "policy 'topk:k= 3', position 8: k takes an integer, got ' 3'");
  CHECK(rejection("topk:k=+3") == "policy 'topk:k=+3', position 8: k takes an integer, got '+3'");
  CHECK(rejection("topk:k=4294967296") ==
        "policy 'topk:k=4294967296', position 8: k takes an integer, got '4294967296'");
  CHECK(rejection("topk:k=2,min_k=x") ==
        "policy 'topk:k=2,min_k=x', position 16: min_k takes an integer, got 'x'");
  CHECK(rejection("bh:alpha=5%") ==
        "policy 'bh:alpha=5%', position 10: alpha takes a number, got '5%'");
  CHECK(rejection("bh:alpha=0,05") ==
        "policy 'bh:alpha=0,05', position 12: key=value expected, got '05'");
  CHECK(rejection("bh:alpha=1e-400") ==
        "policy 'bh:alpha=1e-400', position 10: alpha takes a number, got '1e-400'");
  CHECK(rejection("bh:alpha=0.1=0.2") ==
        "policy 'bh:alpha=0.1=0.2', position 10: alpha takes a number, got '0.1=0.2'");
  CHECK(rejection("bh:temperature=warm") ==
        "policy 'bh:temperature=warm', position 16: temperature takes a number, got 'warm'");

  CHECK(rejection("bh:score=softmax") ==
        "policy 'bh:score=softmax', position 10: score is one of logit, log_softmax, zscore, "
        "robust_zscore, got 'softmax' (did you mean 'log_softmax'?)");
  CHECK(rejection("bh:null=gumbel") ==
        "policy 'bh:null=gumbel', position 9: null is one of tabulated, normal, logistic, "
        "conformal, per_expert, got 'gumbel'");
  CHECK(rejection("bh:score=rank") ==
        "policy 'bh:score=rank', position 10: score=rank is refused: ranks within a token are 1 .. "
        "m whatever its logits are, so their p-values are k/m and every token would get the same "
        "number of experts");
  CHECK(rejection("hc:deviation=q") ==
        "policy 'hc:deviation=q', position 14: deviation is one of rank, p, got 'q'");
  CHECK(rejection("bh:null=logistic,sd=2") ==
        "policy 'bh:null=logistic,sd=2', position 18: unknown key 'sd'; bh accepts alpha, min_k, "
        "max_k, null, score, location, scale, prior, ranking, ties, weights, temperature, "
        "renormalize, mass_exponent, mass_k");
  CHECK(rejection("bh:renormalize=1") ==
        "policy 'bh:renormalize=1', position 16: renormalize is one of false, true, got '1'");
  CHECK(rejection(std::string("topk:k=3\0", 9)) ==
        "policy 'topk:k=3\\x00', position 8: k takes an integer, got '3\\x00'");
}

TEST_CASE("a policy's value out of range: the policy's own message") {
  CHECK(rejection("topk:k=0") ==
        "policy 'topk:k=0': TopK: k must lie in [1, 16], the number of experts, got 0");
  CHECK(rejection("topk:k=17") ==
        "policy 'topk:k=17': TopK: k must lie in [1, 16], the number of experts, got 17");
  CHECK(rejection("top_p:p=1.5") == "policy 'top_p:p=1.5': TopP: p must lie in (0, 1], got 1.5");
  CHECK(rejection("relative:t=0") ==
        "policy 'relative:t=0': RelativeThreshold: t must lie in (0, 1], got 0");
  CHECK(rejection("threshold:t=2") ==
        "policy 'threshold:t=2': AbsoluteThreshold: t must lie in (0, 1], got 2");
  CHECK(rejection("bh:alpha=1") ==
        "policy 'bh:alpha=1': BenjaminiHochberg: alpha must lie in (0, 1), got 1");
  CHECK(rejection("bh:alpha=nan") ==
        "policy 'bh:alpha=nan': BenjaminiHochberg: alpha must lie in (0, 1), got nan");
  CHECK(rejection("sidak:alpha=1") ==
        "policy 'sidak:alpha=1': Sidak: alpha must lie in (0, 1), got 1");
  CHECK(rejection("hommel:alpha=0") ==
        "policy 'hommel:alpha=0': Hommel: alpha must lie in (0, 1), got 0");
  CHECK(rejection("storey:lambda=1") ==
        "policy 'storey:lambda=1': StoreyBH: lambda must lie in (0, 1), got 1");
  CHECK(rejection("hc:search=2") ==
        "policy 'hc:search=2': HigherCriticism: search must lie in (0, 1), got 2");
  CHECK(rejection("bj:level=0") ==
        "policy 'bj:level=0': critical_statistic: level must lie in [1e-300, 1], got 0");
  CHECK(
      rejection("bh:null=logistic,scale=0") ==
      "policy 'bh:null=logistic,scale=0': LogisticNull: scale must be positive and finite, got 0");
  CHECK(rejection("bh:min_k=17") ==
        "policy 'bh:min_k=17': ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got "
        "min_k 17, max_k 16");
  CHECK(rejection("bh:min_k=17,max_k=20") ==
        "policy 'bh:min_k=17,max_k=20': ExpertBounds: min_k 17 exceeds the number of experts, 16");
  CHECK(rejection("bh:min_k=-1") ==
        "policy 'bh:min_k=-1': ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got "
        "min_k -1, max_k 16");
  CHECK(
      rejection("bh:temperature=0") ==
      "policy 'bh:temperature=0': SoftmaxWeights: temperature must be positive and finite, got 0");
  CHECK(rejection("bh:null=normal,sd=0") ==
        "policy 'bh:null=normal,sd=0': NormalNull: sd must be positive and finite, got 0");
  CHECK(rejection("bh:null=normal,mean=inf") ==
        "policy 'bh:null=normal,mean=inf': NormalNull: mean must be finite, got inf");
  CHECK(test::rejection_of([] { fd::parse_router("topk:k=1", 0); }) ==
        "policy 'topk:k=1': Router: the number of experts must lie in [1, 1024], got 0");
  CHECK(test::rejection_of([] { fd::parse_router("topk:k=1", 2000); }) ==
        "policy 'topk:k=1': Router: the number of experts must lie in [1, 1024], got 2000");
  CHECK(test::rejection_of([] { fd::parse_router("hc:null=normal,level=0.1", 1 << 30); }) ==
        "policy 'hc:null=normal,level=0.1': Router: the number of experts must lie in [1, 1024], "
        "got 1073741824");
  CHECK(test::rejection_of([] { fd::parse_router("topk", 4); }) ==
        "policy 'topk': TopK: k must lie in [1, 4], the number of experts, got 8");
}

TEST_CASE("a policy and its null distribution") {
  CHECK(rejection("bh:alpha=0.1", "") ==
        "policy 'bh:alpha=0.1' needs a null distribution: give a fitted one, or null=normal");
  CHECK(rejection("bh:null=tabulated", "") ==
        "policy 'bh:null=tabulated' needs a null distribution: give a fitted one, or null=normal");
  CHECK(rejection("bh:null=normal", "") == "no error");
  CHECK(rejection("topk", "") == "no error");
  CHECK(rejection("bh:score=zscore") ==
        "Router: the null distribution was fitted on score 'log_softmax', the router uses "
        "'zscore'");
  CHECK_THROWS_AS(fd::parse_router("bh:score=zscore", 16, table("logit")), fd::NullMismatch);
  CHECK(rejection("bh", "entmax") ==
        "policy 'bh': the null distribution was fitted on score 'entmax', which no policy string "
        "can name");
  CHECK(rejection("bh:score=logit", "entmax") ==
        "Router: the null distribution was fitted on score 'entmax', the router uses 'logit'");
  CHECK(rejection("bh:null=normal", "entmax") == "no error");
}
