#include "measure/solve_policy.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "measure/at.hpp"
#include "routing/routing.hpp"

namespace olmoe {
namespace {

/// Mean count by a router on recorded logits.
double mean_count(const fdroute::AnyRouter& router, const LayerLogits& logits) {
  const auto counts = select_experts(router, logits).counts;
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})) /
         static_cast<double>(counts.size());
}

/// `value` as it stands in a policy string.
std::string value_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::general, 9)
                       .ptr;
  return {buffer.data(), end};
}

/// The place of the open parameter's value.
std::size_t open_place(const std::string& policy) {
  const std::size_t place = policy.find('?');
  if (place == std::string::npos || place == 0 || policy[place - 1] != '=' ||
      policy.find('?', place + 1) != std::string::npos)
    throw std::invalid_argument("policy " + quote(policy) +
                                ": one value, and only one, must be '?', as in bh:alpha=?");
  return place;
}

std::string with_value(const std::string& policy, const std::string& value) {
  std::string text = policy;
  return text.replace(open_place(policy), 1, value);
}

/// Whether the open parameter is a logarithm of a share, as slope's c is: it lies below 0.
bool is_logarithmic(const std::string& policy) {
  const std::size_t place = open_place(policy);
  const std::string setting = place < 3 ? "" : policy.substr(place - 3, 3);
  return setting == ":c=" || setting == ",c=";
}

/// A value that the open parameter can have.
std::string some_value(const std::string& policy) {
  return is_logarithmic(policy) ? "-0.5" : "0.5";
}

/// The routers with some value for the open one, which says whether the rest of the policy parses
/// and whether the open setting takes numbers between 0 and 1 at all.
std::vector<fdroute::AnyRouter> routers_of_try(
    const Config& config, const std::string& policy, std::span<const fdroute::TabulatedNull> nulls,
    std::span<const std::vector<float>> selection_bias = {}) {
  const std::string value = some_value(policy);
  try {
    return make_routers(config, with_value(policy, value), nulls, selection_bias);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument("policy " + quote(policy) +
                                ": '?' stands for a number between 0 and 1, as in bh:alpha=?; "
                                "with " +
                                value + " there: " + error.what());
  }
}

/// The value, as text, for which mean(value text) is `target`. `mean` must be monotone.
template <class Mean>
std::string solve(const Mean& mean, bool logarithmic, double target, const std::string& what) {
  const auto value = [&](double log_odds) {
    const double share = 1.0 / (1.0 + std::exp(-log_odds));
    return value_text(logarithmic ? std::log(share) : share);
  };
  // The log odds at an end of the search, and the mean there. Some values cannot be so near 0 or 1.
  const auto end_near = [&](double log_odds) {
    while (true) {
      try {
        return std::pair(log_odds, mean(value(log_odds)));
      } catch (const std::invalid_argument&) {
        if (std::abs(log_odds) < 0.1) throw;
        log_odds /= 2.0;
      }
    }
  };
  // alpha may have to be 1e-40, top-p's p 0.9999.
  auto [low, at_low] = end_near(-690.0);
  auto [high, at_high] = end_near(20.0);
  const bool increasing = at_low < at_high;
  if (target < std::min(at_low, at_high) || target > std::max(at_low, at_high))
    throw Unreachable(what + " gives means from " + std::to_string(std::min(at_low, at_high)) +
                      " to " + std::to_string(std::max(at_low, at_high)) + " experts, not " +
                      std::to_string(target));
  constexpr double close_enough = 5e-4;
  while (true) {
    const double middle = low + (high - low) / 2.0;
    const std::string text = value(middle);
    const double reached = mean(text);
    // Neighbouring values have the same text well before the interval is empty.
    if (std::abs(reached - target) <= close_enough || high - low < 1e-9) return text;
    ((reached < target) == increasing ? low : high) = middle;
  }
}

}  // namespace

void check_target(const Config& config, const Target& target, std::string_view score) {
  const std::vector<fdroute::TabulatedNull> any(
      at(config.num_hidden_layers),
      fdroute::TabulatedNull::from_log_survival({0.0, 1.0}, {-1.0, -2.0},
                                                {std::string(score), "", 0, 0, 0}));
  for (const fdroute::AnyRouter& router : routers_of_try(config, target.policy, any)) {
    const int min_k = router.bounds().min_k;
    if (target.mean_experts < min_k || target.mean_experts > router.capacity())
      throw std::invalid_argument(
          "policy " + quote(target.policy) + " has bounds from " + std::to_string(min_k) + " to " +
          std::to_string(router.capacity()) + " experts, which exclude a mean of " +
          std::to_string(target.mean_experts));
  }
}

SolvedPolicy solve_policy(const Model& model, const Target& target,
                          std::span<const fdroute::TabulatedNull> nulls,
                          std::span<const Text> texts, const RecordingOptions& options,
                          std::span<const std::vector<float>> selection_bias) {
  const Config& config = model.config();
  const auto routers_of = [&](const std::string& value) {
    return make_routers(config, with_value(target.policy, value), nulls, selection_bias);
  };
  routers_of_try(config, target.policy, nulls, selection_bias);  // found out before the work begins
  const bool logarithmic = is_logarithmic(target.policy);

  constexpr double tolerance = 0.01;
  constexpr int max_runs = 12;
  const auto layers = at(config.num_hidden_layers);
  RouterLogits logits =
      record_logits(model, make_routers(config, native_policy, nulls), texts, options).fit;
  for (int runs = 2; runs <= max_runs; ++runs) {
    std::string value;
    if (target.per_layer) {
      for (std::size_t l = 0; l < layers; ++l) {
        const auto mean = [&](const std::string& v) {
          return mean_count(routers_of(v)[l], logits[l]);
        };
        value += (l == 0 ? "" : "/") +
                 solve(mean, logarithmic, target.mean_experts,
                       "policy " + quote(target.policy) + ", layer " + std::to_string(l));
      }
    } else {
      const auto mean = [&](const std::string& v) {
        const auto routers = routers_of(v);
        double sum = 0.0;
        for (std::size_t l = 0; l < layers; ++l) sum += mean_count(routers[l], logits[l]);
        return sum / static_cast<double>(layers);
      };
      value = solve(mean, logarithmic, target.mean_experts, "policy " + quote(target.policy));
    }

    logits = record_logits(model, routers_of(value), texts, options).fit;
    SolvedPolicy solved{.policy = with_value(target.policy, value),
                        .mean_experts = 0.0,
                        .layer_mean_experts = {},
                        .runs = runs};
    double worst = 0.0;
    for (const LayerLogits& layer : logits) {
      const double mean = static_cast<double>(std::accumulate(
                              layer.counts.begin(), layer.counts.end(), std::int64_t{0})) /
                          static_cast<double>(layer.tokens());
      solved.layer_mean_experts.push_back(mean);
      solved.mean_experts += mean / static_cast<double>(layers);
      worst = std::max(worst, std::abs(mean - target.mean_experts));
    }
    if (!target.per_layer) worst = std::abs(solved.mean_experts - target.mean_experts);
    if (worst <= tolerance) return solved;
  }
  throw Unreachable("policy " + quote(target.policy) + " did not settle at a mean of " +
                    std::to_string(target.mean_experts) + " experts in " +
                    std::to_string(max_runs) + " runs");
}

}  // namespace olmoe
