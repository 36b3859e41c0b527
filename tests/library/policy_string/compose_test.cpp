// Policy strings that put parts together: the router is that of the same parts put together in C++.

#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/null/conformal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/null/weighted.hpp"
#include "fdroute/parse.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/router.hpp"
#include "library/every_policy.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;
namespace presets = fdroute::presets;

namespace {

constexpr int composed_experts = 16;

fd::TabulatedNull fitted_table(double shift = 0.0) {
  return fd::TabulatedNull::from_log_survival(
      {-3.0 + shift, -1.0 + shift, 0.5 + shift, 1.5 + shift}, {-0.1, -0.9, -2.5, -7.0},
      test::fitted_on("zscore"));
}

/// What strings may refer to in these tests.
struct Given {
  Given() {
    test::Random random(81);
    for (float& b : bias) b = 0.3F * random.normal();
    bias[5] = -test::infinity;  // switched off
    for (int j = 0; j < composed_experts; ++j) per_expert.push_back(fitted_table(0.05 * j));
    for (int i = 0; i < 400; ++i) sample.push_back(0.8 * random.normal());
    for (int j = 0; j < composed_experts; ++j) prior.push_back(j % 2 == 0 ? 1.75 : 0.25);
    prior[0] = 3.5;
    prior[2] = 0.0;
  }

  std::vector<float> bias = std::vector<float>(composed_experts);
  fd::TabulatedNull null = fitted_table();
  std::vector<fd::TabulatedNull> per_expert{};
  std::vector<double> sample{};
  std::vector<double> prior{};
};

/// Rows of every kind, tied, with NaN and masked experts among them.
const test::Batch& composed_rows() {
  static const test::Batch rows = [] {
    test::Random random(82);
    return test::batch_of_every_kind(composed_experts, 8, random);
  }();
  return rows;
}

/// The router of a string; what it says of itself must read back as itself, and route alike.
fd::AnyRouter parsed(const std::string& policy, const fd::ParseOptions<>& options) {
  CAPTURE(policy);
  const fd::AnyRouter router = fd::parse_router(policy, composed_experts, options);
  const fd::AnyRouter again = fd::parse_router(router.policy(), composed_experts, options);
  CHECK(again.policy() == router.policy());
  CHECK(test::routed(again, composed_rows().view()) ==
        test::routed(router, composed_rows().view()));
  return router;
}

/// Ids, weights, counts and statuses, bit for bit, in all four forms.
template <class Router>
void check_alike(const std::string& policy, const fd::ParseOptions<>& options,
                 const Router& expected) {
  CAPTURE(policy);
  const fd::AnyRouter router = parsed(policy, options);
  REQUIRE(router.capacity() == expected.capacity());
  CHECK(test::routed(router, composed_rows().view()) ==
        test::routed(expected, composed_rows().view()));
  CHECK(test::difference_of_csr(router, composed_rows().view()) == "");
}

/// The ranking and weights of a preset, with another rule.
template <class Preset, class R>
auto with_rule(const Preset& model, const R& rule, fd::ExpertBounds bounds) {
  return fd::Router(model.experts(), rule, model.weights(), bounds, model.ranking());
}

template <class Preset, class R, class S, class N>
auto with_rule(const Preset& model, const R& rule, const S& score, const N& null,
               fd::ExpertBounds bounds = {}) {
  return fd::Router(model.experts(), rule, score, null, model.weights(), bounds, model.ranking());
}

/// Calls check(name, settings, router in C++) for every preset.
template <class Check>
void each_preset(std::span<const float> bias, const Check& check) {
  check("olmoe", "norm_topk_prob=true", presets::olmoe({composed_experts, 1, true}));
  check("mixtral", "", presets::mixtral({composed_experts, 1}));
  check("qwen3-moe", "norm_topk_prob=false", presets::qwen3_moe({composed_experts, 1, false}));
  check("gpt-oss", "", presets::gpt_oss({composed_experts, 1}));
  check("llama4", "", presets::llama4({composed_experts, 1}));
  check("deepseek-v2", "n_group=4,topk_group=2",
        presets::deepseek_v2({composed_experts, 1, 4, 2, 16.0F}));
  check("deepseek-v3", "n_group=4,topk_group=2",
        presets::deepseek_v3({composed_experts, 1, 4, 2, true, 2.5F}, bias));
  check("glm4-moe", "norm_topk_prob=false,routed_scaling_factor=1",
        presets::glm4_moe({composed_experts, 1, 1, 1, false, 1.0F}, bias));
}

std::string composed_rejection(const std::string& policy, const fd::ParseOptions<>& options = {}) {
  return test::rejection_of([&] { fd::parse_router(policy, composed_experts, options); });
}

}  // namespace

