#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/any_policy.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"
#include "fdroute/null/logistic.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/benjamini_yekutieli.hpp"
#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/bonferroni.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/local_fdr.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/sidak.hpp"
#include "fdroute/selection/storey_bh.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/selection/two_stage_bky.hpp"

namespace fdroute::inline v0 {

namespace detail {

// Reads one policy for a router on Arch. What it reads it also writes to `canonical_`, so the two
// cannot drift apart.
template <class Arch>
class PolicyParser {
 public:
  PolicyParser(std::string_view text, int experts, const TabulatedNull* table,
               SoftmaxWeights weights, std::span<const float> selection_bias)
      : arguments_(text),
        experts_(experts),
        table_(table),
        weights_(weights),
        selection_bias_(selection_bias) {}

  AnyRouter parse() {
    validate_experts(experts_);
    const std::string_view name = arguments_.name();
    if (name == "topk") return without_null(TopK{number("k", 8)});
    if (name == "top_p") return without_null(TopP{number("p", 0.9)});
    if (name == "relative") return without_null(RelativeThreshold{number("t", 0.1)});
    if (name == "threshold") return without_null(AbsoluteThreshold{number("t", 0.05)});
    if (name == "bh") return step(BenjaminiHochberg{number("alpha", 0.05)});
    if (name == "by") return step(BenjaminiYekutieli{number("alpha", 0.05)});
    if (name == "ebh") return step(EBH{number("alpha", 0.05), number("kappa", 0.5)});
    if (name == "bonferroni") return step(Bonferroni{number("alpha", 0.05)});
    if (name == "sidak") return step(Sidak{number("alpha", 0.05)});
    if (name == "holm") return step(Holm{number("alpha", 0.05)});
    if (name == "hochberg") return step(Hochberg{number("alpha", 0.05)});
    if (name == "hommel") return sorted(Hommel{number("alpha", 0.05)});
    if (name == "storey") return sorted(StoreyBH{number("alpha", 0.05), number("lambda", 0.5)});
    if (name == "bky") return sorted(TwoStageBKY{number("alpha", 0.05)});
    if (name == "hc") return gated(HigherCriticism{number("search", 0.5), read_deviation()});
    if (name == "bj") return gated(BerkJones{number("search", 0.5)});
    if (name == "lfdr") return sorted(LocalFdr{number("alpha", 0.2)});
    if (name == "olmoe") return preset(presets::olmoe({experts_, top_k(8), norm(false)}));
    if (name == "mixtral") return preset(presets::mixtral({experts_, top_k(2)}));
    if (name == "qwen3-moe") return preset(presets::qwen3_moe({experts_, top_k(8), norm(true)}));
    if (name == "gpt-oss") return preset(presets::gpt_oss({experts_, top_k(4)}));
    if (name == "llama4") return preset(presets::llama4({experts_, top_k(1)}));
    if (name == "deepseek-v2") return deepseek_v2();
    if (name == "deepseek-v3") return deepseek_v3(8, 4);
    if (name == "glm4-moe") return deepseek_v3(1, 1);
    arguments_.fail(0, "unknown policy " + quote(name) +
                           "; accepted are topk, top_p, relative, threshold, bh, by, ebh, "
                           "bonferroni, sidak, holm, hochberg, hommel, storey, bky, hc, bj, lfdr, "
                           "olmoe, mixtral, qwen3-moe, gpt-oss, llama4, deepseek-v2, deepseek-v3, "
                           "glm4-moe");
  }

 private:
  using AnyScore = std::variant<Logit, LogSoftmax, ZScore>;

  // The presets take their settings under the names of the models' config.json.
  template <class AnyPolicy>
  AnyRouter preset(AnyPolicy router) const {
    arguments_.finish();
    return finish(std::move(router));
  }

  AnyRouter deepseek_v2() {
    const int k = top_k(6);
    const int n_group = number("n_group", 8);
    const int topk_group = number("topk_group", 3);
    return preset(presets::deepseek_v2(
        {experts_, k, n_group, topk_group, number("routed_scaling_factor", 16.0F)}));
  }

