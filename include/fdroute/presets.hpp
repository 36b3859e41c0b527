#pragma once

#include <span>

#include "fdroute/bounds.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/group_limited.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/scaled.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "fdroute/weights/softmax.hpp"

/// The routers of well-known models, as transformers 5.12 computes them. A preset takes the numbers
/// of the model's config.json under their names there; the defaults are those of the checkpoint
/// that is named. tests/golden/routers holds what transformers' own modules do, recorded by
/// tests/golden/routers_transformers.py. Other models are in fdroute/model_table.hpp. All functions
/// throw std::invalid_argument for numbers that make
/// no router, with the name of the number or of the policy that refuses it.
///
/// Where transformers leaves something open, fdroute does not: torch.topk may take any of several
/// equal values at the cut, here the lower index wins. A softmax in float can also make two logits
/// equal that differ; here the larger logit wins. torch.topk ranks NaN first, here it ranks last.
/// Weights are within 4 ulp of their values in double; in transformers, too, they are a few float
/// operations.
namespace fdroute::inline v0::presets {

/// OLMoE-1B-7B.
struct OlmoeConfig {
  int num_experts = 64;
  int num_experts_per_tok = 8;
  bool norm_topk_prob = false;
};

/// Softmax over all experts, then top-k; weights are divided by their sum only with norm_topk_prob.
inline Router<TopK> olmoe(const OlmoeConfig& config) {
  return Router(config.num_experts, TopK{config.num_experts_per_tok},
                SoftmaxWeights{.renormalize = config.norm_topk_prob});
}

/// Mixtral-8x7B.
struct MixtralConfig {
  int num_local_experts = 8;
  int num_experts_per_tok = 2;
};

/// Softmax over all experts, then top-k; weights are always divided by their sum.
inline Router<TopK> mixtral(const MixtralConfig& config) {
  return Router(config.num_local_experts, TopK{config.num_experts_per_tok},
                SoftmaxWeights{.renormalize = true});
}

/// Qwen3-30B-A3B.
struct Qwen3MoeConfig {
  int num_experts = 128;
  int num_experts_per_tok = 8;
  bool norm_topk_prob = true;
};

/// Softmax over all experts, then top-k; weights are divided by their sum only with norm_topk_prob.
inline Router<TopK> qwen3_moe(const Qwen3MoeConfig& config) {
  return Router(config.num_experts, TopK{config.num_experts_per_tok},
                SoftmaxWeights{.renormalize = config.norm_topk_prob});
}

/// gpt-oss-120b.
struct GptOssConfig {
  int num_local_experts = 128;
  int num_experts_per_tok = 4;
};

/// Top-k of the logits, then a softmax over the selected ones, which is the softmax over all
/// divided by the selected ones' sum. The logits are those after the router's bias: it takes part
/// in the weights.
inline Router<TopK> gpt_oss(const GptOssConfig& config) {
  return Router(config.num_local_experts, TopK{config.num_experts_per_tok},
                SoftmaxWeights{.renormalize = true});
}

/// Llama-4-Scout-17B-16E.
struct Llama4Config {
  int num_local_experts = 16;
  int num_experts_per_tok = 1;
};

/// Top-k of the logits, each weighted by its own sigmoid. Llama 4 multiplies an expert's *input*
/// by the weight, not its output.
inline Router<TopK, Logit, NoNull, SigmoidWeights> llama4(const Llama4Config& config) {
  return Router(config.num_local_experts, TopK{config.num_experts_per_tok}, SigmoidWeights{});
}

/// DeepSeek-V2. For `topk_method: greedy` (DeepSeek-V2-Lite) n_group and topk_group are 1.
struct DeepseekV2Config {
  int n_routed_experts = 160;
  int num_experts_per_tok = 6;
  int n_group = 8;
  int topk_group = 3;
  float routed_scaling_factor = 16.0F;
};

/// DeepSeek-V3.
struct DeepseekV3Config {
  int n_routed_experts = 256;
  int num_experts_per_tok = 8;
  int n_group = 8;
  int topk_group = 4;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 2.5F;
};

/// GLM-4.5.
struct Glm4MoeConfig {
  int n_routed_experts = 160;
  int num_experts_per_tok = 8;
  int n_group = 1;
  int topk_group = 1;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 2.5F;
};

namespace detail {

inline void check_groups(int experts, int groups, int kept, int selected) {
  // GroupLimited has its own words for these.
  if (groups < 1 || kept < 1 || kept > groups) return;
  const int reachable = experts / groups * kept;
  if (selected > reachable) {
    fdroute::detail::refuse("num_experts_per_tok ", selected, " exceeds the ", reachable,
                            " experts of topk_group ", kept);
  }
}

}  // namespace detail

/// Softmax over all experts; the topk_group groups of largest maximum are kept, the others masked;
/// top-k; times routed_scaling_factor. transformers does not read this model's
/// norm_topk_prob: weights are never divided by their sum.
inline auto deepseek_v2(const DeepseekV2Config& config) {
  detail::check_groups(config.n_routed_experts, config.n_group, config.topk_group,
                       config.num_experts_per_tok);
  const GroupLimited<ByLogit> ranking{
      .groups = config.n_group, .kept = config.topk_group, .score = GroupScore::max};
  return Router(config.n_routed_experts, TopK{config.num_experts_per_tok},
                Scaled<SoftmaxWeights>{.factor = config.routed_scaling_factor}, ExpertBounds{},
                ranking);
}

/// Sigmoid of every logit plus e_score_correction_bias; the topk_group groups of largest sum of
/// their two best are kept, the others masked; top-k. The weights are sigmoids without
/// the bias, with norm_topk_prob divided by their sum + 1e-20, times routed_scaling_factor.
/// `e_score_correction_bias` has shape (n_routed_experts).
inline auto deepseek_v3(const DeepseekV3Config& config,
                        std::span<const float> e_score_correction_bias) {
  detail::check_groups(config.n_routed_experts, config.n_group, config.topk_group,
                       config.num_experts_per_tok);
  if (e_score_correction_bias.empty()) {
    fdroute::detail::refuse("deepseek_v3: e_score_correction_bias has 0 values for ",
                            config.n_routed_experts, " experts");
  }
  const GroupLimited<BySigmoid> ranking{
      .ranking = {.bias = {e_score_correction_bias.begin(), e_score_correction_bias.end()}},
      .groups = config.n_group,
      .kept = config.topk_group,
      .score = GroupScore::sum_of_top2};
  const Scaled<SigmoidWeights> weights{
      .weights = {.renormalize = config.norm_topk_prob, .epsilon = 1e-20},
      .factor = config.routed_scaling_factor};
  return Router(config.n_routed_experts, TopK{config.num_experts_per_tok}, weights, ExpertBounds{},
                ranking);
}

/// GLM-4.5's router computes what DeepSeek-V3's does: see deepseek_v3().
inline auto glm4_moe(const Glm4MoeConfig& config, std::span<const float> e_score_correction_bias) {
  return deepseek_v3({config.n_routed_experts, config.num_experts_per_tok, config.n_group,
                      config.topk_group, config.norm_topk_prob, config.routed_scaling_factor},
                     e_score_correction_bias);
}

}  // namespace fdroute::inline v0::presets
