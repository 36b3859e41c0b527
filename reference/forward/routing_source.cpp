#include "forward/routing_source.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/selection/topk.hpp>
#include <string>

namespace olmoe {

int PolicyRouting::floor(int layer) const {
  return at(layer).bounds().min_k;
}

void PolicyRouting::route(int layer, std::int64_t, fdroute::LogitsView<float> logits,
                          fdroute::RoutingView<std::int32_t> out) const {
  at(layer).route(logits, out);
}

int CountedRouting::capacity(int layer) const {
  return at(layer).empty() ? 0 : *std::max_element(at(layer).begin(), at(layer).end());
}

int CountedRouting::floor(int layer) const {
  return at(layer).empty() ? 0 : *std::min_element(at(layer).begin(), at(layer).end());
}

void CountedRouting::route(int layer, std::int64_t start, fdroute::LogitsView<float> logits,
                           fdroute::RoutingView<std::int32_t> out) const {
  const std::int32_t* counts = at(layer).data() + first_row_ + start;
  for (std::ptrdiff_t token = 0; token < logits.tokens; ++token) {
    const auto row = out.from(token);
    if (counts[token] > 0) {
      topk_[static_cast<std::size_t>(counts[token] - 1)].route(logits.slice(token, 1), row);
      continue;
    }
    std::fill_n(row.experts, row.capacity, -1);
    std::fill_n(row.weights, row.capacity, 0.0F);
    row.counts[0] = 0;
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
