#include "forward/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <utility>

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

Model::Model(const std::filesystem::path& directory, Compute compute, Storage kv)
    : directory_(directory),
      config_(Config::load(directory)),
      kv_(kv),
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

void Model::check(std::span<const Sequence> sequences, const RoutingSource& source) const {
  if (sequences.empty()) throw Error("no sequence given");
  for (const Sequence& sequence : sequences) {
    if (sequence.ids.empty()) throw Error("the prompt has no tokens");
    for (const LayerCache& layer : sequence.cache->layers) {
      if (layer.storage != kv_) {
        throw Error("a cache of " + std::string(name(layer.storage)) +
                    " given to a model that has " + std::string(name(kv_)));
      }
    }
    const std::int64_t length = sequence.cache->positions + std::ssize(sequence.ids);
    if (length > config_.max_position_embeddings) {
      throw Error("a sequence of " + std::to_string(length) +
                  " tokens exceeds max_position_embeddings, " +
                  std::to_string(config_.max_position_embeddings));
    }
    for (const std::int32_t id : sequence.ids) {
      if (id < 0 || id >= config_.vocab_size) {
        throw Error("token id " + std::to_string(id) + " is outside the vocabulary of " +
                    std::to_string(config_.vocab_size));
      }
    }
  }
  if (source.layers() != config_.num_hidden_layers) {
    throw Error("a routing of " + std::to_string(source.layers()) + " layers given for " +
                std::to_string(layers_.size()) + " layers");
  }
}

std::vector<float> Model::forward(std::span<const Sequence> sequences, RoutingSource& source,
                                  LogitsOf logits_of) const {
  check(sequences, source);
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  const auto vocabulary = static_cast<std::size_t>(config_.vocab_size);
  std::size_t longest = 0;
  std::vector<std::size_t> result_rows;  // (sequences): where a sequence's logits begin
  std::size_t rows = 0;
  for (const Sequence& sequence : sequences) {
    sequence.cache->layers.resize(layers_.size(), LayerCache{.storage = kv_});
    if (sequence.trace != nullptr) {
      sequence.trace->hidden_states.resize(layers_.size() + 1);
      sequence.trace->routing.resize(layers_.size());
    }
    longest = std::max(longest, sequence.ids.size());
    result_rows.push_back(rows);
    if (logits_of == LogitsOf::every_token) rows += sequence.ids.size();
    if (logits_of == LogitsOf::last_token) ++rows;
  }
  std::vector<float> result(rows * vocabulary);

  const std::size_t piece = std::max<std::size_t>(chunk_tokens / sequences.size(), 1);
  Workspace workspace;
  for (std::size_t begin = 0; begin < longest; begin += piece) {
    std::vector<Sequence> parts;
    std::vector<Stretch> stretches;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const auto& [ids, cache, trace] = sequences[s];
      if (begin >= ids.size()) continue;
      parts.push_back({ids.subspan(begin, std::min(piece, ids.size() - begin)), cache, trace});
      stretches.push_back({s, cache->positions, std::ssize(parts.back().ids)});
    }
    const std::vector<float> x = run_chunk(parts, stretches, source, workspace);

    // The rows whose logits are wanted, and where these go.
    std::vector<float> states;
    std::vector<Stretch> wanted;
    std::vector<std::size_t> places;
    std::size_t row = 0;
    for (const Stretch& stretch : stretches) {
      const auto tokens = static_cast<std::size_t>(stretch.tokens);
      const bool ends = begin + tokens == sequences[stretch.sequence].ids.size();
      row += tokens;
      const std::size_t take = logits_of == LogitsOf::every_token          ? tokens
                               : logits_of == LogitsOf::last_token && ends ? 1
                                                                           : 0;
      if (take == 0) continue;
      append(states, std::span(x).subspan((row - take) * hidden, take * hidden));
      const std::int64_t after = stretch.start + stretch.tokens;
      const auto n = static_cast<std::int64_t>(take);
      wanted.push_back({stretch.sequence, after - n, n});
      places.push_back(result_rows[stretch.sequence] +
                       (logits_of == LogitsOf::every_token ? begin : 0));
    }
    if (wanted.empty()) continue;
    const std::vector<float> found = logits(states, wanted);
    auto from = found.begin();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto n = static_cast<std::ptrdiff_t>(vocabulary) * wanted[i].tokens;
      std::copy_n(from, n, result.begin() + static_cast<std::ptrdiff_t>(places[i] * vocabulary));
      from += n;
    }
  }
  return result;
}

