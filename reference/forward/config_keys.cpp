#include "forward/config_keys.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace olmoe {
namespace {

using nlohmann::json;

// Keys whose words are among the model's (below), though they concern training, other tasks, the
// storage or the speed only.
constexpr std::array unused_keys = {
    "add_cross_attention",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "embd_pdrop",
    "experts_implementation",
    "expert_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "moe_dropout",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "router_z_loss_coef",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "vocab_file",
};

// What is as good as absent: the value with which a model has no such thing.
const std::array<std::pair<std::string_view, json>, 19> neutral_values = {{
    {"embedding_multiplier", 1},
    {"first_k_dense_replace", 0},
    {"is_causal", true},
    {"layer_norm_bias", false},
    {"mlp_bias", false},
    {"moe_layer_freq", 1},
    {"n_group", 1},
    {"n_shared_experts", 0},
    {"num_shared_experts", 0},
    {"partial_rotary_factor", 1},
    {"qkv_bias", false},
    {"residual_multiplier", 1},
    {"routed_scaling_factor", 1},
    {"scoring_func", "softmax"},
    {"topk_group", 1},
    {"use_bidirectional_attention", false},
    {"use_qk_norm", true},
    {"use_rope", true},
    {"use_sliding_window", false},
}};

// A key that has one of these words is about the model's arithmetic.
constexpr auto model_words =
    std::to_array<std::string_view>({"act",         "activation", "activations",
                                     "adapter",     "alibi",      "attention",
                                     "attn",        "bias",       "bidirectional",
                                     "bits",        "cap",        "capping",
                                     "causal",      "clip",       "compress",
                                     "compression", "conv",       "dense",
                                     "dim",         "embed",      "embedding",
                                     "embeddings",  "eps",        "epsilon",
                                     "expert",      "experts",    "factor",
                                     "ffn",         "freq",       "gate",
                                     "gating",      "group",      "groups",
                                     "head",        "heads",      "hidden",
                                     "interleave",  "kv",         "latent",
                                     "layer",       "layers",     "logit",
                                     "logits",      "lora",       "mamba",
                                     "mask",        "mlp",        "moe",
                                     "mtp",         "multiplier", "nextn",
                                     "norm",        "parallel",   "position",
                                     "positional",  "positions",  "qk",
                                     "qkv",         "quant",      "quantization",
                                     "quantize",    "quantized",  "renormalize",
                                     "residual",    "rope",       "rotary",
                                     "routed",      "router",     "routing",
                                     "scale",       "scaled",     "scaling",
                                     "scoring",     "shared",     "sigmoid",
                                     "sink",        "sinks",      "size",
                                     "sliding",     "softcap",    "softcapping",
                                     "softmax",     "sparse",     "sparsity",
                                     "ssm",         "state",      "temperature_tuning",
                                     "theta",       "tie",        "tied",
                                     "topk",        "vocab",      "weight",
                                     "weights",     "window",     "yarn"});

}  // namespace

bool may_change_numbers(const std::string& key, const json& value) {
  // transformers' own, of how it runs.
  if (key.starts_with('_') || std::ranges::find(unused_keys, key) != unused_keys.end())
    return false;
  if (value.is_null() || (value.is_structured() && value.empty())) return false;
  for (const auto& [known, neutral] : neutral_values)
    if (key == known && value == neutral) return false;
  for (std::string_view rest = key; !rest.empty();) {
    const std::size_t end = std::min(rest.find_first_of("_-."), rest.size());
    std::string word(rest.substr(0, end));
    std::ranges::transform(word, word.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
    if (std::ranges::find(model_words, word) != model_words.end()) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

}  // namespace olmoe
