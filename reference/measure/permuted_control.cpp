#include "measure/permuted_control.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "measure/at.hpp"
#include "measure/shuffle.hpp"

namespace olmoe {
namespace {

struct CountSums {
  double rows = 0.0;
  double counts = 0.0;
  double squares = 0.0;

  void add(const fdroute::AnyRouter& router, const LayerLogits& logits) {
    rows += static_cast<double>(logits.tokens());
    for (const std::int32_t count : select_experts(router, logits).counts) {
      counts += count;
      squares += static_cast<double>(count) * count;
    }
  }

  CountMoments moments() const {
    const double mean = counts / rows;
    return {mean, std::sqrt(std::max(squares / rows - mean * mean, 0.0))};
  }
};

}  // namespace

PermutedControl permuted_control(std::span<const fdroute::AnyRouter> routers,
                                 const RouterLogits& logits, std::uint64_t seed) {
  Shuffle shuffle(seed);
  CountSums recorded;
  CountSums permuted;
  for (std::size_t l = 0; l < routers.size(); ++l) {
    const LayerLogits& layer = logits[l];
    const auto experts = static_cast<std::size_t>(layer.experts);
    recorded.add(routers[l], layer);
    LayerLogits mixed{.values = layer.values, .counts = {}, .experts = layer.experts};
    std::vector<float> column(at(layer.tokens()));
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t t = 0; t < column.size(); ++t) column[t] = layer.values[t * experts + e];
      shuffle(column);
      for (std::size_t t = 0; t < column.size(); ++t) mixed.values[t * experts + e] = column[t];
    }
    permuted.add(routers[l], mixed);
  }
  return {recorded.moments(), permuted.moments()};
}

}  // namespace olmoe
