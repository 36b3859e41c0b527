#include "routing_hook.hpp"

#include <ggml-backend.h>
#include <ggml.h>

#include <charconv>
#include <cstddef>
#include <fdroute/views.hpp>
#include <numeric>
#include <string_view>
#include <utility>

namespace fdroute_llama {
namespace {

/// The node "KIND-LAYER" of a graph.
struct NodeName {
  std::string_view kind;
  int layer = 0;
};

NodeName parse(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return {name};
  NodeName node{name.substr(0, dash)};
  std::from_chars(name.data() + dash + 1, name.data() + name.size(), node.layer);
  return node;
}

}  // namespace

RoutingHook::RoutingHook(std::map<int, fdroute::AnyRouter> routers)
    : routers_(std::move(routers)) {}

void RoutingHook::install(llama_context_params& parameters) {
  parameters.cb_eval = &RoutingHook::on_node;
  parameters.cb_eval_user_data = this;
}

double RoutingHook::mean_experts() const {
  return static_cast<double>(selected_) / static_cast<double>(routed_);
}

// llama.cpp asks for every node whether it is wanted (the result: yes or no), computes up to those
// that are, and calls again with what it computed (the result: go on).
bool RoutingHook::on_node(ggml_tensor* node, bool ask, void* self) {
  RoutingHook& hook = *static_cast<RoutingHook*>(self);
  const auto [kind, layer] = parse(node->name);
  const bool logits = kind == "ffn_moe_logits" || kind == "ffn_moe_logits_biased";
  const bool experts = kind == "ffn_moe_topk";
  const bool weights = kind == "ffn_moe_weights";
  if (ask) return logits || experts || weights;
  if (logits) hook.read_logits(node);
  if (experts) hook.write_experts(node, hook.routers_.at(layer));
  if (weights) hook.write_weights(node);
  return true;
}

void RoutingHook::read_logits(const ggml_tensor* node) {
  logits_.resize(static_cast<std::size_t>(ggml_nelements(node)));
  ggml_backend_tensor_get(node, logits_.data(), 0, ggml_nbytes(node));
}

void RoutingHook::write_experts(ggml_tensor* node, const fdroute::AnyRouter& router) {
  const auto width = static_cast<std::size_t>(node->ne[0]);
  const auto tokens = static_cast<std::size_t>(node->ne[1]);
  experts_.resize(tokens * width);
  weights_.resize(tokens * width);
  counts_.resize(tokens);
  router.route(
      fdroute::LogitsView{logits_.data(), node->ne[1], static_cast<int>(logits_.size() / tokens)},
      fdroute::RoutingView{experts_.data(), weights_.data(), counts_.data(),
                           static_cast<int>(width), fdroute::Padding::repeat_valid});
  routed_ += node->ne[1];
  selected_ = std::accumulate(counts_.begin(), counts_.end(), selected_);
  // Its rows are the first places of those of a full sort: they lie apart.
  for (std::size_t t = 0; t < tokens; ++t)
    ggml_backend_tensor_set(node, &experts_[t * width], t * node->nb[1],
                            width * sizeof experts_[0]);
}

void RoutingHook::write_weights(ggml_tensor* node) const {
  ggml_backend_tensor_set(node, weights_.data(), 0, weights_.size() * sizeof weights_[0]);
}

}  // namespace fdroute_llama
