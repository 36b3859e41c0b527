#include "forward/config_keys.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
    "encoder_no_repeat_ngram_size",
    "experts_implementation",
    "expert_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "max_window_layers",
    "moe_dropout",
    "no_repeat_ngram_size",
    "num_beam_groups",
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
    "use_flash_attention_2",
    "vocab_file",
};

// What is as good as absent: the value with which a model has no such thing.
const std::array<std::pair<std::string_view, json>, 24> neutral_values = {{
    {"attn_logit_softcapping", 0},
    {"bias", false},
    {"embedding_multiplier", 1},
    {"first_k_dense_replace", 0},
    {"is_causal", true},
    {"layer_norm_bias", false},
    {"logit_scale", 1},
    {"mlp_bias", false},
    {"moe_layer_freq", 1},
    {"n_group", 1},
    {"n_shared_experts", 0},
    {"num_nextn_predict_layers", 0},
    {"num_shared_experts", 0},
    {"partial_rotary_factor", 1},
    {"qkv_bias", false},
    {"residual_multiplier", 1},
    {"rotary_pct", 1},
    {"routed_scaling_factor", 1},
    {"scoring_func", "softmax"},
    {"topk_group", 1},
    {"use_bidirectional_attention", false},
    {"use_qk_norm", true},
    {"use_rope", true},
    {"use_sliding_window", false},
}};

// A key that has one of these words is about the model's arithmetic.
constexpr auto model_words = std::to_array<std::string_view>(
    {"act",           "activation", "activations", "adapter",       "alibi",
     "attention",     "attn",       "bias",        "bidirectional", "bits",
     "cap",           "capping",    "causal",      "clip",          "compress",
     "compression",   "conv",       "dense",       "dim",           "embed",
     "embedding",     "embeddings", "eps",         "epsilon",       "expert",
     "experts",       "factor",     "ffn",         "freq",          "gate",
     "gating",        "geglu",      "glu",         "group",         "groups",
     "head",          "heads",      "hidden",      "interleave",    "kv",
     "latent",        "layer",      "layernorm",   "layers",        "logit",
     "logits",        "lora",       "mamba",       "mask",          "mlp",
     "moe",           "mtp",        "multiplier",  "nextn",         "norm",
     "normalization", "parallel",   "position",    "positional",    "positions",
     "postnorm",      "prenorm",    "qk",          "qkv",           "quant",
     "quantization",  "quantize",   "quantized",   "reglu",         "renormalize",
     "residual",      "rmsnorm",    "rope",        "rotary",        "routed",
     "router",        "routing",    "scale",       "scaled",        "scaling",
     "scoring",       "shared",     "sigmoid",     "sink",          "sinks",
     "size",          "sliding",    "softcap",     "softcapping",   "softmax",
     "sparse",        "sparsity",   "ssm",         "state",         "swiglu",
     "theta",         "tie",        "tied",        "topk",          "vocab",
     "weight",        "weights",    "window",      "yarn"});

bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}

/// The words of a key in snake_case, kebab-case or camelCase, in lower case. What is written as one
/// also counts as one: RoPE_scale has "rope" beside "ro" and "pe".
std::vector<std::string> words_of(std::string_view key) {
  std::vector<std::string> words;
  for (const bool camel_case : {false, true}) {
    std::string word;
    for (std::size_t i = 0; i <= key.size(); ++i) {
      const bool ends =
          i == key.size() || std::string_view("_-.").find(key[i]) != std::string_view::npos;
      const bool humps =
          camel_case && i > 0 && i < key.size() && is_upper(key[i]) && !is_upper(key[i - 1]);
      if (ends || humps) words.push_back(std::exchange(word, {}));
      if (!ends) word += is_upper(key[i]) ? static_cast<char>(key[i] | 0x20) : key[i];
    }
  }
  return words;
}

}  // namespace

bool may_change_numbers(const std::string& key, const json& value) {
  // transformers' own, of how it runs.
  if (key.starts_with('_') || std::ranges::find(unused_keys, key) != unused_keys.end())
    return false;
  if (value.is_null() || (value.is_structured() && value.empty())) return false;
  for (const auto& [known, neutral] : neutral_values)
    if (key == known && value == neutral) return false;
  if (key == "layer_types" && value.is_array() &&
      std::ranges::all_of(value, [](const json& type) { return type == "full_attention"; }))
    return false;
  const std::vector<std::string> words = words_of(key);
  return std::ranges::any_of(words, [](const std::string& word) {
    return std::ranges::find(model_words, word) != model_words.end();
  });
}

}  // namespace olmoe
