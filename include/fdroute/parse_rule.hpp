#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"
#include "fdroute/detail/policy_string/name_errors.hpp"
#include "fdroute/detail/policy_string/table.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/multiple_testing.hpp"
#include "fdroute/selection/critical_statistic.hpp"

namespace fdroute::inline v0 {

/// AnyProcedure: a rule as a multiple-testing procedure on m p-values, chosen at run time. Its
/// functions are those of multiple_testing.hpp for that rule, and throw what those throw; also
/// std::invalid_argument for another number of p-values than m.
class AnyProcedure {
 public:
  /// `rule` is valid for m hypotheses; `text` is what describe() returns.
  template <Rule R>
  AnyProcedure(R rule, int hypotheses, std::string text)
      : text_(std::move(text)), hypotheses_(hypotheses) {
    if constexpr (AdjustingRule<R>) {
      adjust_ = [rule](std::span<const double> p, std::span<double> out) {
        fdroute::adjusted(rule, p, out);
      };
    }
    threshold_ = [rule](std::span<const double> p) { return fdroute::threshold(rule, p); };
    count_ = [rule = std::move(rule)](std::span<const double> p) {
      return fdroute::rejections(rule, p);
    };
  }

  /// The number of hypotheses, m.
  int hypotheses() const noexcept { return hypotheses_; }

  /// The rule with every setting written out; parse_rule() reads it back.
  const std::string& describe() const noexcept { return text_; }

  /// See fdroute::rejections.
  int rejections(std::span<const double> p) const {
    check(p);
    return count_(p);
  }

  /// See fdroute::threshold.
  std::optional<double> threshold(std::span<const double> p) const {
    check(p);
    return threshold_(p);
  }

  /// Whether the rule has adjusted p-values.
  bool adjusts() const noexcept { return static_cast<bool>(adjust_); }

  /// See fdroute::adjusted. Throws std::invalid_argument also unless adjusts().
  void adjusted(std::span<const double> p, std::span<double> out) const {
    check(p);
    if (!adjusts()) detail::refuse(text_, " has no adjusted p-values");
    adjust_(p, out);
  }

 private:
  void check(std::span<const double> p) const {
    if (p.size() != static_cast<std::size_t>(hypotheses_)) {
      detail::refuse("the procedure is one for ", hypotheses_, " p-values, got ", p.size());
    }
  }

  std::function<int(std::span<const double>)> count_;
  std::function<std::optional<double>(std::span<const double>)> threshold_;
  std::function<void(std::span<const double>, std::span<double>)> adjust_{};
  std::string text_;
  int hypotheses_;
};

namespace detail {

/// What the rows of rule_table() read a rule's own settings from, in the place of PolicySettings.
class RuleSettings {
 public:
  RuleSettings(PolicyArguments arguments, int hypotheses)
      : arguments_(std::move(arguments)), hypotheses_(hypotheses) {}

  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    const Number value = arguments_.number(key, otherwise);
    write(key, to_text(value));
    return value;
  }

  std::string_view choice(std::string_view key, const std::vector<std::string_view>& accepted,
                          std::string_view otherwise) {
    const std::string_view value = arguments_.choice(key, accepted, otherwise);
    write(key, value);
    return value;
  }

  template <class R>
  AnyProcedure route_by(R rule) {
    if constexpr (DeviationRule<R>)
      rule.critical = critical_statistic(rule, hypotheses_, number("level", 1.0));
    if constexpr (Rule<R>) {
      arguments_.finish();
      validate_policy(rule, hypotheses_);
      return {std::move(rule), hypotheses_, std::string(arguments_.name()) + written_};
    } else {
      detail::refuse("policy ", Quoted{arguments_.text()}, " reads logits, not p-values");
    }
  }

 private:
  void write(std::string_view key, std::string_view value) {
    written_.append(written_.empty() ? ":" : ",").append(key).append("=").append(value);
  }

  PolicyArguments arguments_;
  int hypotheses_;
  std::string written_{};
};

inline AnyProcedure make_procedure(std::string_view rule, int hypotheses) {
  const PolicyArguments arguments(rule);
  std::optional<AnyProcedure> procedure;
  const auto try_row = [&](const auto& row) {
    if (arguments.is_preset() || row.name != arguments.name()) return false;
    RuleSettings settings(arguments, hypotheses);
    procedure = row.make(settings);
    return true;
  };
  if (!std::apply([&](const auto&... row) { return (try_row(row) || ...); }, rule_table())) {
    static constexpr auto names = names_of(rule_table());
    arguments.fail(arguments.name_position(),
                   "unknown rule " + quote(arguments.name()) +
                       did_you_mean(arguments.name(), names) + "; accepted are " +
                       PolicyArguments::join({names.begin(), names.end()}));
  }
  return *std::move(procedure);
}

}  // namespace detail

/// Makes the procedure for `hypotheses` p-values of a rule's string, a policy string with the
/// rule's own settings alone: "bh:alpha=0.1", "hc:search=0.3,level=0.05".
///
/// Throws std::invalid_argument as parse_router() does, and if the rule reads logits.
inline AnyProcedure parse_rule(std::string_view rule, int hypotheses) {
  return detail::name_errors(rule, [&] { return detail::make_procedure(rule, hypotheses); });
}

}  // namespace fdroute::inline v0