  AnyRouter deepseek_v3(int default_groups, int default_kept) {
    const int k = top_k(8);
    const int n_group = number("n_group", default_groups);
    const int topk_group = number("topk_group", default_kept);
    const bool renormalize = norm(true);
    const float scale = number("routed_scaling_factor", 2.5F);
    const bool none = choice("selection_bias", {"given", "none"}, "given") == "none";
    if (!none && selection_bias_.empty()) {
      throw std::invalid_argument(
          "policy " + quote(arguments_.text()) +
          " needs a selection bias: give one value per expert, or selection_bias=none");
    }
    const std::vector<float> zeros(none ? static_cast<std::size_t>(std::max(experts_, 0)) : 0);
    return preset(presets::deepseek_v3({experts_, k, n_group, topk_group, renormalize, scale},
                                       none ? std::span<const float>(zeros) : selection_bias_));
  }

  int top_k(int otherwise) { return number("num_experts_per_tok", otherwise); }

  bool norm(bool otherwise) { return flag("norm_topk_prob", otherwise); }

  bool flag(std::string_view key, bool otherwise) {
    return choice(key, {"false", "true"}, otherwise ? "true" : "false") == "true";
  }

  template <NullFreeRule R>
  AnyRouter without_null(R rule) {
    const ExpertBounds bounds = read_bounds();
    const SoftmaxWeights weights = read_weights();
    arguments_.finish();
    return finish(Router(experts_, rule, weights, bounds));
  }

  template <CriticalValueRule R>
  AnyRouter step(const R& rule) {
    rule.validate(experts_);
    return with_null(tabulated(rule, experts_));
  }

  template <Rule R>
  AnyRouter sorted(const R& rule) {
    rule.validate(experts_);
    return with_null(AnyRule{rule});
  }

  template <DeviationRule R>
  AnyRouter gated(R rule) {
    rule.critical = critical_statistic(rule, experts_, number("level", 1.0));
    return sorted(rule);
  }

  template <Rule R>
  AnyRouter with_null(const R& rule) {
    const ExpertBounds bounds = read_bounds();
    const std::string_view null_name =
        choice("null", {"tabulated", "normal", "logistic"}, "tabulated");
    const bool table = null_name == "tabulated";
    if (table && table_ == nullptr) {
      throw std::invalid_argument("policy " + quote(arguments_.text()) +
                                  " needs a null distribution: give a fitted one, or null=normal");
    }
    const AnyScore score = read_score(table ? table_->fitted_on() : ZScore::name);
    const std::string_view score_name = std::visit([](const auto& s) { return s.name; }, score);
    const AnyNull null = table ? AnyNull{*table_, std::string(table_->fitted_on())}
                         : null_name == "normal" ? any_null(read_normal(), score_name)
                                                 : any_null(read_logistic(), score_name);
    const SoftmaxWeights weights = read_weights();
    arguments_.finish();
    return std::visit(
        [&](const auto& s) { return finish(Router(experts_, rule, s, null, weights, bounds)); },
        score);
  }

  NormalNull read_normal() {
    const double mean = number("mean", 0.0);
    return {mean, number("sd", NormalNull{}.sd)};
  }

  LogisticNull read_logistic() {
    const double location = number("location", 0.0);
    return {location, number("scale", LogisticNull{}.scale)};
  }

  template <class N>
  static AnyNull any_null(const N& null, std::string_view score) {
    null.validate();
    return {null, std::string(score)};
  }

  HigherCriticism::Deviation read_deviation() {
    return choice("deviation", {"p", "rank"}, "p") == "p" ? HigherCriticism::Deviation::of_p
                                                          : HigherCriticism::Deviation::of_rank;
  }

  ExpertBounds read_bounds() {
    const int min_k = number("min_k", 1);
    return {min_k, number("max_k", experts_)};
  }

  SoftmaxWeights read_weights() {
    const double temperature = number("temperature", weights_.temperature);
    return {temperature, flag("renormalize", weights_.renormalize)};
  }

  AnyScore read_score(std::string_view otherwise) {
    arguments_.refuse("score", "rank",
                      "ranks within a token are 1 .. m whatever its logits are, so their p-values "
                      "are k/m and every token would get the same number of experts");
    const std::string_view name =
        choice("score", {Logit::name, LogSoftmax::name, ZScore::name}, otherwise);
    if (name == Logit::name) return Logit{};
    if (name == LogSoftmax::name) return LogSoftmax{};
    if (name == ZScore::name) return ZScore{};
    throw std::invalid_argument("policy " + quote(arguments_.text()) +
                                ": the null distribution was fitted on score " + quote(name) +
                                ", which no policy string can name");
  }

  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    const Number value = arguments_.number(key, otherwise);
    write(key, to_text(value));
    return value;
  }

