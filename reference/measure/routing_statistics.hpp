#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/model.hpp"
#include "forward/routing_source.hpp"

/// What a routing did: counts, loads and costs, from the routings executed. docs/experiments.md,
/// "Definitions", has the formulas.
namespace olmoe {

/// The number of experts per row, over the rows executed. A row is one token in one layer.
struct CountStatistics {
  std::int64_t rows = 0;
  double mean = 0.0;
  double std = 0.0;  ///< of the rows, divided by their number
  int min = 0;
  int max = 0;
  double floor_rate = 0.0;              ///< share of the rows with count == min_k
  double ceiling_rate = 0.0;            ///< share of the rows with count == capacity
  std::vector<std::int64_t> histogram;  ///< (experts + 1): rows with that count
};

/// How evenly a layer's assignments fall on its experts.
struct LoadStatistics {
  std::vector<double> share;  ///< (experts): the expert's share of the assignments; sums to 1
  double cv = 0.0;            ///< coefficient of variation of `share`, 0 if even
  double gini = 0.0;  ///< Gini coefficient of `share`, 0 if even, 1 - 1/experts if one has all
};

/// CV and Gini of a layer's assignments per expert. All zero: shares, cv and gini are 0.
LoadStatistics load_statistics(std::span<const std::int64_t> assignments);

struct LayerStatistics {
  CountStatistics counts;
  LoadStatistics load;
  double weight_mass = 0.0;  ///< mean over the rows of the sum of their routing weights
};

/// What a routing did, from the routings executed.
struct RoutingStatistics {
  CountStatistics counts;               ///< over all layers' rows
  std::vector<LayerStatistics> layers;  ///< (layers)
  double load_cv = 0.0;                 ///< mean over the layers
  double load_gini = 0.0;               ///< mean over the layers
  double weight_mass = 0.0;             ///< mean over all layers' rows
  /// Weights of the experts selected for a token, in all layers and as stored in the checkpoint:
  /// what a token decoded alone has to read.
  double expert_bytes_per_token = 0.0;
};

/// What one layer did on some rows; exact but for the mass.
struct LayerSums {
  explicit LayerSums(int experts);

  void add(const ExecutedRouting& routing);
  void add(const LayerSums& other);

  std::vector<std::int64_t> histogram;    ///< (experts + 1): rows by count
  std::vector<std::int64_t> assignments;  ///< (experts)
  double mass = 0.0;                      ///< sum of the routing weights
};

/// Statistics of `layers`, the sums of every layer of `model`; `source` gives each layer's floor
/// and capacity.
RoutingStatistics routing_statistics(const Model& model, const RoutingSource& source,
                                     std::span<const LayerSums> layers);

}  // namespace olmoe
