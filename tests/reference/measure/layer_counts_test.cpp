#include "measure/layer_counts.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

const std::filesystem::path tiny_model = FDROUTE_SOURCE_DIR "/tests/data/tiny/plain";

/// The definition: the least sum over all counts with this total.
double least_loss(const std::vector<std::vector<double>>& losses, std::size_t layer, int total) {
  if (layer == losses.size()) return total == 0 ? 0.0 : std::numeric_limits<double>::infinity();
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t k = 1; k <= losses[layer].size(); ++k)
    least = std::min(
        least, losses[layer][k - 1] + least_loss(losses, layer + 1, total - static_cast<int>(k)));
  return least;
}

}  // namespace

TEST_CASE("The cheapest counts have the total and the least loss of all") {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<double>> losses(3, std::vector<double>(5));
    for (auto& layer : losses) {
      for (double& loss : layer) loss = static_cast<double>(random() % 1000);
    }
    for (int total = 3; total <= 15; ++total) {
      const auto counts = olmoe::cheapest_counts(losses, total);
      int sum = 0;
      double loss = 0.0;
      for (std::size_t l = 0; l < counts.size(); ++l) {
        sum += counts[l];
        loss += losses[l][static_cast<std::size_t>(counts[l]) - 1];
      }
      CHECK(sum == total);
      CHECK(loss == least_loss(losses, 0, total));
    }
    CHECK_THROWS_AS(olmoe::cheapest_counts(losses, 2), std::invalid_argument);
    CHECK_THROWS_AS(olmoe::cheapest_counts(losses, 16), std::invalid_argument);
  }
  CHECK(olmoe::topk_policy(std::vector{3, 5, 4}) == "topk:k=3/5/4");
}

TEST_CASE("The losses by layer and k take as many runs of the texts as is said") {
  const olmoe::Model model(tiny_model);
  olmoe::Text text{.name = "text", .ids = {}, .sha256 = ""};
  for (std::int32_t i = 0; i < 9; ++i) text.ids.push_back(i);
  int runs = 0;
  olmoe::EvaluationOptions options{.window = 8, .stride = 8};
  options.on_progress = [&](const olmoe::EvaluationProgress& now) { runs += now.done == 0; };
  const auto losses = olmoe::layer_losses(model, {&text, 1}, options);
  CHECK(losses.size() == static_cast<std::size_t>(model.config().num_hidden_layers));
  CHECK(olmoe::layer_loss_runs(model.config()) == runs);
}
