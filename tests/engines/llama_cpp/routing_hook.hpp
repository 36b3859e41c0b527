#pragma once

#include <llama.h>

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <map>
#include <vector>

namespace fdroute_llama {

/// Routes the MoE layers of an unmodified llama.cpp by fdroute, through the evaluation callback of
/// its public interface. docs/llama-cpp.md explains it.
///
/// Of layer L it reads `ffn_moe_logits-L` (or `ffn_moe_logits_biased-L`), shape (tokens, experts),
/// and overwrites `ffn_moe_topk-L` and `ffn_moe_weights-L`, shape (tokens, expert_used_count), just
/// after llama.cpp has computed them. Places behind a token's count hold the id of its best expert
/// with weight 0. What the model does with its weights afterwards, it still does: Qwen3-MoE and
/// Mixtral divide by their sum, DeepSeek scales.
class RoutingHook {
 public:
  /// A router for each of the model's layers that has experts, by the layer's number. Its capacity
  /// must not exceed the model's expert_used_count, nor its experts differ from the model's:
  /// route() aborts otherwise.
  explicit RoutingHook(std::map<int, fdroute::AnyRouter> routers);
  RoutingHook(const RoutingHook&) = delete;
  RoutingHook& operator=(const RoutingHook&) = delete;

  /// Makes the context of these parameters call this object, which must outlive it.
  void install(llama_context_params& parameters);

  /// Experts per token and layer so far; the repeated ones do not count. NaN before the first.
  double mean_experts() const;

 private:
  static bool on_node(ggml_tensor* node, bool ask, void* self);
  void read_logits(const ggml_tensor* node);
  void write_experts(ggml_tensor* node, const fdroute::AnyRouter& router);
  void write_weights(ggml_tensor* node) const;

  std::map<int, fdroute::AnyRouter> routers_;
  std::vector<float> logits_;          // (tokens, experts)
  std::vector<std::int32_t> experts_;  // (tokens, expert_used_count)
  std::vector<float> weights_;         // (tokens, expert_used_count)
  std::vector<std::int32_t> counts_;   // (tokens)
  std::int64_t routed_ = 0;            // tokens, times layers
  std::int64_t selected_ = 0;
};

}  // namespace fdroute_llama
