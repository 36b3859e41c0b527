#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
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
#include "fdroute/detail/policy_string/makers.hpp"
#include "fdroute/detail/policy_string/named_parts.hpp"
#include "fdroute/detail/policy_string/read_null.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/null/conformal.hpp"
#include "fdroute/null/none.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/ties.hpp"
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

/// What a policy string may refer to. Of the null distributions, the first that is given is used
/// unless the string names another.
template <class Arch = DefaultArch>
struct ParseOptions {
  const TabulatedNull* null = nullptr;            ///< `null=tabulated`
  SoftmaxWeights weights{};                       ///< a model's own, for what the string leaves out
  std::span<const float> selection_bias{};        ///< shape (experts), for rankings by one
  std::span<const float> expert_scale{};          ///< shape (experts), for models that have one
  const ConformalNull* conformal = nullptr;       ///< `null=conformal`
  std::span<const TabulatedNull> expert_nulls{};  ///< `null=per_expert`, shape (experts)
  std::span<const double> prior{};                ///< `prior=given`, shape (experts): WeightedNull
  std::span<const PolicyMaker<Arch>> makers{};    ///< policies beside the library's, by new names
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
  /// `rules` are the makers that the key `rule` can name, beside those of the options.
  PolicySettings(detail::PolicyArguments arguments, int experts, const ParseOptions<Arch>& options,
                 std::span<const detail::LibraryMaker<Arch>> rules)
      : arguments_(std::move(arguments)), experts_(experts), options_(options), rules_(rules) {}

  /// The number of experts of the router to make.
  int experts() const noexcept { return experts_; }

  /// A number of the type of `otherwise`: int, float or double.
  template <class Number>
  [[gnu::cold]] Number number(std::string_view key, Number otherwise) {
    const Number value = arguments_.number(key, otherwise);
    write(key, detail::to_text(value));
    return value;
  }

  /// number(), which is not written where it is `otherwise`.
  template <class Number>
  [[gnu::cold]] Number option(std::string_view key,
                              Number otherwise) requires std::is_arithmetic_v<Number> {
    const Number value = arguments_.number(key, otherwise);
    if (value != otherwise) write(key, detail::to_text(value));
    return value;
  }

  /// One of the words in `accepted`, or `otherwise`.
  [[gnu::cold]] std::string_view choice(std::string_view key,
                                        const std::vector<std::string_view>& accepted,
                                        std::string_view otherwise) {
    const std::string_view value = arguments_.choice(key, accepted, otherwise);
    write(key, value);
    return value;
  }

  /// One of the words in `accepted`, the first unless given. The first is not written.
  [[gnu::cold]] std::string_view option(std::string_view key,
                                        std::span<const std::string_view> accepted) {
    const std::string_view value =
        arguments_.choice(key, {accepted.begin(), accepted.end()}, accepted.front());
    if (value != accepted.front()) write(key, value);
    return value;
  }

  /// `true` or `false`.
  [[gnu::cold]] bool flag(std::string_view key, bool otherwise) {
    return choice(key, {"false", "true"}, otherwise ? "true" : "false") == "true";
  }

  /// `min_k` and `max_k`: 1 and all experts unless given.
  [[gnu::cold]] ExpertBounds bounds() {
    const int min_k = number("min_k", 1);
    return {min_k, number("max_k", experts_)};
  }

  /// `ties`: lowest, unless given, or what the ranking has already.
  [[gnu::cold]] TieOrder ties(TieOrder otherwise) {
    if (otherwise == TieOrder::highest_index) {
      const bool highest = choice("ties", {"lowest", "highest"}, "highest") == "highest";
      return highest ? TieOrder::highest_index : TieOrder::lowest_index;
    }
    static constexpr std::array<std::string_view, 2> accepted{"lowest", "highest"};
    return option("ties", accepted) == "lowest" ? TieOrder::lowest_index : TieOrder::highest_index;
  }

  /// What the string may refer to.
  const ParseOptions<Arch>& options() const noexcept { return options_; }

  /// Throws: the policy needs `what`.
  [[noreturn, gnu::cold]] void lacks(const std::string& what) const {
    detail::refuse("policy ", detail::Quoted{arguments_.text()}, " needs ", what);
  }

  /// Throws `reason` if this key is given this value.
  [[gnu::cold]] void refuse_value(std::string_view key, std::string_view value,
                                  const std::string& reason) const {
    arguments_.refuse(key, value, reason);
  }

  /// Throws `reason`, at the value of this key if it is given.
  [[noreturn, gnu::cold]] void refuse(std::string_view key, const std::string& reason) const {
    arguments_.fail_at(key, reason);
  }

  /// Whether the string has the key `rule`: then a rule takes the place of a model's own, whose
  /// number of experts must not be read.
  [[gnu::cold]] bool replaces_rule() { return arguments_.given("rule"); }

  /// `selection_bias`: ParseOptions::selection_bias with `given`, zeros with `none`. Throws if it
  /// is given nowhere.
  [[gnu::cold]] std::vector<float> selection_bias() {
    if (choice("selection_bias", {"given", "none"}, "given") == "none")
      return std::vector<float>(static_cast<std::size_t>(experts_));
    return given_selection_bias();
  }

  /// `expert_scale`: ParseOptions::expert_scale with `given`, ones with `none`. Throws if it is
  /// given nowhere.
  [[gnu::cold]] std::vector<float> expert_scale() {
    if (choice("expert_scale", {"given", "none"}, "given") == "none")
      return std::vector<float>(static_cast<std::size_t>(experts_), 1.0F);
    if (options_.expert_scale.empty())
      lacks("the experts' own factors: give one value per expert, or expert_scale=none");
    return {options_.expert_scale.begin(), options_.expert_scale.end()};
  }

