#include "measure/routing_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "measure/at.hpp"

namespace olmoe {
namespace {

CountStatistics count_statistics(std::vector<std::int64_t> histogram, std::int64_t at_floor,
                                 std::int64_t at_ceiling) {
  CountStatistics result;
  double sum = 0.0;
  double squares = 0.0;
  for (std::size_t k = 0; k < histogram.size(); ++k) {
    if (histogram[k] == 0) continue;
    if (result.rows == 0) result.min = static_cast<int>(k);
    result.max = static_cast<int>(k);
    result.rows += histogram[k];
    const auto rows = static_cast<double>(histogram[k]);
    sum += rows * static_cast<double>(k);
    squares += rows * static_cast<double>(k) * static_cast<double>(k);
  }
  const auto rows = static_cast<double>(result.rows);
  result.mean = sum / rows;
  // The sums are integers: equal counts give a deviation of exactly 0.
  result.std = std::sqrt(std::max(squares * rows - sum * sum, 0.0)) / rows;
  result.floor_rate = static_cast<double>(at_floor) / rows;
  result.ceiling_rate = static_cast<double>(at_ceiling) / rows;
  result.histogram = std::move(histogram);
  return result;
}

}  // namespace

LayerSums::LayerSums(int experts) : histogram(at(experts) + 1, 0), assignments(at(experts), 0) {}

void LayerSums::add(const ExecutedRouting& routing) {
  for (std::size_t row = 0; row < routing.counts.size(); ++row) {
    const std::int32_t count = routing.counts[row];
    ++histogram[at(count)];
    const std::size_t begin = row * at(routing.capacity);
    for (std::size_t i = begin; i < begin + at(count); ++i) {
      ++assignments[at(routing.experts[i])];
      mass += static_cast<double>(routing.weights[i]);
    }
  }
}

void LayerSums::add(const LayerSums& other) {
  for (std::size_t i = 0; i < histogram.size(); ++i) histogram[i] += other.histogram[i];
  for (std::size_t i = 0; i < assignments.size(); ++i) assignments[i] += other.assignments[i];
  mass += other.mass;
}

LoadStatistics load_statistics(std::span<const std::int64_t> assignments) {
  LoadStatistics result;
  double sum = 0.0;
  for (const std::int64_t count : assignments) sum += static_cast<double>(count);
  result.share.assign(assignments.size(), 0.0);
  if (sum == 0.0) return result;

  const auto n = static_cast<double>(assignments.size());
  double squares = 0.0;
  for (std::size_t e = 0; e < assignments.size(); ++e) {
    result.share[e] = static_cast<double>(assignments[e]) / sum;
    const double deviation = static_cast<double>(assignments[e]) - sum / n;
    squares += deviation * deviation;
  }
  result.cv = std::sqrt(squares / n) / (sum / n);

  std::vector<std::int64_t> ascending(assignments.begin(), assignments.end());
  std::sort(ascending.begin(), ascending.end());
  double weighted = 0.0;
  for (std::size_t i = 0; i < ascending.size(); ++i)
    weighted += (2.0 * static_cast<double>(i) + 1.0 - n) * static_cast<double>(ascending[i]);
  result.gini = weighted / (n * sum);
  return result;
}

RoutingStatistics routing_statistics(const Model& model, const RoutingSource& source,
                                     std::span<const LayerSums> layers) {
  RoutingStatistics result;
  const auto n_layers = static_cast<double>(layers.size());
  std::vector<std::int64_t> histogram(layers.front().histogram.size(), 0);
  std::int64_t all_at_floor = 0;
  std::int64_t all_at_ceiling = 0;
  double mass = 0.0;
  double bytes = 0.0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerSums& sums = layers[l];
    const int layer = static_cast<int>(l);
    const std::int64_t at_floor = sums.histogram[at(source.floor(layer))];
    const std::int64_t at_ceiling = sums.histogram[at(source.capacity(layer))];

    LayerStatistics statistics;
    statistics.counts = count_statistics(sums.histogram, at_floor, at_ceiling);
    statistics.load = load_statistics(sums.assignments);
    statistics.weight_mass = sums.mass / static_cast<double>(statistics.counts.rows);
    result.load_cv += statistics.load.cv / n_layers;
    result.load_gini += statistics.load.gini / n_layers;

    for (std::size_t k = 0; k < histogram.size(); ++k) histogram[k] += sums.histogram[k];
    all_at_floor += at_floor;
    all_at_ceiling += at_ceiling;
    mass += sums.mass;
    for (std::size_t e = 0; e < sums.assignments.size(); ++e) {
      const ExpertWeights& expert = model.layers()[l].moe.experts[e];
      bytes += static_cast<double>(sums.assignments[e]) *
               static_cast<double>(expert.gate.bytes() + expert.up.bytes() + expert.down.bytes());
    }
    result.layers.push_back(std::move(statistics));
  }
  result.counts = count_statistics(std::move(histogram), all_at_floor, all_at_ceiling);
  result.weight_mass = mass / static_cast<double>(result.counts.rows);
  result.expert_bytes_per_token = bytes / static_cast<double>(result.layers.front().counts.rows);
  return result;
}

}  // namespace olmoe