TEST_CASE("a preset keeps its ranking and weights with any rule in the place of its own") {
  const Given given;
  const fd::ParseOptions<> options{.null = &given.null, .selection_bias = given.bias};
  std::set<std::string> compared;
  each_preset(given.bias,
              [&](const std::string& name, const std::string& settings, const auto& model) {
                compared.insert(name);
                const std::string own = settings.empty() ? "" : "," + settings;
                const auto check = [&](const std::string& rule, const auto& expected) {
                  check_alike("preset:" + name + own + ",rule=" + rule, options, expected);
                  check_alike(name + ":rule=" + rule + own, options, expected);
                };
                check("topk,k=3,max_k=2", with_rule(model, fd::TopK{3}, fd::ExpertBounds{1, 2}));
                check("relative,t=0.3,min_k=2",
                      with_rule(model, fd::RelativeThreshold{0.3}, {2, composed_experts}));
                const fd::BenjaminiHochberg bh{0.4};
                check("bh,alpha=0.4", with_rule(model, bh, fd::ZScore{}, given.null));
                check("bh,alpha=0.4,null=normal,mean=0.1,sd=0.5,score=logit,min_k=0,max_k=5",
                      with_rule(model, bh, fd::Logit{}, fd::NormalNull{0.1, 0.5}, {0, 5}));
                fd::HigherCriticism hc{0.4};
                hc.critical = fd::critical_statistic(hc, composed_experts, 0.3);
                check("hc,search=0.4,level=0.3,null=logistic,score=log_softmax,scale=2",
                      with_rule(model, hc, fd::LogSoftmax{}, fd::LogisticNull{0.0, 2.0}));
                const auto plain = [&](const auto& rule) {
                  return with_rule(model, test::PlainRule{rule}, fd::ZScore{}, given.null);
                };
                check("by,alpha=0.6", plain(fd::BenjaminiYekutieli{0.6}));
                check("ebh,alpha=0.6,kappa=0.3", plain(fd::EBH{0.6, 0.3}));
                check("bonferroni,alpha=0.6", plain(fd::Bonferroni{0.6}));
                check("sidak,alpha=0.6", plain(fd::Sidak{0.6}));
                check("holm,alpha=0.6", plain(fd::Holm{0.6}));
                check("hochberg,alpha=0.6", plain(fd::Hochberg{0.6}));
                check("hommel,alpha=0.6", plain(fd::Hommel{0.6}));
                check("storey,alpha=0.3,lambda=0.2", plain(fd::StoreyBH{0.3, 0.2}));
                check("bky,alpha=0.3", plain(fd::TwoStageBKY{0.3}));
                check("lfdr,alpha=0.3", plain(fd::LocalFdr{0.3}));
                check("bj,search=0.4", plain(fd::BerkJones{0.4}));
              });
  const auto names = test::names_of_presets();
  CHECK(compared == std::set(names.begin(), names.end()));
}

TEST_CASE("every rule that strings can name takes the place of a preset's") {
  const Given given;
  const fd::ParseOptions<> options{.null = &given.null, .selection_bias = given.bias};
  int combinations = 0;
  for (const std::string& preset : test::names_of_presets()) {
    for (const std::string_view rule : fd::policy_names()) {
      if (++combinations % test::stride_of_cases != 0) continue;
      const std::string policy = "preset:" + preset +
                                 (test::takes(preset, "n_group") ? ",n_group=4" : "") +
                                 ",rule=" + std::string(rule);
      CAPTURE(policy);
      if (test::takes(rule, "num_experts_per_tok")) {
        CHECK(composed_rejection(policy, options).find("rule is one of topk, ") !=
              std::string::npos);
      } else {
        const std::string text = parsed(policy, options).policy();
        CHECK(text.starts_with(preset + ":"));
        CHECK(text.find("rule=" + std::string(rule) + ",") != std::string::npos);
        CHECK(text.find("num_experts_per_tok") == std::string::npos);
        CHECK(text.find("temperature") == std::string::npos);
      }
    }
  }
}

