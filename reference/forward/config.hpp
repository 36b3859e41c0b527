#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace olmoe {

/// The experts' nonlinearity. transformers has several names for some of them; gelu_fast and
/// gelu_accurate mean GeluTanh too.
enum class Activation {
  Silu,      ///< x / (1 + exp(-x)): silu, swish
  Gelu,      ///< x / 2 (1 + erf(x / sqrt 2)): gelu, gelu_python
  GeluTanh,  ///< x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): gelu_new, gelu_pytorch_tanh
  Relu,      ///< max(x, 0): relu
};

/// "silu", "gelu", "gelu_pytorch_tanh" or "relu".
std::string_view name(Activation activation);

/// What config.json says of an OLMoE, checked: all sizes are positive and small enough that the
/// product of any two, times the experts, fits 64 bits.
struct Config {
  int hidden_size;
  int intermediate_size;
  int num_hidden_layers;
  int num_attention_heads;  ///< divides hidden_size, with an even quotient
  int num_key_value_heads;  ///< divides num_attention_heads
  int num_experts;          ///< 1 ... 1024
  int num_experts_per_tok;  ///< 1 ... num_experts
  bool norm_topk_prob;
  int vocab_size;
  int max_position_embeddings;
  float rms_norm_eps;
  Activation hidden_act;
  double rope_theta;
  double rope_factor;  ///< positions are divided by it: 1 for rope type default, else linear
  bool attention_bias;
  std::optional<float> clip_qkv;
  bool tie_word_embeddings;
  std::vector<std::int64_t> eos_token_ids;  ///< generation stops at any of them; may be empty
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> pad_token_id;

  int head_dim() const { return hidden_size / num_attention_heads; }

  /// Reads a config.json as written by transformers 4.x or 5.x. Throws Error if a field
  /// that inference needs is missing, has the wrong type or contradicts another, and for a key that
  /// is not read though it may change the numbers: one that has a word about the model (attention,
  /// expert, norm, rope, scale, window ...) and a value other than null, {} or [], but for a list
  /// of those known to be harmless. Other keys, of trainers and hubs, are ignored.
  static Config read(const std::filesystem::path& file);

  /// Reads directory/config.json.
  static Config load(const std::filesystem::path& directory) {
    return read(directory / "config.json");
  }
};

}  // namespace olmoe
