#include "forward/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>

#include "formats/error.hpp"
#include "forward/memory.hpp"
#include "kernels/isa.hpp"

namespace olmoe {
namespace {

/// Tokens that are run together; a longer prompt is run in pieces, so that memory stays bounded.
constexpr std::size_t chunk_tokens = 512;

void append(std::vector<float>& to, std::span<const float> from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// What a value is that is not finite.
std::string kind(float value) {
  return std::isnan(value) ? "NaN" : "infinity";
}

/// Hands out tensors by name and expected shape, and knows in the end which were never asked for.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, Compute compute)
      : checkpoint_(checkpoint), compute_(compute) {}

  /// A matrix whose products, if any, are in float.
  Matrix float_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    used_.insert(name);
    return as_matrix(checkpoint_.at(name, {rows, cols}));
  }

  Matrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    used_.insert(name);
    return computed(checkpoint_.at(name, {rows, cols}));
  }

  // The experts' matrices of a layer: a tensor each, or all of them in two tensors of rank 3, the
  // form that transformers 5 has in memory.
  std::vector<ExpertWeights> experts(const std::string& prefix, const Config& config) {
    const std::int64_t n = config.num_experts;
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t inner = config.intermediate_size;
    std::vector<ExpertWeights> experts;
    if (!checkpoint_.contains(prefix + "gate_up_proj")) {
      for (std::int64_t e = 0; e < n; ++e) {
        const std::string expert = prefix + std::to_string(e) + ".";
        experts.push_back({matrix(expert + "gate_proj.weight", inner, hidden),
                           matrix(expert + "up_proj.weight", inner, hidden),
                           matrix(expert + "down_proj.weight", hidden, inner)});
      }
      return experts;
    }
    used_.insert({prefix + "gate_up_proj", prefix + "down_proj"});
    const Tensor gate_up = checkpoint_.at(prefix + "gate_up_proj", {n, 2 * inner, hidden});
    const Tensor down = checkpoint_.at(prefix + "down_proj", {n, hidden, inner});
    for (std::int64_t e = 0; e < n; ++e) {
      experts.push_back({computed(gate_up.rows_of(e, 0, {inner, hidden})),
                         computed(gate_up.rows_of(e, inner, {inner, hidden})),
                         computed(down.rows_of(e, 0, {hidden, inner}))});
    }
    return experts;
  }

  std::vector<float> vector(const std::string& name, std::int64_t n) {
    used_.insert(name);
    return finite(checkpoint_.at(name, {n}));
  }

  /// A matrix small enough to be checked whole.
  Matrix finite_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    Matrix result = float_matrix(name, rows, cols);
    finite(checkpoint_.at(name));
    return result;
  }

  /// A tensor that a checkpoint may contain though the model does not read it.
  void ignore(const std::string& name) { used_.insert(name); }

  void check_all_used() const {
    for (const std::string& name : checkpoint_.names()) {
      if (!used_.contains(name))
        throw Error(checkpoint_.at(name).origin + " has no place in an OLMoE of this config");
    }
  }

 private:
  Matrix computed(const Tensor& tensor) const {
    Matrix result = as_matrix(tensor);
    result.compute = compute_;
    if (compute_ == Compute::bf16 && result.dtype != DType::BF16) {
      throw Error(tensor.origin + " holds " + std::string(olmoe::name(result.dtype)) +
                  "; compute 'bf16' needs BF16");
    }
    return result;
  }

  static std::vector<float> finite(const Tensor& tensor) {
    std::vector<float> values = tensor.to_float();
    if (const std::size_t bad = first_not_finite(values); bad < values.size())
      throw Error(tensor.origin + ": " + kind(values[bad]) + " at element " + std::to_string(bad));
    return values;
  }

  const Checkpoint& checkpoint_;
  Compute compute_;
  std::set<std::string> used_;
};

DecoderLayer load_layer(Loader& load, const Config& config, int index) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t kv_width = std::int64_t{config.num_key_value_heads} * config.head_dim();
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  const std::string attention = prefix + "self_attn.";

  DecoderLayer layer;
  layer.input_norm = load.vector(prefix + "input_layernorm.weight", hidden);
  layer.post_attention_norm = load.vector(prefix + "post_attention_layernorm.weight", hidden);

  AttentionWeights& a = layer.attention;
  a.q = load.matrix(attention + "q_proj.weight", hidden, hidden);
  a.k = load.matrix(attention + "k_proj.weight", kv_width, hidden);
  a.v = load.matrix(attention + "v_proj.weight", kv_width, hidden);
  a.o = load.matrix(attention + "o_proj.weight", hidden, hidden);
  if (config.attention_bias) {
    a.q_bias = load.vector(attention + "q_proj.bias", hidden);
    a.k_bias = load.vector(attention + "k_proj.bias", kv_width);
    a.v_bias = load.vector(attention + "v_proj.bias", kv_width);
    a.o_bias = load.vector(attention + "o_proj.bias", hidden);
  }
  a.q_norm = load.vector(attention + "q_norm.weight", hidden);
  a.k_norm = load.vector(attention + "k_norm.weight", kv_width);

  layer.moe.router = load.finite_matrix(prefix + "mlp.gate.weight", config.num_experts, hidden);
  layer.moe.experts = load.experts(prefix + "mlp.experts.", config);
  return layer;
}

}  // namespace

/// Memory of a forward pass, kept from one layer and chunk to the next.
struct Model::Workspace {
  std::vector<float> normed;  // (tokens, hidden)
  std::vector<float> branch;  // (tokens, hidden)
  ExecutedRouting routing;
  ExpertWorkspace experts;
};

