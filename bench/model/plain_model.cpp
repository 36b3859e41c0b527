#include "plain_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "float16.hpp"

namespace bench {
namespace {

using olmoe::DType;
using olmoe::Matrix;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

template <class T>
void multiply_elements(const T* w, std::int64_t rows, std::span<const float> x,
                       std::span<float> y) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* row = w + at(r) * x.size();
    float sum = 0.0F;
    for (std::size_t i = 0; i < x.size(); ++i) sum += olmoe::to_float(row[i]) * x[i];
    y[at(r)] = sum;
  }
}

void multiply(const Matrix& w, std::span<const float> x, std::span<float> y) {
  if (w.dtype == DType::F32)
    return multiply_elements(reinterpret_cast<const float*>(w.data), w.rows, x, y);
  if (w.dtype == DType::F16)
    return multiply_elements(reinterpret_cast<const olmoe::Half*>(w.data), w.rows, x, y);
  multiply_elements(reinterpret_cast<const olmoe::BFloat16*>(w.data), w.rows, x, y);
}

void add_bias(std::span<const float> bias, std::span<float> y) {
  for (std::size_t i = 0; i < bias.size(); ++i) y[i] += bias[i];
}

void norm(std::span<const float> weight, float eps, std::span<const float> x, std::span<float> y) {
  double squares = 0.0;
  for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
  const auto scale = static_cast<float>(
      1.0 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(eps)));
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = weight[i] * (x[i] * scale);
}

void rotate(const olmoe::Config& config, std::span<float> heads, std::int64_t position) {
  const std::size_t dim = at(config.head_dim());
  for (std::size_t head = 0; head < heads.size(); head += dim) {
    for (std::size_t i = 0; i < dim / 2; ++i) {
      const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(dim);
      const double angle = static_cast<double>(position) / std::pow(config.rope_theta, exponent) /
                           config.rope_factor;
      const auto c = static_cast<float>(std::cos(angle));
      const auto s = static_cast<float>(std::sin(angle));
      const float a = heads[head + i];
      const float b = heads[head + i + dim / 2];
      heads[head + i] = a * c - b * s;
      heads[head + i + dim / 2] = b * c + a * s;
    }
  }
}

void attend(const olmoe::Config& config, const olmoe::AttentionWeights& w, std::span<const float> x,
            std::int64_t position, olmoe::LayerCache& cache, std::span<float> out) {
  const std::size_t dim = at(config.head_dim());
  const std::size_t group = at(config.num_attention_heads / config.num_key_value_heads);
  std::vector<float> query(x.size());
  std::vector<float> key(dim * at(config.num_key_value_heads));
  std::vector<float> value(key.size());
  multiply(w.q, x, query);
  multiply(w.k, x, key);
  multiply(w.v, x, value);
  add_bias(w.q_bias, query);
  add_bias(w.k_bias, key);
  add_bias(w.v_bias, value);
  norm(w.q_norm, config.rms_norm_eps, query, query);
  norm(w.k_norm, config.rms_norm_eps, key, key);
  if (config.clip_qkv) {
    for (std::vector<float>* part : {&query, &key, &value}) {
      for (float& v : *part) v = std::clamp(v, -*config.clip_qkv, *config.clip_qkv);
    }
  }
  rotate(config, query, position);
  rotate(config, key, position);
  // Here a position after the other, each (kv heads x head dim).
  cache.keys.insert(cache.keys.end(), key.begin(), key.end());
  cache.values.insert(cache.values.end(), value.begin(), value.end());

  std::vector<float> mixed(x.size(), 0.0F);
  std::vector<float> scores(at(position) + 1);
  for (std::size_t head = 0; head < at(config.num_attention_heads); ++head) {
    const std::size_t kv_place = head / group * dim;
    float largest = -HUGE_VALF;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      float sum = 0.0F;
      for (std::size_t i = 0; i < dim; ++i)
        sum += query[head * dim + i] * cache.keys[j * key.size() + kv_place + i];
      scores[j] = sum / std::sqrt(static_cast<float>(dim));
      largest = std::max(largest, scores[j]);
    }
    float total = 0.0F;
    for (float& score : scores) {
      score = std::exp(score - largest);
      total += score;
    }
    for (std::size_t j = 0; j < scores.size(); ++j) {
      for (std::size_t i = 0; i < dim; ++i)
        mixed[head * dim + i] += scores[j] / total * cache.values[j * value.size() + kv_place + i];
    }
  }
  multiply(w.o, mixed, out);
  add_bias(w.o_bias, out);
}

}  // namespace

void plain_mixture(const olmoe::Model& model, std::size_t layer,
                   std::span<const fdroute::AnyRouter> routers, std::span<const float> x,
                   std::span<float> out) {
  const olmoe::MoeWeights& moe = model.layers()[layer].moe;
  std::vector<float> logits(moe.experts.size());
  multiply(moe.router, x, logits);
  const fdroute::AnyRouter& router = routers[layer];
  std::vector<std::int32_t> experts(at(router.capacity()));
  std::vector<float> weights(experts.size());
  std::int32_t count = 0;
  router.route(fdroute::LogitsView<float>(logits.data(), 1, static_cast<int>(logits.size())),
               fdroute::RoutingView<std::int32_t>{experts.data(), weights.data(), &count,
                                                  router.capacity()});
  std::fill(out.begin(), out.end(), 0.0F);
  std::vector<float> gate(at(model.config().intermediate_size));
  std::vector<float> up(gate.size());
  std::vector<float> result(x.size());
  for (std::size_t i = 0; i < at(count); ++i) {
    const olmoe::ExpertWeights& expert = moe.experts[at(experts[i])];
    multiply(expert.gate, x, gate);
    multiply(expert.up, x, up);
    for (std::size_t j = 0; j < gate.size(); ++j)
      gate[j] = gate[j] / (1.0F + std::exp(-gate[j])) * up[j];
    multiply(expert.down, gate, result);
    for (std::size_t j = 0; j < out.size(); ++j) out[j] += weights[i] * result[j];
  }
}

std::vector<float> plain_forward(const olmoe::Model& model, std::span<const std::int32_t> ids,
                                 olmoe::KvCache& cache,
                                 std::span<const fdroute::AnyRouter> routers) {
  const olmoe::Config& config = model.config();
  cache.layers.resize(model.layers().size());
  std::vector<float> x(at(config.hidden_size));
  std::vector<float> normed(x.size());
  std::vector<float> branch(x.size());
  for (const std::int32_t id : ids) {
    olmoe::copy_row(model.embeddings(), id, x);
    for (std::size_t l = 0; l < model.layers().size(); ++l) {
      const olmoe::DecoderLayer& layer = model.layers()[l];
      norm(layer.input_norm, config.rms_norm_eps, x, normed);
      attend(config, layer.attention, normed, cache.positions, cache.layers[l], branch);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
      norm(layer.post_attention_norm, config.rms_norm_eps, x, normed);
      plain_mixture(model, l, routers, normed, branch);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
    }
    ++cache.positions;
  }
  norm(model.norm(), config.rms_norm_eps, x, x);
  std::vector<float> logits(at(config.vocab_size));
  multiply(model.lm_head(), x, logits);
  return logits;
}

}  // namespace bench
