#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <fdroute/completion.hpp>
#include <fdroute/residency.hpp>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "forward/grouping.hpp"
#include "forward/routing_source.hpp"

namespace olmoe {

/// Routing by a policy, whose tokens then get experts that cost nothing more: those that are loaded
/// for other tokens of their group, or that a cache holds, as fdroute::Router::complete() adds
/// them.
///
/// Batch and consecutive tokens: a token's resident experts are the union of what the policy
/// selected for the tokens of its group. Cache: they are those that the cache of its sequence and
/// layer holds before the token, which is empty at the sequence's beginning; then all experts that
/// the token got are used. So a token's routing depends on its group, and a cache follows sequences
/// from route() to route(): one object serves sequences of one forward() to the next as long as
/// they keep their indices.
class CompletedRouting final : public RoutingSource {
 public:
  /// `routers`, one a layer, must outlive this. With `seed`, the control: a token gets as many
  /// experts as completion adds, but any resident ones, drawn at random, whatever their logits.
  /// Throws std::invalid_argument for a completion out of range.
  CompletedRouting(std::span<const fdroute::AnyRouter> routers, const Grouping& grouping,
                   const fdroute::Completion& completion, std::optional<std::uint64_t> seed = {});

  int layers() const override { return policy_.layers(); }
  int capacity(int layer) const override;
  int floor(int layer) const override { return policy_.floor(layer); }
  void route(int layer, std::span<const Stretch> stretches, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) override;

 private:
  using Rows = fdroute::RoutingView<std::int32_t>;

  /// Completes the first token, for which `resident` cost nothing.
  void complete(int layer, fdroute::LogitsView<float> token, const fdroute::ExpertSet& resident,
                Rows out);
  void complete_from_cache(int layer, std::span<const Stretch> stretches,
                           fdroute::LogitsView<float> logits, Rows out);

  PolicyRouting policy_;
  std::span<const fdroute::AnyRouter> routers_;  // (layers)
  Grouping grouping_;
  fdroute::Completion completion_;
  std::optional<std::mt19937_64> random_;
  std::map<std::pair<std::size_t, int>, fdroute::ExpertCache> caches_;  // by sequence and layer
};

}  // namespace olmoe