Model::Model(const std::filesystem::path& directory, Compute compute)
    : directory_(directory),
      config_(Config::load(directory)),
      checkpoint_(directory),
      rotary_(config_) {
  require_memory(working_memory(config_, 1), directory.string());
  if (compute == Compute::bf16) require_bf16_dot();
  Loader load(checkpoint_, compute);
  embeddings_ =
      load.float_matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
  for (int l = 0; l < config_.num_hidden_layers; ++l)
    layers_.push_back(load_layer(load, config_, l));
  norm_ = load.vector("model.norm.weight", config_.hidden_size);
  if (config_.tie_word_embeddings) {
    lm_head_ = load.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
    load.ignore("lm_head.weight");
  } else {
    lm_head_ = load.matrix("lm_head.weight", config_.vocab_size, config_.hidden_size);
  }
  load.check_all_used();
}

std::vector<float> Model::forward(std::span<const std::int32_t> ids, KvCache& cache,
                                  const RoutingSource& source, LogitsOf logits_of,
                                  ForwardTrace* trace) const {
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  const std::size_t tokens = ids.size();
  if (tokens == 0) throw Error("the prompt has no tokens");
  if (cache.positions + static_cast<std::int64_t>(tokens) > config_.max_position_embeddings) {
    throw Error("a sequence of " +
                std::to_string(cache.positions + static_cast<std::int64_t>(tokens)) +
                " tokens exceeds max_position_embeddings, " +
                std::to_string(config_.max_position_embeddings));
  }
  if (source.layers() != config_.num_hidden_layers) {
    throw Error("a routing of " + std::to_string(source.layers()) + " layers given for " +
                std::to_string(layers_.size()) + " layers");
  }

  for (const std::int32_t id : ids) {
    if (id < 0 || id >= config_.vocab_size) {
      throw Error("token id " + std::to_string(id) + " is outside the vocabulary of " +
                  std::to_string(config_.vocab_size));
    }
  }

  cache.layers.resize(layers_.size());
  if (trace != nullptr) {
    trace->hidden_states.resize(layers_.size() + 1);
    trace->routing.resize(layers_.size());
  }
  Workspace workspace;
  std::vector<float> result;
  for (std::size_t begin = 0; begin < tokens; begin += chunk_tokens) {
    const std::size_t count = std::min(chunk_tokens, tokens - begin);
    const std::vector<float> x =
        run_chunk(ids.subspan(begin, count), cache, source, trace, workspace);
    const std::int64_t first_token = cache.positions - static_cast<std::int64_t>(count);
    if (logits_of == LogitsOf::every_token) append(result, logits(x, first_token));
    if (logits_of == LogitsOf::last_token && begin + count == tokens)
      result = logits(std::span(x).last(hidden), cache.positions - 1);
  }
  return result;
}

std::vector<float> Model::run_chunk(std::span<const std::int32_t> ids, KvCache& cache,
                                    const RoutingSource& source, ForwardTrace* trace,
                                    Workspace& workspace) const {
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  std::vector<float> x(ids.size() * hidden);
  for (std::size_t t = 0; t < ids.size(); ++t)
    copy_row(embeddings_, ids[t], std::span(x).subspan(t * hidden, hidden));
  check_finite(x, ids.size(), cache.positions, "the embedding");

  std::vector<float>& normed = workspace.normed;
  std::vector<float>& branch = workspace.branch;
  normed.resize(x.size());
  branch.resize(x.size());
  const auto add_branch = [&] {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
  };
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const DecoderLayer& layer = layers_[l];
    if (trace != nullptr) append(trace->hidden_states[l], x);
    rms_norm(layer.input_norm, config_.rms_norm_eps, x, normed);
    attend(config_, layer.attention, rotary_, normed, cache.positions, cache.layers[l], branch);
    add_branch();
    rms_norm(layer.post_attention_norm, config_.rms_norm_eps, x, normed);
    mix_experts(config_, layer.moe, source, static_cast<int>(l), cache.positions, normed,
                workspace.routing, branch, workspace.experts);
    add_branch();
    check_finite(workspace.routing.logits, ids.size(), cache.positions, "the router logits", l);
    check_finite(x, ids.size(), cache.positions, "the hidden state", l);
    if (trace != nullptr) trace->routing[l].append(workspace.routing);
  }
  rms_norm(norm_, config_.rms_norm_eps, x, x);
  check_finite(x, ids.size(), cache.positions, "the last hidden state");
  cache.positions += static_cast<std::int64_t>(ids.size());
  if (trace != nullptr) append(trace->hidden_states.back(), x);
  return x;
}

std::vector<float> Model::logits(std::span<const float> hidden_states,
                                 std::int64_t first_token) const {
  const std::size_t tokens = hidden_states.size() / static_cast<std::size_t>(config_.hidden_size);
  std::vector<float> logits(tokens * static_cast<std::size_t>(config_.vocab_size));
  linear({{lm_head_, {}, logits}}, hidden_states);
  check_finite(logits, tokens, first_token, "the logits");
  return logits;
}

void Model::check_finite(std::span<const float> rows, std::size_t tokens, std::int64_t first_token,
                         const char* what, std::optional<std::size_t> layer) const {
  const std::size_t bad = first_not_finite(rows);
  if (bad == rows.size()) return;
  const auto token = first_token + static_cast<std::int64_t>(bad / (rows.size() / tokens));
  throw Error(directory_.string() + ": " +
              (layer ? "layer " + std::to_string(*layer) + ": " : std::string()) + kind(rows[bad]) +
              " in " + what + " of token " + std::to_string(token) +
              "; the weights are damaged, or too large for float");
}

}  // namespace olmoe
