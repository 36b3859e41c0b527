#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/detail/policy_arguments.hpp"
#include "fdroute/detail/text.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"

namespace fdroute::inline v0 {

namespace detail {

// Reads one policy for a router on Arch. What it reads it also writes to `canonical_`, so the two
// cannot drift apart.
template <class Arch>
class PolicyParser {
 public:
  PolicyParser(std::string_view text, int experts, const TabulatedNull* table,
               SoftmaxWeights weights)
      : arguments_(text), experts_(experts), table_(table), weights_(weights) {}

  AnyRouter parse() {
    const std::string_view name = arguments_.name();
    if (name == "topk") return without_null(TopK{number("k", 8)});
    if (name == "top_p") return without_null(TopP{number("p", 0.9)});
    if (name == "relative") return without_null(RelativeThreshold{number("t", 0.1)});
    if (name == "threshold") return without_null(AbsoluteThreshold{number("t", 0.05)});
    if (name == "bh") return with_null(BenjaminiHochberg{number("alpha", 0.05)});
    arguments_.fail(0, "unknown policy '" + std::string(name) +
                           "'; accepted are topk, top_p, relative, threshold, bh");
  }

 private:
  using AnyScore = std::variant<Logit, LogSoftmax, ZScore>;
  using AnyNull = std::variant<TabulatedNull, NormalNull>;

  template <NullFreeRule R>
  AnyRouter without_null(R rule) {
    const ExpertBounds bounds = read_bounds();
    const SoftmaxWeights weights = read_weights();
    arguments_.finish();
    return finish(Router(experts_, rule, weights, bounds));
  }

  template <class R>
  AnyRouter with_null(R rule) {
    const ExpertBounds bounds = read_bounds();
    const bool normal = choice("null", {"tabulated", "normal"}, "tabulated") == "normal";
    if (!normal && table_ == nullptr) {
      throw std::invalid_argument("policy '" + std::string(arguments_.text()) +
                                  "' needs a null distribution: give a fitted one, or null=normal");
    }
    const AnyScore score =
        read_score(normal ? ZScore::name : std::string_view(table_->fitted_on()));
    const AnyNull null =
        normal ? AnyNull{NormalNull{number("mean", 0.0), number("sd", 1.0)}} : AnyNull{*table_};
    const SoftmaxWeights weights = read_weights();
    arguments_.finish();
    return std::visit(
        [&](const auto& s, const auto& n) {
          return finish(Router(experts_, rule, s, n, weights, bounds));
        },
        score, null);
  }

  ExpertBounds read_bounds() {
    const int min_k = number("min_k", 1);
    return {min_k, number("max_k", experts_)};
  }

  SoftmaxWeights read_weights() {
    const double temperature = number("temperature", weights_.temperature);
    const bool renormalize =
        choice("renormalize", {"false", "true"}, weights_.renormalize ? "true" : "false") == "true";
    return {temperature, renormalize};
  }

  AnyScore read_score(std::string_view otherwise) {
    const std::string_view name =
        choice("score", {Logit::name, LogSoftmax::name, ZScore::name}, otherwise);
    if (name == Logit::name) return Logit{};
    if (name == LogSoftmax::name) return LogSoftmax{};
    if (name == ZScore::name) return ZScore{};
    throw std::invalid_argument("policy '" + std::string(arguments_.text()) +
                                "': the null distribution was fitted on score '" +
                                std::string(name) + "', which no policy string can name");
  }

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

  void write(std::string_view key, std::string_view value) {
    canonical_.append(canonical_.empty() ? ":" : ",").append(key).append("=").append(value);
  }

  template <class AnyPolicy>
  AnyRouter finish(AnyPolicy router) const {
    return {std::move(router), std::string(arguments_.name()) + canonical_, Arch{}};
  }

  PolicyArguments arguments_;
  int experts_;
  const TabulatedNull* table_;
  SoftmaxWeights weights_;
  std::string canonical_;
};

template <class Arch>
AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull* table,
                       SoftmaxWeights weights) {
  try {
    return PolicyParser<Arch>(policy, experts, table, weights).parse();
  } catch (const NullMismatch&) {
    throw;
  } catch (const std::invalid_argument& error) {
    const std::string fact = error.what();
    if (fact.starts_with("policy '")) throw;
    throw std::invalid_argument("policy '" + std::string(policy) + "': " + fact);
  }
}

}  // namespace detail

/// Makes a router over `experts` experts from a policy string, `name[:key=value{,key=value}]`:
///
///     topk       k=8
///     top_p      p=0.9
///     relative   t=0.1
///     threshold  t=0.05
///     bh         alpha=0.05  null=tabulated|normal  score=logit|log_softmax|zscore
///                mean=0  sd=1   (with null=normal)
///     all        min_k=1  max_k=experts  temperature  renormalize=true|false
///
/// What the string leaves out takes the value shown; temperature and renormalize take those of
/// `weights`, a model's own convention. A score left out is the one that the null was fitted on, or
/// zscore with null=normal. Without a table, a policy that needs one must say null=normal.
///
/// Throws std::invalid_argument. A malformed string is quoted with the position of the fault and
/// what is accepted there, a value out of range with the policy's own message. A null fitted on
/// another score is a NullMismatch.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, SoftmaxWeights weights = {}) {
  return detail::parse_router<Arch>(policy, experts, nullptr, weights);
}

/// The same with a fitted null distribution at hand, used unless the string says null=normal.
template <class Arch = DefaultArch>
AnyRouter parse_router(std::string_view policy, int experts, const TabulatedNull& null,
                       SoftmaxWeights weights = {}) {
  return detail::parse_router<Arch>(policy, experts, &null, weights);
}

}  // namespace fdroute::inline v0
