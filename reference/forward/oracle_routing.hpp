#pragma once

#include <fdroute/any_router.hpp>
#include <span>
#include <vector>

#include "forward/model.hpp"
#include "forward/routing_source.hpp"

namespace olmoe {

/// (tokens, experts): the Euclidean norm of each expert's output for each row of x (tokens,
/// hidden). All experts are computed.
std::vector<float> output_norms(const Config& config, const MoeWeights& weights,
                                std::span<const float> x);

/// What selection could gain if it knew all outputs: an instrument, no policy. A token gets as many
/// experts as its router gives it, but those whose contributions are largest: softmax over all
/// experts times norm of the expert's output; of equal ones the lower index. Their weights are that
/// softmax, renormalised only if the config's norm_topk_prob says so. Experts are in the order of
/// their contributions.
///
/// A token's routing depends on its hidden state in the layer alone.
class OracleRouting final : public RoutingSource {
 public:
  /// `model` and `routers`, one a layer, must outlive this.
  OracleRouting(const Model& model, std::span<const fdroute::AnyRouter> routers);

  int layers() const override { return policy_.layers(); }
  int capacity(int layer) const override { return policy_.capacity(layer); }
  int floor(int layer) const override { return policy_.floor(layer); }
  void see(int layer, std::span<const float> x) override;
  void route(int layer, std::span<const Stretch> stretches, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) override;

 private:
  const Model& model_;
  PolicyRouting policy_;
  fdroute::AnyRouter all_;    // every expert and its softmax
  std::vector<float> norms_;  // (tokens, experts), of the x last seen
};

}  // namespace olmoe
