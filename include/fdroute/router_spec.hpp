#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "fdroute/bounds.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/by_softmax.hpp"
#include "fdroute/ranking/by_sqrt_softplus.hpp"
#include "fdroute/ranking/group_limited.hpp"
#include "fdroute/ranking/soft_capped.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/normalized.hpp"
#include "fdroute/weights/per_expert_scaled.hpp"
#include "fdroute/weights/scaled.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "fdroute/weights/soft_capped.hpp"
#include "fdroute/weights/softmax.hpp"
#include "fdroute/weights/sparse_mixer.hpp"
#include "fdroute/weights/sqrt_softplus.hpp"

namespace fdroute::inline v0::presets {

/// What the routers of published models have in common: what experts are ranked by, and what their
/// weights are made of. docs/presets.md tells which model has which.
enum class Shape : std::uint8_t {
  topk_softmax,           ///< logit; softmax
  group_max_softmax,      ///< logit, in the groups of largest maximum; softmax
  group_top2_softmax,     ///< softmax, in the groups of largest sum of two; softmax
  biased_softmax,         ///< softmax + bias; softmax
  expert_scaled_softmax,  ///< logit; softmax, times a factor of the expert's own
  topk_sigmoid,           ///< logit; sigmoid
  biased_sigmoid,         ///< sigmoid + bias; sigmoid
  group_top2_sigmoid,     ///< sigmoid + bias, in the groups of largest sum of two; sigmoid
  biased_sqrt_softplus,   ///< sqrt(softplus) + bias; sqrt(softplus)
  sparse_mixer,           ///< logit; share among the experts near it
};

/// A model's router in numbers. What a shape does not use is ignored.
struct RouterSpec {
  Shape shape = Shape::topk_softmax;
  int experts = 1;
  int top_k = 1;
  bool normalize = false;  ///< weights are divided by their sum, or their norm
  double epsilon = 0.0;    ///< added to that sum
  double floor = 0.0;      ///< the least that softmax weights are divided by
  double power = 1.0;      ///< of the norm that softmax weights are divided by
  float scale = 1.0F;      ///< of all weights
  int groups = 1;
  int kept_groups = 1;
  float softcap = 0.0F;               ///< bound of the logits of biased_sigmoid; 0: none
  float jitter = 0.0F;                ///< of sparse_mixer
  std::vector<float> bias{};          ///< (experts), or empty for none
  std::vector<float> expert_scale{};  ///< (experts), of expert_scaled_softmax
};

namespace detail {

inline void check_reach(const RouterSpec& spec) {
  // GroupLimited has its own words for these.
  if (spec.groups < 1 || spec.kept_groups < 1 || spec.kept_groups > spec.groups) return;
  const int reachable = spec.experts / spec.groups * spec.kept_groups;
  if (spec.top_k > reachable) {
    fdroute::detail::refuse("top-", spec.top_k, " exceeds the ", reachable, " experts of ",
                            spec.kept_groups, " of ", spec.groups, " groups");
  }
}

template <class K>
GroupLimited<K> grouped(const RouterSpec& spec, K ranking, GroupScore score) {
  check_reach(spec);
  return {.ranking = std::move(ranking),
          .groups = spec.groups,
          .kept = spec.kept_groups,
          .score = score};
}

}  // namespace detail

/// Calls f(weights, ranking) with the policies of the spec's shape, and returns what it returns,
/// which must be of one type for all. A router that selects by another rule than TopK keeps them:
///
///     visit_parts(spec, [&](const auto& weights, const auto& ranking) {
///       return use(Router(spec.experts, rule, score, null, weights, bounds, ranking));
///     });
///
/// Throws std::invalid_argument where top_k exceeds the experts of the kept groups.
template <class F>
[[gnu::cold]] auto visit_parts(const RouterSpec& spec, const F& f) {
  const SoftmaxWeights softmax{.renormalize = spec.normalize};
  const SigmoidWeights sigmoid{.renormalize = spec.normalize, .epsilon = spec.epsilon};
  const Scaled<SoftmaxWeights> scaled_softmax{.weights = softmax, .factor = spec.scale};
  const Scaled<SigmoidWeights> scaled_sigmoid{.weights = sigmoid, .factor = spec.scale};
  const bool plain_norm = !spec.normalize || (spec.floor == 0.0 && spec.power == 1.0);
  const Normalized<SoftmaxWeights> normalized{.power = spec.power, .floor = spec.floor};
  switch (spec.shape) {
    case Shape::topk_softmax:
      if (!plain_norm) return f(normalized, ByLogit{});
      if (spec.scale == 1.0F) return f(softmax, ByLogit{});
      return f(scaled_softmax, ByLogit{});
    case Shape::group_max_softmax:
      return f(scaled_softmax, detail::grouped(spec, ByLogit{}, GroupScore::max));
    case Shape::group_top2_softmax:
      return f(scaled_softmax, detail::grouped(spec, BySoftmax{}, GroupScore::sum_of_top2));
    case Shape::biased_softmax:
      if (!plain_norm) return f(normalized, BySoftmax{.bias = spec.bias});
      return f(scaled_softmax, BySoftmax{.bias = spec.bias});
    case Shape::expert_scaled_softmax:
      return f(PerExpertScaled<SoftmaxWeights>{.weights = softmax, .factors = spec.expert_scale},
               ByLogit{});
    case Shape::topk_sigmoid:
      return f(scaled_sigmoid, ByLogit{});
    case Shape::biased_sigmoid:
      if (spec.softcap != 0.0F) {
        return f(SoftCappedWeights<Scaled<SigmoidWeights>>{scaled_sigmoid, spec.softcap},
                 SoftCappedRanking<BySigmoid>{BySigmoid{.bias = spec.bias}, spec.softcap});
      }
      return f(scaled_sigmoid, BySigmoid{.bias = spec.bias});
    case Shape::group_top2_sigmoid:
      return f(scaled_sigmoid,
               detail::grouped(spec, BySigmoid{.bias = spec.bias}, GroupScore::sum_of_top2));
    case Shape::biased_sqrt_softplus: {
      const SqrtSoftplusWeights weights{.renormalize = spec.normalize, .epsilon = spec.epsilon};
      return f(Scaled<SqrtSoftplusWeights>{.weights = weights, .factor = spec.scale},
               BySqrtSoftplus{.bias = spec.bias});
    }
    case Shape::sparse_mixer:
      break;
  }
  return f(SparseMixerWeights{.jitter = spec.jitter}, ByLogit{});
}

}  // namespace fdroute::inline v0::presets