  /// `selection_bias` of a ranking that can do without: empty with `none`, which it is unless
  /// ParseOptions::selection_bias is given.
  [[gnu::cold]] std::vector<float> selection_bias_if_given() {
    const bool has_bias = !options_.selection_bias.empty();
    if (choice("selection_bias", {"none", "given"}, has_bias ? "given" : "none") == "none")
      return {};
    return given_selection_bias();
  }

  /// The router of a rule, with all that strings can say about it. Reads `level` first if the rule
  /// is a DeviationRule, bounds(), then `null` with its numbers, `score` and `prior` if the rule
  /// reads p-values, and `ranking`, `ties` and `weights` with theirs; these three are the model's
  /// where the rule takes the place of a model's own.
  template <class R>
  [[gnu::cold]] AnyRouter route_by(R rule) {
    static_assert(sizeof(detail::RuleRequirements<R>) > 0);
    if constexpr (DeviationRule<R>)
      rule.critical = critical_statistic(rule, experts_, number("level", 1.0));
    detail::validate_policy(rule, experts_);
    return route(detail::any_rule(rule, experts_), !NullFreeRule<R>);
  }

  /// The router of a model: as it is, but for `ties`; or, with `rule`, its ranking and weights with
  /// that rule and all that strings can say about it, but ranking and weights.
  template <class R, class W, class K>
  AnyRouter route_as(const Router<R, Logit, NoNull, W, K>& model) {
    return route_as(model.rule(), model.weights(), model.ranking(), model.bounds());
  }

  /// The router of a model from its parts.
  template <class R, class W, class K>
  [[gnu::cold]] AnyRouter route_as(const R& rule, const W& weights, K ranking,
                                   ExpertBounds within = {}) {
    detail::validate_policy(rule, experts_);
    return route_model(detail::any_rule(rule, experts_), within,
                       read_parts(weights, std::move(ranking)));
  }

  /// A router as it is. Throws if a setting that was given has not been read.
  template <class R, class S, class N, class W, class K>
  AnyRouter finish(Router<R, S, N, W, K> router) const {
    if (model_.has_value()) refuse_as_rule();
    arguments_.finish();
    return made(std::make_shared<const Router<R, S, N, W, K>>(std::move(router)));
  }

 private:
  using Any = Router<detail::AnyRule, detail::AnyScore, detail::AnyNull, detail::AnyWeights,
                     detail::AnyRanking>;

  // What a rule is put between.
  struct Model {
    detail::AnyRanking ranking;
    detail::AnyWeights weights;
  };

  template <class R>
  [[gnu::cold]] AnyRouter made(std::shared_ptr<const R> router) const {
    return {std::move(router), std::string(arguments_.name()) + written_, Arch{}};
  }

  // What a model's policies read, which must be valid.
  template <class W, class K>
  [[gnu::cold, gnu::noinline]] Model read_parts(const W& weights, K ranking) {
    detail::validate_policy(ranking, experts_);
    detail::validate_policy(weights, experts_);
    ranking.ties = ties(ranking.ties);
    return {detail::to_any_ranking(std::move(ranking)), detail::to_any_weights(weights)};
  }

  [[gnu::cold]] AnyRouter made_of(detail::AnyRule rule, detail::NullAndScore of,
                                  ExpertBounds within, Model model) const {
    return made(std::make_shared<const Any>(experts_, std::move(rule), of.score, std::move(of.null),
                                            std::move(model.weights), within,
                                            std::move(model.ranking)));
  }

  [[gnu::cold]] AnyRouter route_model(detail::AnyRule rule, ExpertBounds within, Model parts) {
    if (model_.has_value()) refuse_as_rule();
    if (!replaces_rule()) {
      arguments_.finish();
      return made_of(std::move(rule), {}, within, std::move(parts));
    }
    model_ = std::move(parts);
    const detail::MakerList<Arch> rules{{rules_}, options_.makers};
    std::vector<std::string_view> names;
    rules.append_names(names);
    return rules.make(choice("rule", names, ""), *this);
  }

  [[noreturn, gnu::cold]] void refuse_as_rule() const {
    refuse("rule", "rule names a router that is more than a rule");
  }

  /// The last that is read.
  [[gnu::cold]] Model read_model() {
    Model model;
    if (model_.has_value()) {
      model = *model_;
    } else {
      model.ranking = detail::read_ranking(*this);
      model.weights = detail::read_weights(*this);
    }
    arguments_.finish();
    return model;
  }

  [[gnu::cold]] std::vector<float> given_selection_bias() const {
    if (options_.selection_bias.empty())
      lacks("a selection bias: give one value per expert, or selection_bias=none");
    return {options_.selection_bias.begin(), options_.selection_bias.end()};
  }

  [[gnu::cold]] AnyRouter route(detail::AnyRule rule, bool reads_null) {
    const ExpertBounds within = bounds();
    detail::NullAndScore of;
    if (reads_null) of = detail::read_null(*this);
    return made_of(std::move(rule), std::move(of), within, read_model());
  }

  [[gnu::cold]] void write(std::string_view key, std::string_view value) {
    written_.append(written_.empty() ? ":" : ",").append(key).append("=").append(value);
  }

  detail::PolicyArguments arguments_;
  int experts_;
  ParseOptions<Arch> options_;
  std::span<const detail::LibraryMaker<Arch>> rules_;
  std::optional<Model> model_{};  // of which a rule takes the place of its own
  std::string written_;
};

}  // namespace fdroute::inline v0
