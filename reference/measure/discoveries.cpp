#include "measure/discoveries.hpp"

#include <cstddef>
#include <cstdint>
#include <fdroute/multiple_testing.hpp>
#include <vector>

#include "measure/at.hpp"
#include "measure/null_fit.hpp"
#include "measure/parallel.hpp"

namespace olmoe {

Discoveries check_discoveries(std::span<const fdroute::AnyRouter> routers,
                              std::span<const fdroute::TabulatedNull> nulls,
                              const RouterLogits& logits, double alpha) {
  std::vector<std::int64_t> selected(logits.size(), 0);
  std::vector<std::int64_t> bounds(logits.size(), 0);
  double rows = 0.0;
  for (const LayerLogits& layer : logits) rows += static_cast<double>(layer.tokens());
  parallel_for(static_cast<std::int64_t>(logits.size()), [&](std::int64_t l) {
    const LayerLogits& layer = logits[at(l)];
    const std::size_t experts = at(layer.experts);
    const std::vector<float> scores = losing_scores(layer, nulls[at(l)].fitted_on(), 0);
    const SelectedExperts routed = select_experts(routers[at(l)], layer);
    std::vector<double> p(experts);
    std::vector<std::size_t> chosen;
    for (std::size_t t = 0; t < routed.counts.size(); ++t) {
      for (std::size_t e = 0; e < experts; ++e)
        p[e] = nulls[at(l)](static_cast<double>(scores[t * experts + e]));
      const std::int32_t* const first = routed.experts.data() + t * at(routed.capacity);
      chosen.assign(first, first + routed.counts[t]);
      selected[at(l)] += routed.counts[t];
      bounds[at(l)] += fdroute::true_discoveries(alpha, p, chosen);
    }
  });
  Discoveries mean;
  for (std::size_t l = 0; l < logits.size(); ++l) {
    mean.selected += static_cast<double>(selected[l]) / rows;
    mean.at_least += static_cast<double>(bounds[l]) / rows;
  }
  return mean;
}

}  // namespace olmoe