TEST_CASE("preset:NAME without a rule is NAME") {
  const Given given;
  const fd::ParseOptions<> options{.null = &given.null, .selection_bias = given.bias};
  for (const std::string& name : test::names_of_presets()) {
    const std::string settings = test::takes(name, "n_group") ? "n_group=4,topk_group=2" : "";
    const fd::AnyRouter router = fd::parse_router(name + (settings.empty() ? "" : ":" + settings),
                                                  composed_experts, options);
    check_alike("preset:" + name + (settings.empty() ? "" : "," + settings), options, router);
  }
  CHECK(parsed("preset:mixtral", {}).policy() == "mixtral:num_experts_per_tok=2");
  const auto highest = presets::mixtral({composed_experts, 2});
  check_alike("preset:mixtral,ties=highest", {},
              fd::Router(composed_experts, highest.rule(), highest.weights(), fd::ExpertBounds{},
                         fd::ByLogit{fd::TieOrder::highest_index}));
  CHECK(parsed("mixtral:ties=highest", {}).policy() ==
        "mixtral:num_experts_per_tok=2,ties=highest");
}

TEST_CASE("rankings and weights by name") {
  const Given given;
  const fd::ParseOptions<> options{.null = &given.null, .selection_bias = given.bias};
  const fd::TieOrder highest = fd::TieOrder::highest_index;
  std::set<std::string> compared;
  const auto check = [&](const std::string& ranking, const std::string& weights, const auto& rank,
                         const auto& weigh) {
    compared.insert(ranking.substr(0, ranking.find(',')));
    compared.insert(weights.substr(0, weights.find(',')));
    const std::string parts = ",ranking=" + ranking + ",weights=" + weights;
    check_alike("topk:k=5" + parts, options,
                fd::Router(composed_experts, fd::TopK{5}, weigh, fd::ExpertBounds{}, rank));
    check_alike("bh:alpha=0.4,max_k=6,null=normal,sd=0.5" + parts, options,
                fd::Router(composed_experts, fd::BenjaminiHochberg{0.4}, fd::ZScore{},
                           fd::NormalNull{0.0, 0.5}, weigh, fd::ExpertBounds{1, 6}, rank));
  };
  check("logit", "sigmoid,renormalize=true,epsilon=0.25", fd::ByLogit{},
        fd::SigmoidWeights{true, 0.25});
  check("logit,ties=highest", "scaled(softmax),temperature=2,factor=3", fd::ByLogit{highest},
        fd::Scaled<fd::SoftmaxWeights>{{2.0, false}, 3.0F});
  check("sigmoid,selection_bias=given", "softmax,renormalize=true", fd::BySigmoid{given.bias},
        fd::SoftmaxWeights{1.0, true});
  check("sigmoid,selection_bias=none,ties=highest", "scaled(sigmoid)", fd::BySigmoid{{}, highest},
        fd::Scaled<fd::SigmoidWeights>{});
  check("group_limited(logit),groups=8,kept=3,masked=-5", "softmax",
        fd::GroupLimited<fd::ByLogit>{.groups = 8, .kept = 3, .masked = -5.0F},
        fd::SoftmaxWeights{});
  check("group_limited(sigmoid),groups=4,kept=2,group_score=sum_of_top2,ties=highest",
        "scaled(sigmoid),renormalize=true,epsilon=1e-20,factor=2.5",
        fd::GroupLimited<fd::BySigmoid>{.ranking = {given.bias, highest},
                                        .groups = 4,
                                        .kept = 2,
                                        .score = fd::GroupScore::sum_of_top2},
        fd::Scaled<fd::SigmoidWeights>{{true, 1e-20}, 2.5F});
  std::set<std::string> names(fd::ranking_names().begin(), fd::ranking_names().end());
  names.insert(fd::weights_names().begin(), fd::weights_names().end());
  compared.erase("sigmoid,selection_bias=given");
  CHECK(compared == names);
}

