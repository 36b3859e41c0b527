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
#include "fdroute/detail/policy_arguments.hpp"
#include "fdroute/detail/text.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"

namespace fdroute::inline v0 {

namespace detail {

// Reads one policy. What it reads it also writes to `canonical_`, so the two cannot drift apart.
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
    const std::string_view name = arguments_.name();
    if (name == "topk") return without_null(TopK{number("k", 8)});
    if (name == "top_p") return without_null(TopP{number("p", 0.9)});
    if (name == "relative") return without_null(RelativeThreshold{number("t", 0.1)});
    if (name == "threshold") return without_null(AbsoluteThreshold{number("t", 0.05)});
    if (name == "bh") return with_null(BenjaminiHochberg{number("alpha", 0.05)});
    if (name == "olmoe") return preset(presets::olmoe({experts_, top_k(8), norm(false)}));
    if (name == "mixtral") return preset(presets::mixtral({experts_, top_k(2)}));
    if (name == "qwen3-moe") return preset(presets::qwen3_moe({experts_, top_k(8), norm(true)}));
    if (name == "gpt-oss") return preset(presets::gpt_oss({experts_, top_k(4)}));
    if (name == "llama4") return preset(presets::llama4({experts_, top_k(1)}));
    if (name == "deepseek-v2") return deepseek_v2();
    if (name == "deepseek-v3") return deepseek_v3(8, 4);
    if (name == "glm4-moe") return deepseek_v3(1, 1);
    arguments_.fail(0, "unknown policy '" + std::string(name) +
                           "'; accepted are topk, top_p, relative, threshold, bh, olmoe, mixtral, "
                           "qwen3-moe, gpt-oss, llama4, deepseek-v2, deepseek-v3, glm4-moe");
  }

 private:
  using AnyScore = std::variant<Logit, LogSoftmax, ZScore>;
  using AnyNull = std::variant<TabulatedNull, NormalNull>;

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
          "policy '" + std::string(arguments_.text()) +
          "' needs a selection bias: give one value per expert, or selection_bias=none");
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

  template <class R>
  AnyRouter with_null(R rule) {
    const ExpertBounds bounds = read_bounds();
    const bool normal = choice("null", {"tabulated", "normal"}, "tabulated") == "normal";
    if (!normal && table_ == nullptr) {
      throw std::invalid_argument("policy '" + std::string(arguments_.text()) +
                                  "' needs a null distribution: give a fitted one, or null=normal");
    }
    const AnyScore score =
        read_score(normal ? ZScore::name : std::string_view(table_->fitted_on()));
    const AnyNull null =
        normal ? AnyNull{NormalNull{number("mean", 0.0), number("sd", 1.0)}} : AnyNull{*table_};
    const SoftmaxWeights weights = read_weights();
    arguments_.finish();
    return std::visit(
        [&](const auto& s, const auto& n) {
          return finish(Router(experts_, rule, s, n, weights, bounds));
        },
        score, null);
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
    const std::string_view name =
        choice("score", {Logit::name, LogSoftmax::name, ZScore::name}, otherwise);
    if (name == Logit::name) return Logit{};
    if (name == LogSoftmax::name) return LogSoftmax{};
    if (name == ZScore::name) return ZScore{};
    throw std::invalid_argument("policy '" + std::string(arguments_.text()) +
                                "': the null distribution was fitted on score '" +
                                std::string(name) + "', which no policy string can name");
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
    return {std::move(router), std::string(arguments_.name()) + canonical_};
  }

  PolicyArguments arguments_;
  int experts_;
  const TabulatedNull* table_;
  SoftmaxWeights weights_;
  std::span<const float> selection_bias_;
  std::string canonical_;
};

inline AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull* table,
                              SoftmaxWeights weights, std::span<const float> selection_bias = {}) {
  try {
    return PolicyParser(policy, experts, table, weights, selection_bias).parse();
  } catch (const NullMismatch&) {
    throw;
  } catch (const std::invalid_argument& error) {
    const std::string fact = error.what();
    if (fact.starts_with("policy '")) throw;
    throw std::invalid_argument("policy '" + std::string(policy) + "': " + fact);
  }
}

}  // namespace detail

/// Makes a router over `experts` experts from a policy string, `name[:key=value{,key=value}]`:
///
///     topk       k=8
///     top_p      p=0.9
///     relative   t=0.1
///     threshold  t=0.05
///     bh         alpha=0.05  null=tabulated|normal  score=logit|log_softmax|zscore
///                mean=0  sd=1   (with null=normal)
///     all        min_k=1  max_k=experts  temperature  renormalize=true|false
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
/// zscore with null=normal. Without a table, a policy that needs one must say null=normal.
///
/// Throws std::invalid_argument. A malformed string is quoted with the position of the fault and
/// what is accepted there, a value out of range with the policy's own message. A null fitted on
/// another score is a NullMismatch.
inline AnyRouter parse_router(std::string_view policy, int experts, SoftmaxWeights weights = {}) {
  return detail::parse_router(policy, experts, nullptr, weights);
}

/// The same with a fitted null distribution at hand, used unless the string says null=normal.
inline AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull& null,
                              SoftmaxWeights weights = {}) {
  return detail::parse_router(policy, experts, &null, weights);
}

/// The same for the presets that rank by a selection bias of every expert, shape (experts).
inline AnyRouter parse_router(std::string_view policy, int experts,
                              std::span<const float> selection_bias) {
  return detail::parse_router(policy, experts, nullptr, SoftmaxWeights{}, selection_bias);
}

}  // namespace fdroute::inline v0
