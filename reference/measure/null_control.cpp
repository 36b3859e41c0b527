#include "measure/null_control.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numbers>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "routing/canonical_policy.hpp"
#include "routing/parse_once.hpp"

namespace olmoe {
namespace {

struct NoiseSums {
  double counts = 0.0;
  double squares = 0.0;
  double rejecting = 0.0;
};

/// Rows of independent standard normal numbers, by Box and Muller: the standard's own distribution
/// differs between libraries.
std::vector<float> normal_rows(std::size_t size) {
  std::mt19937_64 random(1);
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  std::vector<float> rows(size + size % 2);
  for (std::size_t i = 0; i < rows.size(); i += 2) {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    const double angle = 2.0 * std::numbers::pi * uniform();
    rows[i] = static_cast<float>(radius * std::cos(angle));
    rows[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return rows;
}

constexpr std::ptrdiff_t n_rows = 20'000;

/// The policy's rule and bounds, without the model's ranking and weights that it is put between.
CanonicalPolicy rule_of(const std::string& policy) {
  // A rule that takes the place of a preset's own is written last, with its settings.
  constexpr std::string_view key = "rule=";
  std::string text = policy;
  if (CanonicalPolicy(policy).arguments.contains("rule")) {
    text.erase(0, text.rfind(key) + key.size());
    text[text.find(',')] = ':';
  }
  CanonicalPolicy rule(text);
  for (const char* other : {"ranking", "selection_bias", "groups", "kept", "group_score", "masked",
                            "ties", "weights", "epsilon", "factor", "prior"})
    rule.arguments.erase(other);
  return rule;
}

NoiseSums count_on(const std::vector<float>& rows, CanonicalPolicy policy, int min_k, int experts) {
  // To see where the rule rejects nothing; the bound is applied below.
  policy.arguments["min_k"] = "0";
  policy.arguments["null"] = "normal";
  for (const char* of_logistic : {"location", "scale"}) policy.arguments.erase(of_logistic);
  policy.arguments["score"] = "logit";
  policy.arguments["mean"] = "0";
  policy.arguments["sd"] = "1";
  const fdroute::AnyRouter router = fdroute::parse_router(policy.text(), experts);

  const auto capacity = static_cast<std::size_t>(router.capacity());
  std::vector<std::int32_t> chosen(static_cast<std::size_t>(n_rows) * capacity);
  std::vector<float> weights(chosen.size());
  std::vector<std::int32_t> counts(static_cast<std::size_t>(n_rows));
  router.route(
      fdroute::LogitsView<float>(rows.data(), n_rows, experts),
      fdroute::RoutingView<>{chosen.data(), weights.data(), counts.data(), router.capacity()});
  NoiseSums sums;
  for (const std::int32_t count : counts) {
    const double bounded = std::max(count, min_k);
    sums.counts += bounded;
    sums.squares += bounded * bounded;
    sums.rejecting += count > 0 ? 1.0 : 0.0;
  }
  return sums;
}

}  // namespace

std::optional<NoiseCounts> null_control(std::span<const fdroute::AnyRouter> routers) {
  const int experts = routers.front().experts();
  const auto rows = normal_rows(static_cast<std::size_t>(n_rows * experts));
  std::map<std::string, NoiseSums> known;  // layers mostly share one policy
  NoiseSums all;
  for (const fdroute::AnyRouter& router : routers) {
    const CanonicalPolicy policy = rule_of(router.policy());
    if (!policy.arguments.contains("null")) return std::nullopt;
    const auto [found, fresh] = known.try_emplace(router.policy());
    if (fresh) found->second = count_on(rows, policy, router.bounds().min_k, experts);
    all.counts += found->second.counts;
    all.squares += found->second.squares;
    all.rejecting += found->second.rejecting;
  }
  const auto n = static_cast<double>(n_rows) * static_cast<double>(routers.size());
  const double mean = all.counts / n;
  return NoiseCounts{mean, std::sqrt(std::max(all.squares / n - mean * mean, 0.0)),
                     all.rejecting / n};
}

}  // namespace olmoe