TEST_CASE("what is not named of ranking and weights is not written, but a bias and its like are") {
  const Given given;
  const fd::ParseOptions<> biased{.selection_bias = given.bias};
  CHECK(parsed("topk:k=2,ranking=logit,ties=lowest,weights=softmax", biased).policy() ==
        "topk:k=2,min_k=1,max_k=16,temperature=1,renormalize=false");
  CHECK(parsed("topk:k=2,ranking=sigmoid,ties=highest", biased).policy() ==
        "topk:k=2,min_k=1,max_k=16,ranking=sigmoid,selection_bias=given,ties=highest,"
        "temperature=1,renormalize=false");
  CHECK(parsed("topk:k=2,ranking=sigmoid", {}).policy() ==
        "topk:k=2,min_k=1,max_k=16,ranking=sigmoid,selection_bias=none,temperature=1,"
        "renormalize=false");
  CHECK(parsed("topk:k=2,weights=sigmoid", {}).policy() ==
        "topk:k=2,min_k=1,max_k=16,weights=sigmoid,renormalize=false,epsilon=0");
  CHECK(parsed("topk:k=2,ranking=group_limited(logit),weights=scaled(softmax)", {}).policy() ==
        "topk:k=2,min_k=1,max_k=16,ranking=group_limited(logit),groups=1,kept=1,group_score=max,"
        "masked=-inf,weights=scaled(softmax),temperature=1,renormalize=false,factor=1");
  CHECK(parsed("preset:deepseek-v3,n_group=4,topk_group=2,rule=bh,alpha=0.1,null=normal", biased)
            .policy() ==
        "deepseek-v3:n_group=4,topk_group=2,norm_topk_prob=true,routed_scaling_factor=2.5,"
        "selection_bias=given,rule=bh,alpha=0.1,min_k=1,max_k=16,null=normal,score=zscore,mean=0,"
        "sd=1");
  const fd::ParseOptions<> prior{.prior = given.prior};
  CHECK(parsed("bh:null=normal", prior).policy() ==
        "bh:alpha=0.05,min_k=1,max_k=16,null=normal,score=zscore,mean=0,sd=1,prior=given,"
        "temperature=1,renormalize=false");
  CHECK(parsed("bh:null=normal,prior=none", prior).policy().find("prior=none") !=
        std::string::npos);
  CHECK(parsed("bh:null=normal,prior=none", {}).policy().find("prior") == std::string::npos);
}

TEST_CASE("null distributions that are given") {
  const Given given;
  const fd::ConformalNull conformal(given.sample, test::fitted_on("zscore"));
  const fd::BenjaminiHochberg bh{0.4};
  const fd::ZScore score{};
  const auto bonferroni = [&](const auto& null) {
    return fd::Router(composed_experts, fd::Bonferroni{0.4}, score, null);
  };
  const fd::PerExpertNull<fd::TabulatedNull> per_expert{given.per_expert};
  const fd::WeightedNull weighted{given.null, given.prior};
  const fd::ParseOptions<> all{.null = &given.null,
                               .selection_bias = given.bias,
                               .conformal = &conformal,
                               .expert_nulls = given.per_expert};
  check_alike("bh:alpha=0.4", all, fd::Router(composed_experts, bh, score, given.null));
  check_alike("bh:alpha=0.4,null=conformal", all,
              fd::Router(composed_experts, bh, score, conformal));
  check_alike("bonferroni:alpha=0.4,null=conformal", all, bonferroni(conformal));
  check_alike("bh:alpha=0.4,null=per_expert", all,
              fd::Router(composed_experts, bh, score, per_expert));
  check_alike("bonferroni:alpha=0.4,null=per_expert", all, bonferroni(per_expert));
  // One that is given alone need not be named.
  check_alike("bh:alpha=0.4", {.conformal = &conformal},
              fd::Router(composed_experts, bh, score, conformal));
  check_alike("bh:alpha=0.4", {.expert_nulls = given.per_expert},
              fd::Router(composed_experts, bh, score, per_expert));
  const fd::ParseOptions<> prior{.null = &given.null,
                                 .conformal = &conformal,
                                 .expert_nulls = given.per_expert,
                                 .prior = given.prior};
  check_alike("bh:alpha=0.4", prior, fd::Router(composed_experts, bh, score, weighted));
  check_alike("bonferroni:alpha=0.4,prior=given", prior, bonferroni(weighted));
  check_alike("bh:alpha=0.4,null=conformal", prior,
              fd::Router(composed_experts, bh, score, fd::WeightedNull{conformal, given.prior}));
  check_alike("bh:alpha=0.4,null=normal,score=logit", prior,
              fd::Router(composed_experts, bh, fd::Logit{},
                         fd::WeightedNull{fd::NormalNull{}, given.prior}));
  check_alike("bh:alpha=0.4,prior=none", prior,
              fd::Router(composed_experts, bh, score, given.null));
  check_alike("bh:alpha=0.4,null=per_expert,prior=none", prior,
              fd::Router(composed_experts, bh, score, per_expert));
  // With a ranking of one's own, as with any null.
  check_alike("bh:alpha=0.4,null=per_expert,ranking=sigmoid,weights=sigmoid", all,
              fd::Router(composed_experts, bh, score, per_expert, fd::SigmoidWeights{},
                         fd::ExpertBounds{}, fd::BySigmoid{given.bias}));
}

