// A rule, a score, a null distribution and weights as docs/ says to write them, and the rule as a
// policy that strings can name.

#include "own_policies.hpp"

#include <algorithm>
#include <cmath>
#include <fdroute/fdroute.hpp>
#include <limits>
#include <span>
#include <string_view>

namespace {

struct FirstFew {
  static constexpr bool step_down = true;
  double level = 0.1;

  double critical_value(int k, int experts) const noexcept { return level * k / (2.0 * experts); }
  int operator()(std::span<const double> sorted_p) const noexcept {
    int count = 0;
    const int m = static_cast<int>(sorted_p.size());
    for (const double p : sorted_p) {
      if (!(p <= critical_value(count + 1, m))) break;
      ++count;
    }
    return count;
  }
};

struct BelowLargest {
  static constexpr std::string_view name = "below_largest";

  fdroute::ScoreMap operator()(std::span<const float> logits) const noexcept {
    float largest = std::numeric_limits<float>::lowest();
    for (const float x : logits) {
      if (std::isfinite(x)) largest = std::max(largest, x);
    }
    return {.shift = largest, .scale = 1.0F};
  }
};

struct ExponentialNull {
  double start = -4.0;

  double operator()(double score) const noexcept {
    return score > start ? std::exp(start - score) : 1.0;
  }
  std::string_view fitted_on() const noexcept { return "below_largest"; }
};

struct EqualShares {
  void operator()(std::span<const float>, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    std::fill(weights.begin(), weights.end(), 1.0F / static_cast<float>(experts.size()));
  }
};

const fdroute::PolicyMaker<> registry[] = {
    {"first_few", [](auto& s) { return s.route_by(FirstFew{s.number("level", 0.1)}); }},
    {"equal_shares", [](auto& s) {
       const fdroute::TopK rule{s.number("k", 2)};
       return s.finish(fdroute::Router(s.experts(), rule, EqualShares{}, s.bounds()));
     }}};

}  // namespace

int own_policies(const float* logits) {
  const fdroute::Router router(8, FirstFew{.level = 0.8}, BelowLargest{}, ExponentialNull{},
                               EqualShares{});
  std::int32_t experts[8], count = 0;
  float weights[8];
  router.route(fdroute::LogitsView{logits, 1, 8},
               fdroute::RoutingView{experts, weights, &count, 8});
  return weights[0] * static_cast<float>(count) == 1.0F ? count : -1;
}

fdroute::AnyRouter parse_own(std::string_view policy) {
  return fdroute::parse_router(policy, 8, fdroute::ParseOptions<>{.makers = registry});
}