std::vector<float> Model::run_chunk(std::span<const Sequence> sequences,
                                    std::span<const Stretch> stretches, RoutingSource& source,
                                    Workspace& workspace) const {
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  std::vector<float> x(static_cast<std::size_t>(tokens_of(stretches)) * hidden);
  std::size_t at = 0;
  for (const Sequence& sequence : sequences) {
    for (const std::int32_t id : sequence.ids) {
      copy_row(embeddings_, id, std::span(x).subspan(at, hidden));
      at += hidden;
    }
  }
  check_finite(x, stretches, "the embedding");

  std::vector<float>& normed = workspace.normed;
  std::vector<float>& branch = workspace.branch;
  normed.resize(x.size());
  branch.resize(x.size());
  const auto add_branch = [&] {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
  };
  // Calls visit(trace, first row, rows) for each sequence that is traced.
  const auto trace_each = [&](const auto& visit) {
    std::size_t row = 0;
    for (const Sequence& sequence : sequences) {
      if (sequence.trace != nullptr) visit(*sequence.trace, row, sequence.ids.size());
      row += sequence.ids.size();
    }
  };
  const auto trace_states = [&](std::size_t layer) {
    trace_each([&](ForwardTrace& trace, std::size_t first, std::size_t n) {
      append(trace.hidden_states[layer], std::span(x).subspan(first * hidden, n * hidden));
    });
  };
  std::vector<LayerCache*> caches(sequences.size());
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const DecoderLayer& layer = layers_[l];
    trace_states(l);
    rms_norm(layer.input_norm, config_.rms_norm_eps, x, normed);
    for (std::size_t i = 0; i < sequences.size(); ++i) caches[i] = &sequences[i].cache->layers[l];
    const std::size_t too_large =
        attend(config_, layer.attention, rotary_, normed, stretches, caches, branch);
    if (std::cmp_less(too_large, tokens_of(stretches))) {
      throw Error(at_token(too_large, stretches, "a key or value", l) +
                  " is too large for a cache of " + std::string(name(kv_)));
    }
    add_branch();
    rms_norm(layer.post_attention_norm, config_.rms_norm_eps, x, normed);
    mix_experts(config_, layer.moe, source, static_cast<int>(l), stretches, normed,
                workspace.routing, branch, workspace.experts);
    add_branch();
    check_finite(workspace.routing.logits, stretches, "the router logits", l);
    check_finite(x, stretches, "the hidden state", l);
    trace_each([&](ForwardTrace& trace, std::size_t first, std::size_t n) {
      trace.routing[l].append(workspace.routing, first, n);
    });
  }
  rms_norm(norm_, config_.rms_norm_eps, x, x);
  check_finite(x, stretches, "the last hidden state");
  trace_states(layers_.size());
  for (const Sequence& sequence : sequences) sequence.cache->positions += std::ssize(sequence.ids);
  return x;
}

std::vector<float> Model::logits(std::span<const float> hidden_states,
                                 std::int64_t first_token) const {
  const std::int64_t tokens = std::ssize(hidden_states) / config_.hidden_size;
  const Stretch all{.start = first_token, .tokens = tokens};
  return logits(hidden_states, {&all, 1});
}

std::vector<float> Model::logits(std::span<const float> hidden_states,
                                 std::span<const Stretch> stretches) const {
  std::vector<float> logits(static_cast<std::size_t>(tokens_of(stretches) * config_.vocab_size));
  linear({{lm_head_, {}, logits}}, hidden_states);
  check_finite(logits, stretches, "the logits");
  return logits;
}

void Model::check_finite(std::span<const float> rows, std::span<const Stretch> stretches,
                         const char* what, std::optional<std::size_t> layer) const {
  const std::size_t bad = first_not_finite(rows);
  if (bad == rows.size()) return;
  const std::size_t width = rows.size() / static_cast<std::size_t>(tokens_of(stretches));
  throw Error(at_token(bad / width, stretches, kind(rows[bad]) + " in " + what, layer) +
              "; the weights are damaged, or too large for float");
}

std::string Model::at_token(std::size_t row, std::span<const Stretch> stretches,
                            const std::string& what, std::optional<std::size_t> layer) const {
  auto token = static_cast<std::int64_t>(row);
  auto stretch = stretches.begin();
  for (; token >= stretch->tokens; ++stretch) token -= stretch->tokens;
  const bool several = stretches.size() > 1 || stretch->sequence > 0;
  return directory_.string() + ": " +
         (layer ? "layer " + std::to_string(*layer) + ": " : std::string()) + what + " of token " +
         std::to_string(stretch->start + token) +
         (several ? " of sequence " + std::to_string(stretch->sequence) : std::string());
}

}  // namespace olmoe