namespace {

/// Runs one after the other, and counts them: blocks of tokens where kernels route, else tokens.
struct Counting {
  int* parts;

  template <class Body>
  fd::TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    fd::TokenStatus status = fd::TokenStatus::ok;
    for (std::ptrdiff_t i = 0; i < n; ++i, ++*parts) status = status | body(i);
    return status;
  }
};

int parts_of_64_tokens(const fd::AnyRouter& router) {
  const std::vector<float> logits(64 * composed_experts);
  test::Padded routed(64, router.capacity());
  int parts = 0;
  router.route(Counting{&parts}, fd::LogitsView(logits.data(), 64, composed_experts),
               routed.view());
  return parts;
}

}  // namespace

TEST_CASE(
    "a string opens kernels with a null for every expert, too, if its rule has critical "
    "values") {
  const Given given;
  const fd::ParseOptions<> options{.null = &given.null,
                                   .selection_bias = given.bias,
                                   .expert_nulls = given.per_expert,
                                   .prior = given.prior};
  const auto parts = [&](const std::string& policy) {
    CAPTURE(policy);
    return parts_of_64_tokens(fd::parse_router(policy, composed_experts, options));
  };
  for (const std::string rule : {"bh", "by", "ebh", "bonferroni", "sidak", "holm", "hochberg"}) {
    CHECK(parts(rule + ":null=per_expert,prior=none") == 4);
    CHECK(parts(rule + ":null=normal,prior=given") == 4);
    CHECK(parts(rule + ":null=normal,prior=none,score=robust_zscore") == 4);
  }
  CHECK(parts("hc:null=normal,prior=none") == 4);
  CHECK(parts("topk:k=2") == 4);
  // These have none: p-values decide the order, and the rule reads them all.
  CHECK(parts("hc:null=per_expert,prior=none") == 64);
  CHECK(parts("bh:null=per_expert,prior=none,ties=highest") == 64);
}

TEST_CASE("a ranking by logit with softmax weights opens the kernels that it opens in C++") {
  const auto kernels = [](const std::string& policy) {
    return fd::parse_router(policy, composed_experts).softmax_weights() != nullptr;
  };
  CHECK(kernels("topk:weights=softmax"));
  CHECK(kernels("preset:mixtral,rule=bh,null=normal"));
  CHECK(!kernels("topk:weights=sigmoid"));
  CHECK(!kernels("topk:weights=scaled(softmax)"));
}

