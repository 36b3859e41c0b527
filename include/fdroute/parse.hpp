#pragma once

#include <span>
#include <string>
#include <string_view>

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/detail/policy_string/name_errors.hpp"
#include "fdroute/detail/policy_string/named_parts.hpp"
#include "fdroute/detail/policy_string/read_null.hpp"
#include "fdroute/detail/policy_string/table.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/policy_settings.hpp"
#include "fdroute/router.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0 {

/// The names of the library's policies, rules before presets, in the order in which an error about
/// an unknown one lists them.
inline std::span<const std::string_view> policy_names() noexcept {
  static constexpr auto names = detail::names_of(detail::policy_table());
  return names;
}

/// The names that the key `ranking` takes in a policy string.
inline std::span<const std::string_view> ranking_names() noexcept {
  static constexpr auto names = detail::names_of(detail::ranking_table());
  return names;
}

/// The names that the key `weights` takes in a policy string.
inline std::span<const std::string_view> weights_names() noexcept {
  static constexpr auto names = detail::names_of(detail::weights_table());
  return names;
}

/// The names that the key `null` takes in a policy string.
inline std::span<const std::string_view> null_names() noexcept {
  return detail::null_names;
}

/// Makes a router over `experts` experts from a policy string, `name[:key=value{,key=value}]`:
///
///     topk        k=8
///     top_p       p=0.9
///     relative    t=0.1
///     threshold   t=0.05
///     slope       c=-3  sigma=0.3
///     bh, by, bky, bonferroni, sidak, holm, hochberg, hommel
///                 alpha=0.05
///     storey      alpha=0.05  lambda=0.5
///     ebh         alpha=0.05  kappa=0.5
///     lfdr        alpha=0.2
///     hc          search=0.5  deviation=rank|p  level=1
///     bj          search=0.5  level=1
///     from bh on  null=tabulated|normal|logistic|conformal|per_expert
///                 score=logit|log_softmax|zscore|robust_zscore
///                 mean=0  sd=1  (with null=normal)
///                 location=0  scale=sqrt(3)/pi  (with null=logistic)
///                 prior=given|none
///     all         min_k=1  max_k=experts
///                 ranking=logit|sigmoid|group_limited(logit)|group_limited(sigmoid)
///                 selection_bias=given|none  (with a sigmoid)
///                 groups=1  kept=1  group_score=max|sum_of_top2  masked=-inf  (with groups)
///                 ties=lowest|highest
///                 weights=softmax|sigmoid|scaled(softmax)|scaled(sigmoid)
///                 temperature  (with softmax)  renormalize=true|false  epsilon=0  (with sigmoid)
///                 mass_exponent=0  mass_k=8  (with softmax)
///                 factor=1  (with scaled)
///
/// `level` is the share of tokens of pure noise that get a rejection (see critical_statistic).
///
/// and the routers of published models (fdroute/presets.hpp), which take none of the settings of
/// `all` but `ties`, and those of their config.json; the numbers are the checkpoint's that
/// presets.hpp names:
///
///     olmoe        num_experts_per_tok=8  norm_topk_prob=false
///     mixtral      num_experts_per_tok=2
///     qwen3-moe    num_experts_per_tok=8  norm_topk_prob=true
///     gpt-oss      num_experts_per_tok=4
///     llama4       num_experts_per_tok=1
///     deepseek-v2  num_experts_per_tok=6  n_group=8  topk_group=3  routed_scaling_factor=16
///     deepseek-v3  num_experts_per_tok=8  n_group=8  topk_group=4  norm_topk_prob=true
///                  routed_scaling_factor=2.5  selection_bias=given|none
///     glm4-moe     num_experts_per_tok=8  n_group=1  topk_group=1  norm_topk_prob=true
///                  routed_scaling_factor=2.5  selection_bias=given|none
///
/// Any other model type of transformers (fdroute/model_table.hpp), as in `preset:dots1`, takes the
/// keys of its config.json and has transformers' defaults; `selection_bias=given|none` if it ranks
/// by a bias, `expert_scale=given|none` if its experts have factors of their own. So qwen3_moe,
/// with transformers' defaults, is not qwen3-moe, with a checkpoint's.
///
/// `preset:NAME{,key=value}` is `NAME:key=value{,key=value}` for a preset. With `rule=` and the
/// name of a rule above, a preset keeps its ranking and weights, and that rule takes the place of
/// num_experts_per_tok: `preset:deepseek-v3,rule=bh,alpha=0.1,max_k=12`. It reads the rule's own
/// settings, its null, score, min_k and max_k.
///
/// What the string leaves out takes the value shown, of several the first; temperature, renormalize,
/// mass_exponent and mass_k take those of `options.weights`, a model's own convention. A score left out is the
/// one that the null was fitted on, or zscore with another null. A null left out is the one that is
/// given; without any, a policy that needs one must name another null. A `selection_bias` or
/// `prior` left out is `given` if it is given, else `none`; of presets, `given`.
///
/// `options.makers` adds names to these (see PolicyMaker). Two policies of one name are an error.
/// The router's policy() is the string with every setting written out, but for `ranking`, `ties`,
/// `weights` and `prior` where they are the first shown, or `none`, and for `mass_exponent` and
/// `mass_k` where there is no exponent: with the same options it makes the same router.
///
/// Throws std::invalid_argument. A malformed string is quoted with the position of the fault and
/// what is accepted there, a word that is nearly right with the right one, a value out of range
/// with the policy's own message. A null fitted on another score is a NullMismatch.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, const ParseOptions<Arch>& options) {
  return detail::name_errors(policy,
                             [&] { return detail::make_router<Arch>(policy, experts, options); });
}

/// parse_router() without a fitted null distribution.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, SoftmaxWeights weights = {}) {
  return parse_router(policy, experts, ParseOptions<Arch>{.weights = weights});
}

/// parse_router() with a fitted null distribution, used unless the string names another.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull& null,
                       SoftmaxWeights weights = {}) {
  return parse_router(policy, experts, ParseOptions<Arch>{.null = &null, .weights = weights});
}

/// parse_router() for policies that rank by a selection bias of every expert, shape (experts).
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts,
                       std::span<const float> selection_bias) {
  return parse_router(policy, experts, ParseOptions<Arch>{.selection_bias = selection_bias});
}

}  // namespace fdroute::inline v0
