#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "fdroute/model_router.hpp"

namespace fdroute::inline v0::presets {

namespace detail {

constexpr Setting per_token(double value) {
  return {"num_experts_per_tok", value};
}
constexpr Setting norm(bool value) {
  return {"norm_topk_prob", value ? 1.0 : 0.0};
}

/// Softmax over all, top-k, divided by the sum.
constexpr ModelRouter softmax_model(std::string_view type, Setting experts, Setting top_k,
                                    Setting normalize = {"", 1}, std::string_view within = {}) {
  return {.model_type = type,
          .shape = Shape::topk_softmax,
          .experts = experts,
          .top_k = top_k,
          .within = within,
          .normalize = normalize};
}

/// DeepSeek-V3 and those that follow it.
constexpr ModelRouter v3_model(std::string_view type, Setting experts, double top_k, double groups,
                               double kept, double scale, bool normalize = true,
                               std::string_view within = {}) {
  return {.model_type = type,
          .shape = Shape::group_top2_sigmoid,
          .experts = experts,
          .top_k = per_token(top_k),
          .within = within,
          .normalize = norm(normalize),
          .epsilon = {"", 1e-20},
          .scale = {"routed_scaling_factor", scale},
          .groups = {"n_group", groups},
          .kept_groups = {"topk_group", kept},
          .bias = "e_score_correction_bias"};
}

constexpr ModelRouter v2_model(std::string_view type, std::string_view within = {}) {
  return {.model_type = type,
          .shape = Shape::topk_softmax,
          .experts = {"n_routed_experts", 64},
          .top_k = per_token(no_default),
          .within = within,
          .normalize = {"", 0},
          .scale = {"routed_scaling_factor", 1},
          .groups = {"n_group", 1},
          .kept_groups = {"topk_group", 1},
          .word = {"topk_method", "greedy", "group_limited_greedy", Shape::group_max_softmax}};
}

constexpr ModelRouter v4_model() {
  return {.model_type = "deepseek_v4",
          .shape = Shape::biased_sqrt_softplus,
          .experts = {"n_routed_experts", 256, "num_local_experts"},
          .top_k = per_token(6),
          .epsilon = {"", 1e-20},
          .scale = {"routed_scaling_factor", 1.5},
          .bias = "e_score_correction_bias",
          .word = {"scoring_func", "sqrtsoftplus", "sigmoid", Shape::biased_sigmoid}};
}

/// Sigmoid + bias without groups, divided by the sum.
constexpr ModelRouter sigmoid_model(std::string_view type, Setting experts, double top_k,
                                    double epsilon, Setting scale, std::string_view bias,
                                    std::string_view within = {}) {
  return {.model_type = type,
          .shape = Shape::biased_sigmoid,
          .experts = experts,
          .top_k = per_token(top_k),
          .within = within,
          .epsilon = {"", epsilon},
          .scale = scale,
          .bias = bias};
}

constexpr ModelRouter ernie_model(std::string_view type, std::string_view within = {}) {
  return {.model_type = type,
          .shape = Shape::biased_softmax,
          .experts = {"moe_num_experts", 64, "num_experts"},
          .top_k = {"moe_k", 6, "num_experts_per_tok"},
          .within = within,
          .floor = {"moe_norm_min", 1e-12},
          .bias = "e_score_correction_bias"};
}

constexpr ModelRouter gemma_model(std::string_view type) {
  return {.model_type = type,
          .shape = Shape::expert_scaled_softmax,
          .experts = {"num_experts", no_default},
          .top_k = {"top_k_experts", no_default},
          .within = "text_config",
          .expert_scale = "per_expert_scale"};
}

constexpr Setting routed(double value) {
  return {"n_routed_experts", value, "num_local_experts"};
}
constexpr Setting experts(double value) {
  return {"num_experts", value, "num_local_experts"};
}
constexpr Setting local(double value) {
  return {"num_local_experts", value, "num_experts"};
}

}  // namespace detail

/// The router of every model of transformers 5.12 that has one, by model type: THE place to add
/// one. tests/golden/routers has what their modules compute.
inline constexpr auto model_table = std::to_array<ModelRouter>({
    detail::sigmoid_model("afmoe", {"num_experts", 64}, 6, 1e-20, {"route_scale", 1},
                          "expert_bias"),
    detail::softmax_model("aria", {"moe_num_experts", 8}, {"moe_topk", 2}, {"", 1}, "text_config"),
    {.model_type = "cohere2_moe",
     .shape = Shape::topk_softmax,
     .experts = {"num_experts", 8},
     .top_k = detail::per_token(2),
     .normalize = detail::norm(true),
     .word = {"expert_selection_fn", "softmax", "sigmoid", Shape::topk_sigmoid}},
    {.model_type = "dbrx",
     .shape = Shape::topk_softmax,
     .experts = {"moe_num_experts", 4},
     .top_k = {"moe_top_k", 1},
     .within = "ffn_config",
     .power = {"moe_normalize_expert_weights", 1}},
    detail::v2_model("deepseek_ocr2", "text_config"),
    detail::v2_model("deepseek_v2"),
    detail::v3_model("deepseek_v3", detail::routed(256), 8, 8, 4, 2.5),
    detail::v3_model("deepseek_v32", {"n_routed_experts", 256}, 8, 8, 4, 2.5),
    detail::v4_model(),
    detail::gemma_model("diffusion_gemma"),
    detail::softmax_model("doge", {"num_experts", 16384}, detail::per_token(64)),
    detail::v3_model("dots1", detail::routed(no_default), no_default, 1, 1, 1, false),
    detail::ernie_model("ernie4_5_moe"),
    detail::ernie_model("ernie4_5_vl_moe", "text_config"),
    detail::v3_model("exaone_moe", {"num_experts", 64}, 8, 1, 1, 2.5),
    detail::softmax_model("flex_olmo", detail::experts(7), detail::per_token(5),
                          detail::norm(false)),
    detail::gemma_model("gemma4"),
    detail::v3_model("glm4_moe", detail::routed(128), 8, 1, 1, 1),
    detail::v3_model("glm4_moe_lite", detail::routed(64), 4, 1, 1, 1.8),
    detail::v3_model("glm4v_moe", detail::routed(128), 8, 1, 1, 1, true, "text_config"),
    detail::v3_model("glm_moe_dsa", detail::routed(256), 8, 1, 1, 2.5),
    detail::softmax_model("gpt_oss", detail::local(128), detail::per_token(4)),
    detail::softmax_model("granitemoe", {"num_local_experts", 8}, detail::per_token(2)),
    detail::softmax_model("granitemoehybrid", {"num_local_experts", 8}, detail::per_token(2)),
    detail::softmax_model("granitemoeshared", {"num_local_experts", 8}, detail::per_token(2)),
    detail::softmax_model("hunyuan_v1_moe", detail::experts(1),
                          {"moe_topk", 1, "num_experts_per_tok"}),
    detail::sigmoid_model("hy_v3", detail::experts(192), 8, 1e-20, {"router_scaling_factor", 2.826},
                          "e_score_correction_bias"),
    detail::softmax_model("jamba", detail::experts(16), detail::per_token(2), {"", 0}),
    detail::softmax_model("jetmoe", {"num_local_experts", 8}, detail::per_token(2)),
    {.model_type = "laguna",
     .shape = Shape::biased_sigmoid,
     .experts = {"num_experts", 256},
     .top_k = detail::per_token(8),
     .scale = {"moe_routed_scaling_factor", 1},
     .softcap = {"moe_router_logit_softcapping", 0},
     .bias = "e_score_correction_bias"},
    {.model_type = "lfm2_moe",
     .shape = Shape::biased_sigmoid,
     .experts = {"num_experts", 32},
     .top_k = detail::per_token(4),
     .normalize = detail::norm(true),
     .epsilon = {"", 1e-6},
     .scale = {"routed_scaling_factor", 1},
     .bias = "expert_bias",
     .bias_flag = "use_expert_bias"},
    {.model_type = "llama4",
     .shape = Shape::topk_sigmoid,
     .experts = {"num_local_experts", 16},
     .top_k = detail::per_token(1),
     .within = "text_config",
     .normalize = {"", 0}},
    {.model_type = "longcat_flash",
     .shape = Shape::biased_softmax,
     .experts = {"n_routed_experts", 512},
     .top_k = {"moe_topk", 12},
     .normalize = {"", 0},
     .scale = {"routed_scaling_factor", 6},
     .zero_experts = {"zero_expert_num", 256},
     .bias = "e_score_correction_bias"},
    detail::softmax_model("mellum", detail::experts(64), detail::per_token(8), detail::norm(true)),
    detail::softmax_model("minimax", detail::local(8), detail::per_token(2)),
    detail::sigmoid_model("minimax_m2", detail::local(256), 8, 0, {"", 1},
                          "e_score_correction_bias"),
    detail::sigmoid_model("minimax_m3_vl", detail::local(128), 4, 0, {"routed_scaling_factor", 2},
                          "e_score_correction_bias", "text_config"),
    {.model_type = "mistral4",
     .shape = Shape::group_top2_softmax,
     .experts = detail::routed(128),
     .top_k = detail::per_token(4),
     .normalize = detail::norm(true),
     .scale = {"routed_scaling_factor", 1},
     .groups = {"n_group", 1},
     .kept_groups = {"topk_group", 1}},
    detail::softmax_model("mixtral", detail::local(8), detail::per_token(2)),
    detail::v3_model("nemotron_h", {"n_routed_experts", 8}, 2, 1, 1, 1),
    detail::softmax_model("nllb-moe", {"num_experts", 128}, {"", 2}),
    detail::softmax_model("olmoe", detail::experts(64), detail::per_token(8), detail::norm(false)),
    detail::softmax_model("openai_privacy_filter", detail::local(128), detail::per_token(4)),
    {.model_type = "phimoe",
     .shape = Shape::sparse_mixer,
     .experts = {"num_local_experts", 16},
     .top_k = detail::per_token(2),
     .jitter = {"router_jitter_noise", 0.01}},
    detail::softmax_model("qwen2_moe", {"num_experts", 60}, detail::per_token(4),
                          detail::norm(false)),
    detail::softmax_model("qwen3_5_moe", {"num_experts", 256}, detail::per_token(8), {"", 1},
                          "text_config"),
    detail::softmax_model("qwen3_moe", detail::experts(128), detail::per_token(8),
                          detail::norm(false)),
    detail::softmax_model("qwen3_next", {"num_experts", 512}, detail::per_token(10),
                          detail::norm(true)),
    detail::softmax_model("qwen3_omni_moe", {"num_experts", 128}, detail::per_token(8),
                          detail::norm(true), "thinker_config.text_config"),
    detail::softmax_model("qwen3_omni_moe_talker", detail::experts(128), detail::per_token(8),
                          detail::norm(false), "text_config"),
    detail::softmax_model("qwen3_vl_moe", detail::experts(60), detail::per_token(4), {"", 1},
                          "text_config"),
    detail::v3_model("solar_open", detail::routed(128), 8, 1, 1, 1),
    {.model_type = "switch_transformers",
     .shape = Shape::topk_softmax,
     .experts = {"num_experts", 8},
     .top_k = {"", 1},
     .normalize = {"", 0}},
});

/// The router of a model type, or null if the table has none. `-` and `_` are alike, and the type
/// of a model's text part, as gemma4_text, means the model.
inline const ModelRouter* find_model(std::string_view type) noexcept {
  if (type.ends_with("_text")) type.remove_suffix(5);
  const auto same = [](char a, char b) { return (a == '-' ? '_' : a) == (b == '-' ? '_' : b); };
  const auto found = std::ranges::find_if(model_table, [&](const ModelRouter& row) {
    return std::ranges::equal(row.model_type, type, same);
  });
  return found == model_table.end() ? nullptr : &*found;
}

}  // namespace fdroute::inline v0::presets
