#include "measure/layer_counts.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include "measure/at.hpp"
#include "measure/equal_cost.hpp"
#include "measure/non_inferiority.hpp"
#include "routing/routing.hpp"

namespace olmoe {

namespace {

int most_tried(const Config& config) {
  return std::min(16, config.num_experts);
}

}  // namespace

int layer_loss_runs(const Config& config) {
  const int others = most_tried(config) - (config.num_experts_per_tok <= most_tried(config));
  return 1 + config.num_hidden_layers * others;
}

std::vector<std::vector<double>> layer_losses(const Model& model, std::span<const Text> texts,
                                              const EvaluationOptions& options) {
  const Config& config = model.config();
  const auto loss = [&](const std::vector<int>& counts) {
    const auto routers = make_routers(config, topk_policy(counts), std::filesystem::path());
    const TextEvaluation total = evaluate(model, routers, texts, options).total;
    return document_mean(document_losses(total.windows, total.windows_of)).value;
  };
  const std::vector<int> native(at(config.num_hidden_layers), config.num_experts_per_tok);
  const double of_native = loss(native);
  std::vector<std::vector<double>> losses(native.size());
  for (std::size_t l = 0; l < native.size(); ++l) {
    for (int k = 1; k <= most_tried(config); ++k) {
      std::vector<int> counts = native;
      counts[l] = k;
      losses[l].push_back(counts == native ? of_native : loss(counts));
    }
  }
  return losses;
}

std::vector<int> cheapest_counts(const std::vector<std::vector<double>>& losses, int total) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const std::size_t layers = losses.size();
  const auto places = static_cast<std::size_t>(std::max(total, 0)) + 1;
  // best[l][n]: the smallest loss of the first l layers with n experts together; chosen[l][n]: the
  // last of these layers' k.
  std::vector<std::vector<double>> best(layers + 1, std::vector<double>(places, infinite));
  std::vector<std::vector<std::size_t>> chosen(layers + 1, std::vector<std::size_t>(places, 0));
  best[0][0] = 0.0;
  for (std::size_t l = 0; l < layers; ++l) {
    for (std::size_t n = 0; n < places; ++n) {
      for (std::size_t k = 1; k <= std::min(losses[l].size(), n); ++k) {
        const double loss = best[l][n - k] + losses[l][k - 1];
        if (loss >= best[l + 1][n]) continue;
        best[l + 1][n] = loss;
        chosen[l + 1][n] = k;
      }
    }
  }
  if (best[layers][places - 1] == infinite)
    throw std::invalid_argument("cheapest_counts: no counts of " + std::to_string(layers) +
                                " layers sum to " + std::to_string(total));
  std::vector<int> counts(layers);
  std::size_t left = places - 1;
  for (std::size_t l = layers; l > 0; --l) {
    counts[l - 1] = static_cast<int>(chosen[l][left]);
    left -= chosen[l][left];
  }
  return counts;
}

std::string topk_policy(std::span<const int> counts) {
  std::string policy = "topk:k=";
  for (std::size_t l = 0; l < counts.size(); ++l)
    policy += (l == 0 ? "" : "/") + std::to_string(counts[l]);
  return policy;
}

}  // namespace olmoe
