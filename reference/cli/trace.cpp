#include "cli/trace.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <fdroute/detail/number/to_text.hpp>
#include <fdroute/null/logistic.hpp>
#include <fdroute/null/normal.hpp>
#include <fdroute/selection/benjamini_hochberg.hpp>
#include <fdroute/selection/benjamini_yekutieli.hpp>
#include <fdroute/selection/bonferroni.hpp>
#include <fdroute/selection/ebh.hpp>
#include <fdroute/selection/hochberg.hpp>
#include <fdroute/selection/holm.hpp>
#include <fdroute/selection/sidak.hpp>
#include <functional>
#include <string_view>
#include <utility>

#include "measure/null_fit.hpp"
#include "measure/recorded_logits.hpp"
#include "routing/canonical_policy.hpp"
#include "routing/routing.hpp"

namespace olmoe {
namespace {

/// A policy written out in full, and its numbers.
struct Settings : CanonicalPolicy {
  using CanonicalPolicy::CanonicalPolicy;

  bool has(const std::string& key) const { return arguments.contains(key); }

  double number(const std::string& key) const {
    const std::string& text = arguments.at(key);
    double value = 0.0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  }
};

/// What turns a score into a p-value, if the policy's string and `null` hold it.
std::function<double(double)> survival_of(const Settings& settings,
                                          const fdroute::TabulatedNull* null) {
  if (!settings.has("null") || settings.has("prior")) return {};
  const std::string& name = settings.arguments.at("null");
  if (name == "normal") return fdroute::NormalNull{settings.number("mean"), settings.number("sd")};
  if (name == "logistic")
    return fdroute::LogisticNull{settings.number("location"), settings.number("scale")};
  if (name == "tabulated" && null != nullptr) return *null;
  return {};
}

std::vector<double> critical_values(const Settings& settings, int experts) {
  const auto values_of = [&](const auto& rule) {
    std::vector<double> values;
    for (int k = 1; k <= experts; ++k) values.push_back(rule.critical_value(k, experts));
    return values;
  };
  if (!settings.has("alpha")) return {};
  const double alpha = settings.number("alpha");
  if (settings.name == "bh") return values_of(fdroute::BenjaminiHochberg{alpha});
  if (settings.name == "by") return values_of(fdroute::BenjaminiYekutieli{alpha});
  if (settings.name == "bonferroni") return values_of(fdroute::Bonferroni{alpha});
  if (settings.name == "sidak") return values_of(fdroute::Sidak{alpha});
  if (settings.name == "holm") return values_of(fdroute::Holm{alpha});
  if (settings.name == "hochberg") return values_of(fdroute::Hochberg{alpha});
  if (settings.name == "ebh") return values_of(fdroute::EBH{alpha, settings.number("kappa")});
  return {};
}

TracedLayer traced(ExecutedRouting routing, const fdroute::AnyRouter& router,
                   const fdroute::TabulatedNull* null) {
  TracedLayer layer{.routing = std::move(routing), .p = {}, .critical = {}};
  const Settings settings(router.policy());
  const auto survival = survival_of(settings, null);
  if (!survival) return layer;
  const LayerLogits logits{
      .values = layer.routing.logits, .counts = layer.routing.counts, .experts = router.experts()};
  for (const float score : losing_scores(logits, settings.arguments.at("score"), 0))
    layer.p.push_back(survival(static_cast<double>(score)));
  layer.critical = critical_values(settings, router.experts());
  return layer;
}

}  // namespace

TracedPolicy trace(const Model& model, std::span<const fdroute::AnyRouter> routers,
                   std::span<const fdroute::TabulatedNull> nulls,
                   std::span<const std::int32_t> ids) {
  KvCache cache;
  ForwardTrace run;
  model.forward(ids, cache, routers, Model::LogitsOf::no_token, &run);
  TracedPolicy result{.policy = policy_of(routers), .layers = {}};
  for (std::size_t l = 0; l < routers.size(); ++l)
    result.layers.push_back(
        traced(std::move(run.routing[l]), routers[l], nulls.empty() ? nullptr : &nulls[l]));
  return result;
}

std::string readable(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    const std::size_t length = fdroute::detail::printable_length(bytes);
    if (length > 0) {
      text += bytes.substr(0, length);
    } else if (byte == '\n' || byte == '\t') {
      text += bytes.front();
    } else {
      constexpr std::string_view digits = "0123456789ABCDEF";
      text.append("⟨").append(1, digits[byte >> 4]).append(1, digits[byte & 15]).append("⟩");
    }
    bytes.remove_prefix(length > 0 ? length : 1);
  }
  return text;
}

}  // namespace olmoe
