#pragma once

#include <cstddef>
#include <cstdint>
#include <fdroute/any_router.hpp>
#include <span>
#include <utility>
#include <vector>

#include "forward/config.hpp"

namespace olmoe {

/// Tokens of one sequence that are run together: those at positions start, start + 1 ...
struct Stretch {
  std::size_t sequence = 0;  ///< its index among the sequences that are run together
  std::int64_t start = 0;
  std::int64_t tokens = 0;
};

/// How many tokens they have together.
std::int64_t tokens_of(std::span<const Stretch> stretches);

/// Chooses the experts of tokens, layer by layer: what Model::forward asks.
///
/// A source whose routing of a token depends on nothing but its logits, its layer, its sequence and
/// its position gives a sequence the same routing in whatever pieces and company it is run. Another
/// one says on what else its routing depends.
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

  /// Is told before route() what the experts will get: x (tokens, hidden), the rows that route()
  /// has logits of. A policy knows logits alone and need not look.
  virtual void see(int /*layer*/, std::span<const float> /*x*/) {}

  /// Routes the tokens of `stretches`, each of another sequence, whose rows stand one after the
  /// other in `logits` and `out`; out.capacity is at least capacity(layer).
  virtual void route(int layer, std::span<const Stretch> stretches,
                     fdroute::LogitsView<float> logits, fdroute::RoutingView<std::int32_t> out) = 0;
};

/// Routing by a policy: one router per layer.
class PolicyRouting final : public RoutingSource {
 public:
  /// The routers must outlive this.
  explicit PolicyRouting(std::span<const fdroute::AnyRouter> routers) : routers_(routers) {}

  int layers() const override { return static_cast<int>(routers_.size()); }
  int capacity(int layer) const override { return at(layer).capacity(); }
  int floor(int layer) const override;
  void route(int layer, std::span<const Stretch> stretches, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) override;

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
  /// `counts`: (layers) x (rows), each in [0, experts]; the first token of sequence s is row
  /// first_rows[s]. `topk[k - 1]` is the router for k, up to the largest count. `counts` and `topk`
  /// must outlive this.
  CountedRouting(const std::vector<std::vector<std::int32_t>>& counts,
                 std::vector<std::int64_t> first_rows, std::span<const fdroute::AnyRouter> topk)
      : counts_(counts), first_rows_(std::move(first_rows)), topk_(topk) {}

  int layers() const override { return static_cast<int>(counts_.size()); }
  int capacity(int layer) const override;
  int floor(int layer) const override;
  void route(int layer, std::span<const Stretch> stretches, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) override;

 private:
  const std::vector<std::int32_t>& at(int layer) const {
    return counts_[static_cast<std::size_t>(layer)];
  }

  const std::vector<std::vector<std::int32_t>>& counts_;
  std::vector<std::int64_t> first_rows_;  // (sequences)
  std::span<const fdroute::AnyRouter> topk_;
};

/// The routers of TopK for k = 1 ... max_k, as CountedRouting takes them.
std::vector<fdroute::AnyRouter> topk_routers(int experts, int max_k,
                                             const fdroute::SoftmaxWeights& weights);

}  // namespace olmoe
