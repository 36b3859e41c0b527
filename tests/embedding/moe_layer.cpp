#include "moe_layer.hpp"

#include <algorithm>
#include <utility>

namespace engine {
namespace {

std::size_t at(std::ptrdiff_t i) {
  return static_cast<std::size_t>(i);
}

float dot(const float* a, const float* b, std::ptrdiff_t n) {
  float sum = 0.0F;
  for (std::ptrdiff_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

MoeLayer::MoeLayer(const MoeWeights& weights, fdroute::AnyRouter router, int max_tokens)
    : weights_(weights),
      router_(std::move(router)),
      logits_(at(max_tokens) * at(weights.experts)),
      expert_ids_(at(max_tokens) * at(router_.capacity())),
      expert_weights_(expert_ids_.size()),
      expert_counts_(at(max_tokens)),
      activation_(at(weights.width)) {}

void MoeLayer::route(const float* x, int tokens, fdroute::Padding padding) {
  for (int t = 0; t < tokens; ++t) {
    for (int e = 0; e < weights_.experts; ++e) {
      logits_[at(t) * at(weights_.experts) + at(e)] =
          dot(weights_.router + e * weights_.hidden, x + t * weights_.hidden, weights_.hidden);
    }
  }
  router_.route(fdroute::LogitsView{logits_.data(), tokens, weights_.experts},
                fdroute::RoutingView{expert_ids_.data(), expert_weights_.data(),
                                     expert_counts_.data(), router_.capacity(), padding});
}

void MoeLayer::add_expert(std::int32_t expert, float weight, const float* x, float* out) {
  const std::ptrdiff_t size = weights_.width * weights_.hidden;
  const float* up = weights_.up + expert * size;
  const float* down = weights_.down + expert * size;
  for (std::ptrdiff_t i = 0; i < weights_.width; ++i)
    activation_[at(i)] = std::max(0.0F, dot(up + i * weights_.hidden, x, weights_.hidden));
  for (std::ptrdiff_t i = 0; i < weights_.hidden; ++i)
    out[i] += weight * dot(down + i * weights_.width, activation_.data(), weights_.width);
}

void MoeLayer::forward_by_slot(const float* x, int tokens, float* out) {
  // Every slot holds a valid id; behind the token's count its weight is 0.
  route(x, tokens, fdroute::Padding::repeat_valid);
  std::fill_n(out, tokens * weights_.hidden, 0.0F);
  const int slots = router_.capacity();
  for (int t = 0; t < tokens; ++t) {
    for (int s = 0; s < slots; ++s) {
      const std::size_t slot = at(t) * at(slots) + at(s);
      add_expert(expert_ids_[slot], expert_weights_[slot], x + t * weights_.hidden,
                 out + t * weights_.hidden);
    }
  }
}

void MoeLayer::forward_by_expert(const float* x, int tokens, float* out) {
  route(x, tokens, fdroute::Padding::minus_one);
  plan_.build(fdroute::RoutingView{expert_ids_.data(), expert_weights_.data(),
                                   expert_counts_.data(), router_.capacity()},
              tokens, weights_.experts);
  std::fill_n(out, tokens * weights_.hidden, 0.0F);
  for (int e = 0; e < weights_.experts; ++e) {
    for (std::size_t i = plan_.offsets()[at(e)]; i < plan_.offsets()[at(e) + 1]; ++i) {
      const std::ptrdiff_t row = plan_.tokens()[i] * weights_.hidden;
      add_expert(e, plan_.weights()[i], x + row, out + row);
    }
  }
}

}  // namespace engine
