#include "routing.hpp"

#include <cstdint>
#include <fdroute/parse.hpp>
#include <numeric>

#include "error.hpp"
#include "nulls.hpp"

namespace olmoe {

std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             const std::filesystem::path& nulls) {
  const fdroute::SoftmaxWeights weights{.renormalize = config.norm_topk_prob};
  const std::string text =
      policy == native_policy ? "topk:k=" + std::to_string(config.num_experts_per_tok) : policy;
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  if (nulls.empty()) {
    return std::vector<fdroute::AnyRouter>(
        layers, fdroute::parse_router(text, config.num_experts, weights));
  }

  std::vector<fdroute::AnyRouter> routers;
  for (const fdroute::TabulatedNull& null : load_nulls(nulls, config.num_hidden_layers)) {
    try {
      routers.push_back(fdroute::parse_router(text, config.num_experts, null, weights));
    } catch (const fdroute::NullMismatch& error) {
      throw Error(nulls.string() + ": " + error.what());
    }
  }
  return routers;
}

void ExpertCounter::add(const std::vector<std::int32_t>& counts) {
  experts_ = std::accumulate(counts.begin(), counts.end(), experts_);
  rows_ += static_cast<std::int64_t>(counts.size());
}

}  // namespace olmoe
