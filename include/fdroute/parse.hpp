#pragma once

#include <array>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/table.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/policy_settings.hpp"
#include "fdroute/router.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0 {

/// The names of the library's policies, rules before presets, in the order in which an error about
/// an unknown one lists them.
inline std::span<const std::string_view> policy_names() noexcept {
  static constexpr auto names = std::apply(
      [](const auto&... row) { return std::array{row.name...}; }, detail::policy_table());
  return names;
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
///     glm4-moe     num_experts_per_tok=8  n_group=1  topk_group=1  norm_topk_prob=true
///                  routed_scaling_factor=2.5  selection_bias=given|none
///
/// What the string leaves out takes the value shown, of several the first; temperature and
/// renormalize take those of `options.weights`, a model's own convention. A score left out is the
/// one that the null was fitted on, or zscore with another null. Without a fitted null, a policy
/// that needs one must name another null.
///
/// `options.makers` adds names to these (see PolicyMaker). Two policies of one name are an error.
/// The router's policy() is the string with every setting written out: with the same options it
/// makes the same router.
///
/// Throws std::invalid_argument. A malformed string is quoted with the position of the fault and
/// what is accepted there, a value out of range with the policy's own message. A null fitted on
/// another score is a NullMismatch.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, const ParseOptions<Arch>& options) {
  try {
    return detail::make_router<Arch>(policy, experts, options);
  } catch (const NullMismatch&) {
    throw;
  } catch (const std::invalid_argument& error) {
    const std::string fact = error.what();
    if (fact.starts_with("policy '")) throw;
    throw std::invalid_argument("policy " + detail::quote(policy) + ": " + fact);
  }
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

/// parse_router() for the presets that rank by a selection bias of every expert, shape (experts).
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts,
                       std::span<const float> selection_bias) {
  return parse_router(policy, experts, ParseOptions<Arch>{.selection_bias = selection_bias});
}

}  // namespace fdroute::inline v0
