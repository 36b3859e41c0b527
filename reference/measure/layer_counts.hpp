#pragma once

#include <span>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"

/// The rival that an adaptive policy must beat besides one k: a fixed k for each layer.
namespace olmoe {

/// (layers) x (k = 1, 2 ...): mean over documents of the nll with top-k in one layer and the
/// model's own top-k in all others. k goes to min(16, experts). Throws as evaluate() does.
std::vector<std::vector<double>> layer_losses(const Model& model, std::span<const Text> texts,
                                              const EvaluationOptions& options);

/// How often layer_losses() runs the texts: for each layer and k, the model's own counts once.
int layer_loss_runs(const Config& config);

/// The k of each layer, `total` together, with the smallest sum of losses[layer][k - 1]: exact, by
/// dynamic programming. What layers cost is taken for additive. Needs layers <= total and total at
/// most the number of losses; throws std::invalid_argument otherwise.
std::vector<int> cheapest_counts(const std::vector<std::vector<double>>& losses, int total);

/// "topk:k=3/5/4/4".
std::string topk_policy(std::span<const int> counts);

}  // namespace olmoe
