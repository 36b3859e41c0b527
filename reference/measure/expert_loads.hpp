#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/grouping.hpp"
#include "forward/model.hpp"

/// What a routing loads where tokens share what is loaded, from the routings executed.
/// docs/experiments.md, "Experts loaded", has the definitions.
namespace olmoe {

/// What one layer loaded for some groups.
struct LoadSums {
  explicit LoadSums(int experts) : loads(static_cast<std::size_t>(experts), 0) {}

  /// Adds what sequences that were run together loaded; `routings` are theirs in this layer, each
  /// from the sequence's beginning. A cache begins empty.
  void add(const Grouping& grouping, std::span<const ExecutedRouting* const> routings);
  void add(const LoadSums& other);

  std::vector<std::int64_t> loads;  ///< (experts): how often each was loaded
  std::int64_t groups = 0;
  std::int64_t tokens = 0;
};

/// What a routing loaded.
struct ExpertLoads {
  Grouping grouping;
  std::int64_t groups = 0;        ///< of each layer
  double tokens_per_group = 0.0;  ///< at most the group's size: sequences differ in length
  double mean = 0.0;              ///< experts loaded, mean over layers and groups
  std::vector<double> layers;     ///< (layers): mean over groups
  double bytes_per_token = 0.0;   ///< weights of the experts loaded, in all layers, over the tokens
};

/// `layers`: (layers), the sums of every layer of `model`.
ExpertLoads expert_loads(const Model& model, const Grouping& grouping,
                         std::span<const LoadSums> layers);

}  // namespace olmoe
