#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <span>
#include <vector>

#include "forward/config.hpp"

namespace olmoe {

/// Chooses the experts of one sequence's tokens, layer by layer: what Model::forward asks.
///
/// A token's routing may depend on its logits, its layer and its position in the sequence, and on
/// nothing else, so that a sequence gets the same routing in whatever pieces it is run.
class RoutingSource {
 public:
  RoutingSource() = default;
  RoutingSource(const RoutingSource&) = delete;
  RoutingSource& operator=(const RoutingSource&) = delete;
  virtual ~RoutingSource() = default;

  virtual int layers() const = 0;

  /// The largest and the smallest number of experts that a token can get.
  virtual int capacity(int layer) const = 0;
  virtual int floor(int layer) const = 0;

  /// Routes the tokens at positions start, start + 1, ...; out.capacity is at least
  /// capacity(layer).
  virtual void route(int layer, std::int64_t start, fdroute::LogitsView<float> logits,
                     fdroute::RoutingView<std::int32_t> out) const = 0;
};

/// Routing by a policy: one router per layer.
class PolicyRouting final : public RoutingSource {
 public:
  /// The routers must outlive this.
  explicit PolicyRouting(std::span<const fdroute::AnyRouter> routers) : routers_(routers) {}

  int layers() const override { return static_cast<int>(routers_.size()); }
  int capacity(int layer) const override { return at(layer).capacity(); }
  int floor(int layer) const override;
  void route(int layer, std::int64_t start, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) const override;

 private:
  const fdroute::AnyRouter& at(int layer) const {
    return routers_[static_cast<std::size_t>(layer)];
  }

  std::span<const fdroute::AnyRouter> routers_;
};

/// TopK with a k for every token, given from outside: each token gets the experts that TopK of its
/// own k would give it, weights and order included.
class CountedRouting final : public RoutingSource {
 public:
  /// `counts`: (layers) x (rows), each in [0, experts]; the sequence's first token is row
  /// `first_row`. `topk[k - 1]` is the router for k, up to the largest count. Both must outlive
  /// this.
  CountedRouting(const std::vector<std::vector<std::int32_t>>& counts, std::int64_t first_row,
                 std::span<const fdroute::AnyRouter> topk)
      : counts_(counts), first_row_(first_row), topk_(topk) {}

  int layers() const override { return static_cast<int>(counts_.size()); }
  int capacity(int layer) const override;
  int floor(int layer) const override;
  void route(int layer, std::int64_t start, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) const override;

 private:
  const std::vector<std::int32_t>& at(int layer) const {
    return counts_[static_cast<std::size_t>(layer)];
  }

  const std::vector<std::vector<std::int32_t>>& counts_;
  std::int64_t first_row_;
  std::span<const fdroute::AnyRouter> topk_;
};

/// The routers of TopK for k = 1 ... max_k, as CountedRouting takes them.
std::vector<fdroute::AnyRouter> topk_routers(int experts, int max_k,
                                             const fdroute::SoftmaxWeights& weights);

}  // namespace olmoe