  std::string_view choice(std::string_view key, const std::vector<std::string_view>& accepted,
                          std::string_view otherwise) {
    const std::string_view value = arguments_.choice(key, accepted, otherwise);
    write(key, value);
    return value;
  }

  void write(std::string_view key, std::string_view value) {
    canonical_.append(canonical_.empty() ? ":" : ",").append(key).append("=").append(value);
  }

  template <class AnyPolicy>
  AnyRouter finish(AnyPolicy router) const {
    return {std::move(router), std::string(arguments_.name()) + canonical_, Arch{}};
  }

  PolicyArguments arguments_;
  int experts_;
  const TabulatedNull* table_;
  SoftmaxWeights weights_;
  std::span<const float> selection_bias_;
  std::string canonical_;
};

template <class Arch>
AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull* table,
                       SoftmaxWeights weights, std::span<const float> selection_bias = {}) {
  try {
    return PolicyParser<Arch>(policy, experts, table, weights, selection_bias).parse();
  } catch (const NullMismatch&) {
    throw;
  } catch (const std::invalid_argument& error) {
    const std::string fact = error.what();
    if (fact.starts_with("policy '")) throw;
    throw std::invalid_argument("policy " + quote(policy) + ": " + fact);
  }
}

}  // namespace detail

/// Makes a router over `experts` experts from a policy string, `name[:key=value{,key=value}]`:
///
///     topk        k=8
///     top_p       p=0.9
///     relative    t=0.1
///     threshold   t=0.05
///     bh, by, bky, bonferroni, sidak, holm, hochberg, hommel
///                 alpha=0.05
///     storey      alpha=0.05  lambda=0.5
///     ebh         alpha=0.05  kappa=0.5
///     lfdr        alpha=0.2
///     hc          search=0.5  deviation=p|rank  level=1
///     bj          search=0.5  level=1
///     from bh on  null=tabulated|normal|logistic  score=logit|log_softmax|zscore
///                 mean=0  sd=1  (with null=normal)
///                 location=0  scale=sqrt(3)/pi  (with null=logistic)
///     all         min_k=1  max_k=experts  temperature  renormalize=true|false
///
/// `level` is the share of tokens of pure noise that get a rejection (see critical_statistic).
///
/// and the routers of published models (fdroute/presets.hpp), which take none of the settings of
/// `all`, but those of their config.json; the numbers are the checkpoint's that presets.hpp names:
///
///     olmoe        num_experts_per_tok=8  norm_topk_prob=false
///     mixtral      num_experts_per_tok=2
///     qwen3-moe    num_experts_per_tok=8  norm_topk_prob=true
///     gpt-oss      num_experts_per_tok=4
///     llama4       num_experts_per_tok=1
///     deepseek-v2  num_experts_per_tok=6  n_group=8  topk_group=3  routed_scaling_factor=16
///     deepseek-v3  num_experts_per_tok=8  n_group=8  topk_group=4  norm_topk_prob=true
///                  routed_scaling_factor=2.5  selection_bias=given|none
///     glm4-moe     as deepseek-v3, with n_group=1  topk_group=1
///
/// What the string leaves out takes the value shown; temperature and renormalize take those of
/// `weights`, a model's own convention. A score left out is the one that the null was fitted on, or
/// zscore with another null. Without a table, a policy that needs one must name another null.
///
/// Throws std::invalid_argument. A malformed string is quoted with the position of the fault and
/// what is accepted there, a value out of range with the policy's own message. A null fitted on
/// another score is a NullMismatch.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, SoftmaxWeights weights = {}) {
  return detail::parse_router<Arch>(policy, experts, nullptr, weights);
}

/// The same with a fitted null distribution at hand, used unless the string names another.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull& null,
                       SoftmaxWeights weights = {}) {
  return detail::parse_router<Arch>(policy, experts, &null, weights);
}

/// The same for the presets that rank by a selection bias of every expert, shape (experts).
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts,
                       std::span<const float> selection_bias) {
  return detail::parse_router<Arch>(policy, experts, nullptr, SoftmaxWeights{}, selection_bias);
}

}  // namespace fdroute::inline v0
