// Read this first: OLMoE from token ids to logits, in plain loops.
//
//   x = embedding of each token
//   for each layer:
//     x += attention(norm(x))              a token looks at itself and those before it
//     x += mixture of experts(norm(x))     fdroute chooses each token's experts and their weights
//   logits = lm_head norm(x)
//
// Arrays are row-major, shapes stand beside them. Tensors have the names of Hugging Face's files.

#include "forward/plain_forward.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "formats/error.hpp"
#include "formats/float16.hpp"

namespace olmoe {
namespace {

using Size = std::int64_t;

/// An array (rows, cols), or (cols) with one row; array[r] is row r.
struct Array {
  Array(Size n_rows, Size n_cols)  // of zeros
      : rows(n_rows), cols(n_cols), values(static_cast<std::size_t>(n_rows * n_cols)) {}
  explicit Array(const Tensor& t)
      : rows(t.shape.size() > 1 ? t.shape[0] : 1), cols(t.shape.back()), values(t.to_float()) {}

  float* operator[](Size r) { return values.data() + r * cols; }
  const float* operator[](Size r) const { return values.data() + r * cols; }
  Size rows, cols;
  std::vector<float> values;
};

/// The tensors of a model, or those of a layer, whose names begin with `prefix`.
struct Weights {
  Array operator()(const std::string& name, const Shape& shape) const {
    return Array(checkpoint.at(prefix + name, shape));  // an Error if it has another shape
  }
  const Config& config;
  const Checkpoint& checkpoint;
  std::string prefix;
};

/// <a, b>. a and b (n).
float dot(const float* a, const float* b, Size n) {
  float sum = 0.0F;
  for (Size i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// y[t] = W x[t] for every token. W (rows, cols), x (tokens, cols), y (tokens, rows).
Array multiply(const Array& w, const Array& x) {
  Array y(x.rows, w.rows);
  for (Size t = 0; t < x.rows; ++t) {
    for (Size r = 0; r < w.rows; ++r) y[t][r] = dot(w[r], x[t], x.cols);
  }
  return y;
}

/// x += y, element by element. Both (tokens, hidden).
void add(Array& x, const Array& y) {
  for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += y.values[i];
}

/// RMSNorm of every token: y = weight * x / sqrt(mean(x^2) + eps). weight (cols), x (tokens, cols).
Array norm(const Weights& w, const std::string& name, const Array& x) {
  const Array weight = w(name + ".weight", {x.cols});  // (cols)
  Array y(x.rows, x.cols);
  for (Size t = 0; t < x.rows; ++t) {
    const float mean = dot(x[t], x[t], x.cols) / static_cast<float>(x.cols);
    const float scale = 1.0F / std::sqrt(mean + w.config.rms_norm_eps);
    for (Size i = 0; i < x.cols; ++i) y[t][i] = weight[0][i] * (x[t][i] * scale);
  }
  return y;
}

/// p = softmax(p). p (n).
void softmax(float* p, Size n) {
  const float largest = *std::max_element(p, p + n);
  float total = 0.0F;
  for (Size i = 0; i < n; ++i) total += p[i] = std::exp(p[i] - largest);
  for (Size i = 0; i < n; ++i) p[i] /= total;
}

float activate(Activation activation, float x) {
  if (activation == Activation::Silu) return x / (1.0F + std::exp(-x));
  if (activation == Activation::Relu) return std::max(x, 0.0F);
  if (activation == Activation::Gelu)
    return 0.5F * x * (1.0F + std::erf(x / std::numbers::sqrt2_v<float>));
  if (activation == Activation::GeluTanh) {
    const float scale = std::sqrt(2.0F / std::numbers::pi_v<float>);
    return 0.5F * x * (1.0F + std::tanh(scale * (x + 0.044715F * x * x * x)));
  }
  throw Error("no such activation");
}

/// Rotary embedding of token t's heads at position t: the pair (x_i, x_{i + dim / 2}) turns by
/// t theta^(-2i / dim) / factor. x (tokens, heads * dim).
void rotate(const Config& config, Array& x) {
  const Size dim = config.head_dim();
  for (Size i = 0; i < dim / 2; ++i) {
    // In float, as transformers does: the rounding matters at distant positions.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    const float wavelength = std::pow(static_cast<float>(config.rope_theta), exponent);
    const float frequency = 1.0F / wavelength / static_cast<float>(config.rope_factor);
    for (Size t = 0; t < x.rows; ++t) {
      const float angle = static_cast<float>(t) * frequency;
      const float c = std::cos(angle);
      const float s = std::sin(angle);
      for (float* head = x[t]; head < x[t] + x.cols; head += dim) {  // (dim)
        const float a = head[i];
        const float b = head[i + dim / 2];
        head[i] = a * c - b * s;
        head[i + dim / 2] = b * c + a * s;
      }
    }
  }
}

/// x as a cache of `kv` keeps it, element by element.
void round_to(Storage kv, Array& x) {
  for (float& value : x.values) {
    if (kv == Storage::f16) value = to_float(to_half(value));
    if (kv == Storage::bf16) value = to_float(to_bfloat16(value));
  }
}

/// Causal self-attention. x (tokens, hidden); returns (tokens, hidden).
Array attend(const Weights& w, const Array& x, Storage kv_storage) {
  const Config& config = w.config;
  const Size tokens = x.rows;
  const Size heads = config.num_attention_heads;
  const Size kv_heads = config.num_key_value_heads;  // heads / kv_heads queries share a key
  const Size dim = config.head_dim();                // hidden / heads
  const auto project = [&](const std::string& name, Size rows, const Array& from) {
    Array y = multiply(w(name + ".weight", {rows, from.cols}), from);  // (tokens, rows)
    if (!config.attention_bias) return y;
    const Array bias = w(name + ".bias", {rows});  // (rows)
    for (Size t = 0; t < tokens; ++t) {
      for (Size r = 0; r < rows; ++r) y[t][r] += bias[0][r];
    }
    return y;
  };

  Array q = project("self_attn.q_proj", heads * dim, x);     // (tokens, heads * dim)
  Array k = project("self_attn.k_proj", kv_heads * dim, x);  // (tokens, kv_heads * dim)
  Array v = project("self_attn.v_proj", kv_heads * dim, x);  // (tokens, kv_heads * dim)
  q = norm(w, "self_attn.q_norm", q);                        // over all heads together
  k = norm(w, "self_attn.k_norm", k);
  const float limit = config.clip_qkv.value_or(HUGE_VALF);
  for (Array* part : {&q, &k, &v}) {
    for (float& value : part->values) value = std::clamp(value, -limit, limit);
  }
  rotate(config, q);
  rotate(config, k);
  round_to(kv_storage, k);
  round_to(kv_storage, v);

  Array mixed(tokens, x.cols);  // (tokens, heads * dim)
  Array p(1, tokens);           // p[0][s]: how much token t looks at token s <= t
  for (Size t = 0; t < tokens; ++t) {
    for (Size head = 0; head < heads; ++head) {
      const Size kv = head / (heads / kv_heads) * dim;  // where its key and value begin in a row
      for (Size s = 0; s <= t; ++s)
        p[0][s] = dot(q[t] + head * dim, k[s] + kv, dim) / std::sqrt(static_cast<float>(dim));
      softmax(p[0], t + 1);
      for (Size s = 0; s <= t; ++s) {
        for (Size i = 0; i < dim; ++i) mixed[t][head * dim + i] += p[0][s] * v[s][kv + i];
      }
    }
  }
  return project("self_attn.o_proj", x.cols, mixed);
}

/// Matrix `name` (rows, cols) of expert e: a tensor of its own, or a part of one of all experts.
Array matrix_of(const Weights& w, Size e, const std::string& name, const Shape& shape) {
  const std::string experts = w.prefix + "mlp.experts.";
  if (!w.checkpoint.contains(experts + "gate_up_proj"))
    return Array(w.checkpoint.at(experts + std::to_string(e) + "." + name + ".weight", shape));
  const bool down = name == "down_proj";  // apart; gate's rows, then up's, are in one tensor
  const Shape all{w.config.num_experts, down ? shape[0] : 2 * shape[0], shape[1]};
  const Tensor stacked = w.checkpoint.at(experts + (down ? "down_proj" : "gate_up_proj"), all);
  return Array(stacked.rows_of(e, name == "up_proj" ? shape[0] : 0, shape));
}

/// Mixture of experts: sum over a token's experts of weight * down(act(gate x) * up x).
/// x (tokens, hidden); returns (tokens, hidden).
Array mix(const Weights& w, const fdroute::AnyRouter& router, const Array& x,
          PlainRouting& routing) {
  const Size tokens = x.rows;
  const Size hidden = x.cols;
  const Size inner = w.config.intermediate_size;
  const int experts = w.config.num_experts;
  const int capacity = router.capacity();

  // Each token's experts and their weights, from the router's logits.
  const Array logits = multiply(w("mlp.gate.weight", {experts, hidden}), x);  // (tokens, experts)
  routing.logits = logits.values;
  routing.experts.resize(static_cast<std::size_t>(tokens * capacity));  // (tokens, capacity)
  routing.weights.resize(routing.experts.size());                       // (tokens, capacity)
  routing.counts.resize(static_cast<std::size_t>(tokens));              // (tokens)
  router.route(fdroute::LogitsView<float>(logits[0], tokens, experts),
               fdroute::RoutingView<std::int32_t>{routing.experts.data(), routing.weights.data(),
                                                  routing.counts.data(), capacity});

  Array sum(tokens, hidden);  // (tokens, hidden)
  for (Size t = 0; t < tokens; ++t) {
    Array token(1, hidden);  // (1, hidden)
    std::copy_n(x[t], hidden, token[0]);
    for (Size j = t * capacity; j < t * capacity + routing.counts.data()[t]; ++j) {
      const Size e = routing.experts.data()[j];
      Array h = multiply(matrix_of(w, e, "gate_proj", {inner, hidden}), token);       // (1, inner)
      const Array up = multiply(matrix_of(w, e, "up_proj", {inner, hidden}), token);  // (1, inner)
      for (Size i = 0; i < inner; ++i) h[0][i] = activate(w.config.hidden_act, h[0][i]) * up[0][i];
      const Array y = multiply(matrix_of(w, e, "down_proj", {hidden, inner}), h);  // (1, hidden)
      for (Size i = 0; i < hidden; ++i) sum[t][i] += routing.weights.data()[j] * y[0][i];
    }
  }
  return sum;
}

}  // namespace

PlainResult plain_forward(const Config& config, const Checkpoint& checkpoint,
                          std::span<const std::int32_t> ids,
                          std::span<const fdroute::AnyRouter> routers, Storage kv) {
  const Size tokens = std::ssize(ids);
  const Size vocabulary = config.vocab_size;
  if (ids.empty() || tokens > config.max_position_embeddings)
    throw Error("plain_forward: the prompt has no tokens or too many");
  if (std::any_of(ids.begin(), ids.end(), [&](auto id) { return id < 0 || id >= vocabulary; }))
    throw Error("plain_forward: a token id is outside the vocabulary");
  if (std::ssize(routers) != config.num_hidden_layers)
    throw Error("plain_forward: there must be one router per layer");

  const Weights model{config, checkpoint, ""};
  Array x(tokens, config.hidden_size);  // (tokens, hidden)
  const Shape table{vocabulary, x.cols};
  const Array embeddings = model("model.embed_tokens.weight", table);  // (vocabulary, hidden)
  for (Size t = 0; t < tokens; ++t) std::copy_n(embeddings[ids.data()[t]], x.cols, x[t]);

  PlainResult result;
  for (const fdroute::AnyRouter& router : routers) {
    const std::string layer = "model.layers." + std::to_string(result.routing.size()) + ".";
    const Weights w{config, checkpoint, layer};
    add(x, attend(w, norm(w, "input_layernorm", x), kv));
    PlainRouting& routing = result.routing.emplace_back();
    add(x, mix(w, router, norm(w, "post_attention_layernorm", x), routing));
  }
  const Array lm_head = config.tie_word_embeddings ? embeddings : model("lm_head.weight", table);
  result.logits = multiply(lm_head, norm(model, "model.norm", x)).values;  // (tokens, vocabulary)
  return result;
}

}  // namespace olmoe