TEST_CASE("what cannot be put together is refused in words") {
  const Given given;
  CHECK(composed_rejection("preset").starts_with(
      "policy 'preset', position 7: unknown preset ''; accepted are olmoe, "
      "mixtral, qwen3-moe, gpt-oss, llama4, deepseek-v2, deepseek-v3, "
      "glm4-moe, afmoe, aria, "));
  CHECK(composed_rejection("preset:").starts_with(
      "policy 'preset:', position 8: unknown preset ''; "));
  CHECK(composed_rejection("preset:bh,alpha=0.1")
            .starts_with("policy 'preset:bh,alpha=0.1', position 8: unknown preset 'bh'"));
  CHECK(composed_rejection("preset:glm4moe,rule=bh")
            .starts_with("policy 'preset:glm4moe,rule=bh', position 8: unknown preset "
                         "'glm4moe' (did you mean 'glm4-moe'?); accepted are olmoe, "));
  CHECK(composed_rejection("preset:mixtral,k") ==
        "policy 'preset:mixtral,k', position 16: key=value expected, got 'k'");
  CHECK(composed_rejection("preset:mixtral,rule=bhh,null=normal")
            .starts_with("policy 'preset:mixtral,rule=bhh,null=normal', position 21: rule is one "
                         "of topk, top_p, relative, threshold, slope, bh, "));
  CHECK(
      composed_rejection("preset:mixtral,rule=bhh").ends_with(", got 'bhh' (did you mean 'bh'?)"));
  // The rule takes the place of the number of experts.
  CHECK(composed_rejection("preset:mixtral,num_experts_per_tok=2,rule=bh,null=normal") ==
        "policy 'preset:mixtral,num_experts_per_tok=2,rule=bh,null=normal', position 16: unknown "
        "key 'num_experts_per_tok'; mixtral accepts rule, ties, alpha, min_k, max_k, null, score, "
        "mean, sd, prior");
  CHECK(composed_rejection("preset:mixtral,rule=bh,null=normal,weights=sigmoid")
            .find("unknown key 'weights'") != std::string::npos);
  CHECK(composed_rejection("topk:rule=bh").find("unknown key 'rule'") != std::string::npos);
  CHECK(composed_rejection("preset:mixtral,rule=bh") ==
        "policy 'preset:mixtral,rule=bh' needs a null distribution: give a fitted one, or "
        "null=normal");
  CHECK(composed_rejection("preset:mixtral,rule=topk,k=17") ==
        "policy 'preset:mixtral,rule=topk,k=17': TopK: k must lie in [1, 16], the number of "
        "experts, got 17");
  CHECK(composed_rejection("preset:deepseek-v3,rule=topk") ==
        "policy 'preset:deepseek-v3,rule=topk' needs a selection bias: give one value per expert, "
        "or selection_bias=none");

  CHECK(composed_rejection("topk:ranking=group_limited") ==
        "policy 'topk:ranking=group_limited', position 14: ranking is one of logit, sigmoid, "
        "group_limited(logit), group_limited(sigmoid), got 'group_limited' (did you mean "
        "'group_limited(logit)'?)");
  CHECK(composed_rejection("topk:weights=softmaxx") ==
        "policy 'topk:weights=softmaxx', position 14: weights is one of softmax, sigmoid, "
        "scaled(softmax), scaled(sigmoid), got 'softmaxx' (did you mean 'softmax'?)");
  CHECK(composed_rejection("topk:ties=first") ==
        "policy 'topk:ties=first', position 11: ties is one of lowest, highest, got 'first'");
  CHECK(composed_rejection("topk:ranking=sigmoid,selection_bias=given") ==
        "policy 'topk:ranking=sigmoid,selection_bias=given' needs a selection bias: give one value "
        "per expert, or selection_bias=none");
  CHECK(composed_rejection("topk:selection_bias=none").find("unknown key") != std::string::npos);
  CHECK(composed_rejection("topk:groups=2").find("unknown key 'groups'") != std::string::npos);
  CHECK(composed_rejection("topk:weights=sigmoid,temperature=2")
            .ends_with("unknown key 'temperature'; topk accepts k, min_k, max_k, ranking, ties, "
                       "weights, renormalize, epsilon"));
  CHECK(composed_rejection("topk:ranking=group_limited(logit),groups=3") ==
        "policy 'topk:ranking=group_limited(logit),groups=3': GroupLimited: groups must divide the "
        "16 experts, got 3");
  CHECK(composed_rejection("topk:weights=scaled(sigmoid),factor=0") ==
        "policy 'topk:weights=scaled(sigmoid),factor=0': Scaled: factor must be positive and "
        "finite, got 0");
  const std::vector<float> short_bias(3);
  CHECK(composed_rejection("topk:ranking=sigmoid", {.selection_bias = short_bias}) ==
        "policy 'topk:ranking=sigmoid': BySigmoid: bias has 3 values for 16 experts");

  CHECK(composed_rejection("bh:null=conformal") ==
        "policy 'bh:null=conformal' needs a calibration sample: give a ConformalNull, or "
        "null=normal");
  CHECK(composed_rejection("bh:null=per_expert") ==
        "policy 'bh:null=per_expert' needs null distributions for every expert: give one for each, "
        "or null=normal");
  CHECK(composed_rejection("bh:null=normal,prior=given") ==
        "policy 'bh:null=normal,prior=given' needs prior weights: give one per expert, or "
        "prior=none");
  CHECK(composed_rejection("bh:null=per_expert,prior=given",
                           {.expert_nulls = given.per_expert, .prior = given.prior}) ==
        "policy 'bh:null=per_expert,prior=given', position 26: null=per_expert takes no prior "
        "weights: say prior=none");
  const std::vector<double> heavy(composed_experts, 2.0);
  CHECK(composed_rejection("bh:null=normal", {.prior = heavy}).find("WeightedNull: ") !=
        std::string::npos);
  CHECK(composed_rejection("bh", {.expert_nulls = std::span(given.per_expert).first(3)}) ==
        "policy 'bh': PerExpertNull: 3 nulls for 16 experts");
  CHECK_THROWS_AS(
      fd::parse_router("bh:score=logit", composed_experts, {.expert_nulls = given.per_expert}),
      fd::NullMismatch);
}

