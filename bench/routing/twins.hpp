#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "fdroute/detail/block/load.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/token_block.hpp"

/// What routing is measured against: the softmax that any router pays, and other people's ways to
/// select, in plain loops. One token a call, logits of `experts` experts.
namespace bench {

/// The floor: softmax of all rows, by the library's own kernels, in blocks as it takes them.
template <class Arch>
FDROUTE_KERNEL void softmax_rows(fdroute::LogitsView<float> logits, float* weights) noexcept {
  namespace detail = fdroute::detail;
  using Lane = detail::Floats<Arch>;
  const int experts = logits.experts;
  const std::ptrdiff_t most = detail::TokenBlock::tokens_of(experts);
  for (std::ptrdiff_t first = 0; first < logits.tokens; first += most) {
    const auto rows = logits.slice(first, std::min(most, logits.tokens - first));
    detail::TokenBlock block(static_cast<int>(rows.tokens), experts);
    detail::load_rows<Arch, true>(block, rows);
    detail::take_exps<Arch>(block);
    for (int t = 0; t < block.tokens; ++t) {
      const float* exps = block.exps_of(t);
      const float factor = block.inverse_sum[static_cast<std::size_t>(t)];
      float* to = weights + (first + t) * experts;
      int i = 0;
      for (; i + 16 <= experts; i += 16)
        (Lane::load(exps + i) * Lane(factor)).store_anywhere(to + i);
      for (; i < experts; ++i) to[i] = exps[i] * factor;
    }
  }
}

/// A row's softmax with the C library's exp, as one would write it.
inline void plain_softmax(const float* logits, int experts, float* weights) noexcept {
  const float largest = *std::max_element(logits, logits + experts);
  float sum = 0.0F;
  for (int j = 0; j < experts; ++j) {
    weights[j] = std::exp(logits[j] - largest);
    sum += weights[j];
  }
  for (int j = 0; j < experts; ++j) weights[j] /= sum;
}

/// Top k by std::partial_sort of (probability, id) pairs.
inline void partial_sort_topk(const float* logits, int experts, int k, std::int32_t* ids,
                              float* weights) {
  std::array<float, fdroute::max_experts> p;
  plain_softmax(logits, experts, p.data());
  std::array<std::pair<float, std::int32_t>, fdroute::max_experts> pairs;
  for (std::int32_t j = 0; j < experts; ++j)
    pairs[static_cast<std::size_t>(j)] = {p[static_cast<std::size_t>(j)], j};
  std::partial_sort(pairs.begin(), pairs.begin() + k, pairs.begin() + experts,
                    [](const auto& a, const auto& b) { return a.first > b.first; });
  for (int i = 0; i < k; ++i) {
    weights[i] = pairs[static_cast<std::size_t>(i)].first;
    ids[i] = pairs[static_cast<std::size_t>(i)].second;
  }
}

/// Top k by k passes of argmax.
inline void argmax_topk(const float* logits, int experts, int k, std::int32_t* ids,
                        float* weights) {
  std::array<float, fdroute::max_experts> p;
  plain_softmax(logits, experts, p.data());
  for (int i = 0; i < k; ++i) {
    const auto best = std::max_element(p.begin(), p.begin() + experts);
    weights[i] = *best;
    ids[i] = static_cast<std::int32_t>(best - p.begin());
    *best = -1.0F;
  }
}

/// Benjamini-Hochberg as it is usually written: a p-value by erfc for every expert, std::sort by
/// index, the step-up search, softmax weights of the selected.
inline int sorted_bh(const float* logits, int experts, double alpha, double mean, double sd,
                     int max_k, std::int32_t* ids, float* weights) {
  std::array<double, fdroute::max_experts> p;
  std::array<std::int32_t, fdroute::max_experts> order;
  for (int j = 0; j < experts; ++j) {
    const double z = (static_cast<double>(logits[j]) - mean) / sd;
    p[static_cast<std::size_t>(j)] = 0.5 * std::erfc(z * 0.70710678118654752);
  }
  const auto end = order.begin() + experts;
  std::iota(order.begin(), end, 0);
  std::sort(order.begin(), end, [&](std::int32_t a, std::int32_t b) {
    return p[static_cast<std::size_t>(a)] < p[static_cast<std::size_t>(b)];
  });
  int count = 0;
  for (int k = experts; k > 0 && count == 0; --k) {
    const auto at = static_cast<std::size_t>(order[static_cast<std::size_t>(k - 1)]);
    if (p[at] <= alpha * k / experts) count = k;
  }
  count = std::clamp(count, 1, max_k);
  std::array<float, fdroute::max_experts> softmax;
  plain_softmax(logits, experts, softmax.data());
  for (int i = 0; i < count; ++i) {
    ids[i] = order[static_cast<std::size_t>(i)];
    weights[i] = softmax[static_cast<std::size_t>(ids[i])];
  }
  return count;
}

/// Assignments sorted by expert, tokens and weights, by plain loops that trust the routing.
struct CountingSort {
  void build(const fdroute::RoutingView<>& routing, std::ptrdiff_t tokens, int experts) {
    offsets.assign(static_cast<std::size_t>(experts) + 1, 0);
    const auto each = [&](const auto& use) {
      for (std::ptrdiff_t t = 0; t < tokens; ++t) {
        for (std::ptrdiff_t i = t * routing.capacity; i < t * routing.capacity + routing.counts[t];
             ++i)
          use(t, static_cast<std::size_t>(routing.experts[i]), i);
      }
    };
    each([&](std::ptrdiff_t, std::size_t expert, std::ptrdiff_t) { ++offsets[expert + 1]; });
    for (std::size_t e = 1; e < offsets.size(); ++e) offsets[e] += offsets[e - 1];
    next.assign(offsets.begin(), offsets.end() - 1);
    by_expert.resize(offsets.back());
    weights.resize(offsets.back());
    each([&](std::ptrdiff_t t, std::size_t expert, std::ptrdiff_t i) {
      const std::size_t place = next[expert]++;
      by_expert[place] = static_cast<std::int32_t>(t);
      weights[place] = routing.weights[i];
    });
  }

  std::vector<std::size_t> offsets;
  std::vector<std::size_t> next;
  std::vector<std::int32_t> by_expert;
  std::vector<float> weights;
};

/// The sum of some floats, a multiple of 64, read once from the first to the last.
inline float sum_in_order(std::span<const float> x) {
  std::array<float, 64> lanes{};
  for (std::size_t i = 0; i < x.size(); i += lanes.size()) {
    for (std::size_t j = 0; j < lanes.size(); ++j) lanes[j] += x[i + j];
  }
  return std::accumulate(lanes.begin(), lanes.end(), 0.0F);
}

}  // namespace bench
