#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../routing/logits.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/presets.hpp"

/// What is compared: the routers of fdroute/presets.hpp, two rules, and rows for them.
namespace peers {

/// A router in numbers. Its peers are built from them alone, so a wrong one shows in the results.
struct Numbers {
  std::string name;
  int experts = 1;
  int top_k = 1;               ///< for a rule other than top-k the most that it selects
  std::string rule = "top-k";  ///< or "BH", "HC": on the logit, by the normal null below
  bool sigmoid = false;        ///< weights are sigmoids, not a softmax
  bool by_logit = false;       ///< experts are selected by logit, not by those
  bool normalize = false;      ///< weights are divided by their sum
  float scale = 1.0F;          ///< of all weights
  int groups = 1;
  int kept = 1;
  int best = 1;               ///< how many of a group's experts make its score, as a sum
  std::vector<float> bias{};  ///< (experts), added for the selection; or empty
};

constexpr double alpha = 0.05;
constexpr fdroute::NormalNull null{.mean = -2.8, .sd = 0.85};

/// The normal null as a table, the form in which fitted nulls come: p within a relative 1e-5.
inline fdroute::TabulatedNull null_table() {
  std::vector<double> grid;
  std::vector<double> log_sf;
  for (int i = 0; i <= 2000; ++i) {
    grid.push_back(null.mean + null.sd * (i - 1000) / 125.0);
    log_sf.push_back(std::log(null(grid.back())));
  }
  fdroute::NullProvenance of_logits;
  of_logits.score = std::string(fdroute::Logit::name);
  return fdroute::TabulatedNull::from_log_survival(std::move(grid), std::move(log_sf), of_logits);
}

/// A router, rows of its own, and what it selected, padded.
struct Model {
  Numbers numbers;
  int rows = 0;
  bench::Buffer<float> logits{};         // (rows, experts)
  bench::Buffer<std::int32_t> ids{};     // (rows, top_k)
  bench::Buffer<float> weights{};        // (rows, top_k)
  bench::Buffer<std::int32_t> counts{};  // (rows)
  /// Some calls of `tokens` rows each, from row `first` on, and after the last row with the first.
  std::function<void(Model&, int tokens, int first, int calls, int threads)> route{};
};

/// The loop over the calls knows the router's type, as a caller's would.
template <class AnyPolicy>
Model make_model(int rows, unsigned seed, Numbers numbers, AnyPolicy router) {
  const auto n = static_cast<std::size_t>(rows);
  const auto places = n * static_cast<std::size_t>(numbers.top_k);
  Model model{.numbers = std::move(numbers), .rows = rows};
  model.logits = bench::router_logits(rows, model.numbers.experts, seed);
  model.ids.resize(places);
  model.weights.resize(places);
  model.counts.resize(n);
  model.route = [router = std::move(router)](Model& m, int tokens, int first, int calls,
                                             int threads) {
    const fdroute::LogitsView<float> logits(m.logits.data(), m.rows, m.numbers.experts);
    const fdroute::RoutingView<> out{m.ids.data(), m.weights.data(), m.counts.data(),
                                     m.numbers.top_k};
    for (int call = 0; call < calls; ++call, first += tokens) {
      if (first == m.rows) first = 0;
      if (threads == 1)
        router.route(logits.slice(first, tokens), out.from(first));
      else
        router.route(fdroute::OpenMP{threads}, logits.slice(first, tokens), out.from(first));
    }
  };
  return model;
}

inline std::vector<float> small_bias(int experts) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 0.05F);
  std::vector<float> bias(static_cast<std::size_t>(experts));
  for (float& x : bias) x = normal(random);
  return bias;
}

/// All of them, with so many rows each.
inline std::vector<Model> make_models(int rows) {
  namespace presets = fdroute::presets;
  std::vector<Model> models;
  const auto add = [&](Numbers numbers, auto router) {
    const auto seed = static_cast<unsigned>(11 + models.size());
    models.push_back(make_model(rows, seed, std::move(numbers), std::move(router)));
  };
  add({.name = "mixtral", .experts = 8, .top_k = 2, .normalize = true}, presets::mixtral({}));
  add({.name = "llama4", .experts = 16, .top_k = 1, .sigmoid = true, .by_logit = true},
      presets::llama4({}));
  add({.name = "olmoe", .experts = 64, .top_k = 8}, presets::olmoe({}));
  add({.name = "qwen3-moe", .experts = 128, .top_k = 8, .normalize = true}, presets::qwen3_moe({}));
  add({.name = "gpt-oss", .experts = 128, .top_k = 4, .by_logit = true}, presets::gpt_oss({}));
  add({.name = "deepseek-v2", .experts = 160, .top_k = 6, .scale = 16.0F, .groups = 8, .kept = 3},
      presets::deepseek_v2({}));
  const auto add_sigmoid = [&](const char* name, const presets::DeepseekV3Config& config) {
    const std::vector<float> bias = small_bias(config.n_routed_experts);
    add({.name = name,
         .experts = config.n_routed_experts,
         .top_k = config.num_experts_per_tok,
         .sigmoid = true,
         .normalize = true,
         .scale = config.routed_scaling_factor,
         .groups = config.n_group,
         .kept = config.topk_group,
         .best = 2,
         .bias = bias},
        presets::deepseek_v3(config, bias));
  };
  // GLM-4.5's router is DeepSeek-V3's with other numbers, and so is Kimi K2's.
  add_sigmoid("glm4-moe", {.n_routed_experts = 160, .n_group = 1, .topk_group = 1});
  add_sigmoid("deepseek-v3", {});
  add_sigmoid(
      "kimi-k2",
      {.n_routed_experts = 384, .n_group = 1, .topk_group = 1, .routed_scaling_factor = 2.827F});
  const auto add_rule = [&](const char* name, auto rule) {
    add({.name = name, .experts = 64, .top_k = 8, .rule = name},
        fdroute::Router(64, rule, fdroute::Logit{}, null_table(), fdroute::SoftmaxWeights{},
                        fdroute::ExpertBounds{1, 8}));
  };
  add_rule("BH", fdroute::BenjaminiHochberg{alpha});
  add_rule("HC", fdroute::HigherCriticism{});
  return models;
}

}  // namespace peers
