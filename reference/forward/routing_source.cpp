#include "forward/routing_source.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/compile_once.hpp>
#include <fdroute/selection/topk.hpp>
#include <string>

namespace olmoe {

std::int64_t tokens_of(std::span<const Stretch> stretches) {
  std::int64_t rows = 0;
  for (const Stretch& stretch : stretches) rows += stretch.tokens;
  return rows;
}

int PolicyRouting::floor(int layer) const {
  return at(layer).bounds().min_k;
}

void PolicyRouting::route(int layer, std::span<const Stretch>, fdroute::LogitsView<float> logits,
                          fdroute::RoutingView<std::int32_t> out) {
  at(layer).route(logits, out);
}

int CountedRouting::capacity(int layer) const {
  return at(layer).empty() ? 0 : *std::max_element(at(layer).begin(), at(layer).end());
}

int CountedRouting::floor(int layer) const {
  return at(layer).empty() ? 0 : *std::min_element(at(layer).begin(), at(layer).end());
}

void CountedRouting::route(int layer, std::span<const Stretch> stretches,
                           fdroute::LogitsView<float> logits,
                           fdroute::RoutingView<std::int32_t> out) {
  std::ptrdiff_t token = 0;
  for (const Stretch& stretch : stretches) {
    const std::int32_t* counts = at(layer).data() + first_rows_[stretch.sequence] + stretch.start;
    for (const std::int32_t* count = counts; count < counts + stretch.tokens; ++count, ++token) {
      const auto row = out.from(token);
      if (*count > 0) {
        topk_[static_cast<std::size_t>(*count - 1)].route(logits.slice(token, 1), row);
        continue;
      }
      std::fill_n(row.experts, row.capacity, -1);
      std::fill_n(row.weights, row.capacity, 0.0F);
      row.counts[0] = 0;
    }
  }
}

std::vector<fdroute::AnyRouter> topk_routers(int experts, int max_k,
                                             const fdroute::SoftmaxWeights& weights) {
  std::vector<fdroute::AnyRouter> routers;
  for (int k = 1; k <= max_k; ++k)
    routers.emplace_back(fdroute::Router(experts, fdroute::TopK{k}, weights),
                         "topk:k=" + std::to_string(k));
  return routers;
}

}  // namespace olmoe