TEST_CASE("a word that is nearly right is answered with the right one") {
  CHECK(composed_rejection("Bh").find("unknown policy 'Bh' (did you mean 'bh'?); ") !=
        std::string::npos);
  CHECK(composed_rejection("bh:alhpa=0.1,null=normal")
            .find("'alhpa' (did you mean 'alpha'?); bh accepts") != std::string::npos);
  CHECK(composed_rejection("bh:null=norml").find("got 'norml' (did you mean 'normal'?)") !=
        std::string::npos);
  CHECK(composed_rejection("bh:null=normal,max-k=3").find("'max-k' (did you mean 'max_k'?)") !=
        std::string::npos);
  CHECK(composed_rejection("xyz").find("did you mean") == std::string::npos);
  CHECK(composed_rejection("topk:kk=3").find("did you mean") == std::string::npos);
}

TEST_CASE("a stranger's router keeps its parts with another rule, too") {
  const std::vector<fd::PolicyMaker<>> own{
      {"mine",
       [](auto& s) {
         const int k = s.replaces_rule() ? 1 : s.number("k", 2);
         return s.route_as(fd::Router(s.experts(), fd::TopK{k}, fd::SigmoidWeights{},
                                      fd::ExpertBounds{}, fd::BySigmoid{}));
       }},
      {"half", [](auto& s) { return s.route_by(fd::TopK{s.experts() / 2}); }},
      {"whole", [](auto& s) { return s.finish(fd::Router(s.experts(), fd::TopK{2})); }}};
  const fd::ParseOptions<> options{.makers = own};
  const fd::SigmoidWeights weights{};
  const fd::BySigmoid ranking{};
  check_alike("mine:k=3", options,
              fd::Router(composed_experts, fd::TopK{3}, weights, fd::ExpertBounds{}, ranking));
  check_alike("preset:mine,rule=relative,t=0.5", options,
              fd::Router(composed_experts, fd::RelativeThreshold{0.5}, weights, fd::ExpertBounds{},
                         ranking));
  check_alike("preset:mixtral,rule=half", options,
              fd::Router(composed_experts, fd::TopK{8}, fd::SoftmaxWeights{1.0, true}));
  CHECK(composed_rejection("preset:mixtral,rule=mine", options) ==
        "policy 'preset:mixtral,rule=mine', position 21: rule names a router that is more than a "
        "rule");
  CHECK(composed_rejection("preset:mixtral,rule=whole", options) ==
        "policy 'preset:mixtral,rule=whole', position 21: rule names a router that is more than a "
        "rule");
}
