#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/any_policy.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/null/logistic.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0 {

template <class Arch = DefaultArch>
class PolicySettings;

/// A policy that strings can name: what it is called there, without a colon, and what makes its
/// router. `make` reads the settings one by one and returns what route_by() or finish() returns.
/// `name` must outlive every call of parse_router().
///
///     const fdroute::PolicyMaker<> mine{"mine", [](auto& settings) {
///       return settings.route_by(Mine{.level = settings.number("level", 0.01)});
///     }};
template <class Arch = DefaultArch>
struct PolicyMaker {
  std::string_view name;
  std::function<AnyRouter(PolicySettings<Arch>&)> make;
};

/// What a policy string may refer to.
template <class Arch = DefaultArch>
struct ParseOptions {
  const TabulatedNull* null = nullptr;          ///< fitted; used unless the string names another
  SoftmaxWeights weights{};                     ///< a model's own, for what the string leaves out
  std::span<const float> selection_bias{};      ///< shape (experts), for presets that rank by one
  std::span<const PolicyMaker<Arch>> makers{};  ///< policies beside the library's, by new names
};

/// PolicySettings: the settings of one policy string, as its maker reads them.
///
/// A setting is read by its key and has a value for when the string leaves it out. What is read is
/// also written, in that order, to AnyRouter::policy(); what was not read when the router is made
/// is an unknown key. Each reader throws std::invalid_argument, with the position in the string,
/// for a value that it does not take. Keys must be string literals.
template <class Arch>
class PolicySettings {
 public:
  PolicySettings(detail::PolicyArguments arguments, int experts, const ParseOptions<Arch>& options)
      : arguments_(std::move(arguments)), experts_(experts), options_(options) {}

  /// The number of experts of the router to make.
  int experts() const noexcept { return experts_; }

  /// A number of the type of `otherwise`: int, float or double.
  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    const Number value = arguments_.number(key, otherwise);
    write(key, detail::to_text(value));
    return value;
  }

  /// One of the words in `accepted`, or `otherwise`.
  std::string_view choice(std::string_view key, const std::vector<std::string_view>& accepted,
                          std::string_view otherwise) {
    const std::string_view value = arguments_.choice(key, accepted, otherwise);
    write(key, value);
    return value;
  }

  /// `true` or `false`.
  bool flag(std::string_view key, bool otherwise) {
    return choice(key, {"false", "true"}, otherwise ? "true" : "false") == "true";
  }

  /// `min_k` and `max_k`: 1 and all experts unless given.
  ExpertBounds bounds() {
    const int min_k = number("min_k", 1);
    return {min_k, number("max_k", experts_)};
  }

  /// `temperature` and `renormalize`: those of ParseOptions::weights unless given.
  SoftmaxWeights weights() {
    const double temperature = number("temperature", options_.weights.temperature);
    return {temperature, flag("renormalize", options_.weights.renormalize)};
  }

  /// `selection_bias`: ParseOptions::selection_bias with `given`, zeros with `none`. Throws if it
  /// is given nowhere.
  std::vector<float> selection_bias() {
    if (choice("selection_bias", {"given", "none"}, "given") == "none")
      return std::vector<float>(static_cast<std::size_t>(experts_));
    if (options_.selection_bias.empty()) {
      detail::refuse("policy " + detail::quote(arguments_.text()) +
                     " needs a selection bias: give one value per expert, or selection_bias=none");
    }
    return {options_.selection_bias.begin(), options_.selection_bias.end()};
  }

  /// The router of a rule, with all that strings can say about it. Reads `level` first if the rule
  /// is a DeviationRule, bounds(), then `null` with its numbers and `score` if the rule reads
  /// p-values, and weights().
  template <class R>
  AnyRouter route_by(R rule) {
    static_assert(sizeof(detail::RuleRequirements<R>) > 0);
    if constexpr (DeviationRule<R>)
      rule.critical = critical_statistic(rule, experts_, number("level", 1.0));
    detail::validate_policy(rule, experts_);
    if constexpr (NullFreeRule<R>) {
      const ExpertBounds within = bounds();
      const SoftmaxWeights weigh = weights();
      arguments_.finish();
      return finish(Router(experts_, std::move(rule), weigh, within));
    } else if constexpr (CriticalValueRule<R>) {
      return with_null(detail::any_step_rule(rule, experts_));
    } else {
      return with_null(detail::AnyRule{std::move(rule)});
    }
  }

  /// A router as it is. Throws if a setting that was given has not been read.
  template <class R, class S, class N, class W, class K>
  AnyRouter finish(Router<R, S, N, W, K> router) const {
    arguments_.finish();
    return {std::move(router), std::string(arguments_.name()) + written_, Arch{}};
  }

 private:
  using AnyScore = std::variant<Logit, LogSoftmax, ZScore>;

  template <Rule R>
  AnyRouter with_null(const R& rule) {
    const ExpertBounds within = bounds();
    const std::string_view null_name =
        choice("null", {"tabulated", "normal", "logistic"}, "tabulated");
    const bool tabulated = null_name == "tabulated";
    if (tabulated && options_.null == nullptr) {
      detail::refuse("policy " + detail::quote(arguments_.text()) +
                     " needs a null distribution: give a fitted one, or null=normal");
    }
    const AnyScore score = read_score(tabulated ? options_.null->fitted_on() : ZScore::name);
    const std::string_view score_name = std::visit([](const auto& s) { return s.name; }, score);
    const detail::AnyNull null =
        tabulated ? detail::AnyNull{*options_.null, std::string(options_.null->fitted_on())}
        : null_name == "normal" ? any_null(read_normal(), score_name)
                                : any_null(read_logistic(), score_name);
    const SoftmaxWeights weigh = weights();
    arguments_.finish();
    return std::visit(
        [&](const auto& s) { return finish(Router(experts_, rule, s, null, weigh, within)); },
        score);
  }

  AnyScore read_score(std::string_view otherwise) {
    arguments_.refuse("score", "rank",
                      "ranks within a token are 1 .. m whatever its logits are, so their p-values "
                      "are k/m and every token would get the same number of experts");
    const std::string_view name =
        choice("score", {Logit::name, LogSoftmax::name, ZScore::name}, otherwise);
    if (name == Logit::name) return Logit{};
    if (name == LogSoftmax::name) return LogSoftmax{};
    if (name == ZScore::name) return ZScore{};
    detail::refuse("policy " + detail::quote(arguments_.text()) +
                   ": the null distribution was fitted on score " + detail::quote(name) +
                   ", which no policy string can name");
  }

  NormalNull read_normal() {
    const double mean = number("mean", 0.0);
    return {mean, number("sd", NormalNull{}.sd)};
  }

  LogisticNull read_logistic() {
    const double location = number("location", 0.0);
    return {location, number("scale", LogisticNull{}.scale)};
  }

  template <class N>
  static detail::AnyNull any_null(const N& null, std::string_view score) {
    null.validate();
    return {null, std::string(score)};
  }

  void write(std::string_view key, std::string_view value) {
    written_.append(written_.empty() ? ":" : ",").append(key).append("=").append(value);
  }

  detail::PolicyArguments arguments_;
  int experts_;
  ParseOptions<Arch> options_;
  std::string written_;
};

}  // namespace fdroute::inline v0
