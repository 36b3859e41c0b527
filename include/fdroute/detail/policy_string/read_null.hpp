#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/any_policy.hpp"
#include "fdroute/null/conformal.hpp"
#include "fdroute/null/logistic.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/null/weighted.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/robust_zscore.hpp"
#include "fdroute/score/zscore.hpp"

// What a policy string says of the null distribution and the score. Settings is a PolicySettings.

namespace fdroute::inline v0::detail {

/// Every null distribution that strings can name.
inline constexpr std::array<std::string_view, 5> null_names{"tabulated", "normal", "logistic",
                                                            "conformal", "per_expert"};

/// Every score that strings can name.
inline constexpr std::array named_scores{any_score<Logit>(), any_score<LogSoftmax>(),
                                         any_score<ZScore>(), any_score<RobustZScore>()};

struct NullAndScore {
  AnyScore score{};
  AnyNull null{};
};

/// The null that the string names, or the first that is given.
template <class Settings>
[[gnu::cold]] std::string_view read_null_name(Settings& s) {
  const auto& given = s.options();
  std::string_view otherwise = "tabulated";
  if (given.null == nullptr) {
    if (given.conformal != nullptr)
      otherwise = "conformal";
    else if (!given.expert_nulls.empty())
      otherwise = "per_expert";
  }
  return s.choice("null", {null_names.begin(), null_names.end()}, otherwise);
}

/// Takes a null of this name from what is given, and returns the score that it was fitted on;
/// ZScore, with a null of a formula.
template <class Settings>
[[gnu::cold]] std::string take_given_null(const Settings& s, std::string_view name,
                                          NullAndScore& read) {
  const auto& given = s.options();
  if (name == "tabulated") {
    if (given.null == nullptr) s.lacks("a null distribution: give a fitted one, or null=normal");
    read.null = any_null(*given.null, given.null->fitted_on());
  } else if (name == "conformal") {
    if (given.conformal == nullptr)
      s.lacks("a calibration sample: give a ConformalNull, or null=normal");
    read.null = any_null(*given.conformal, given.conformal->fitted_on());
  } else if (name == "per_expert") {
    if (given.expert_nulls.empty())
      s.lacks("null distributions for every expert: give one for each, or null=normal");
    const PerExpertNull<TabulatedNull> nulls{{given.expert_nulls.begin(),  //
                                              given.expert_nulls.end()}};
    nulls.validate(s.experts());
    read.null = any_null(nulls, nulls.fitted_on());
  } else {
    return std::string(ZScore::name);
  }
  return read.null.score;
}

template <class Settings>
[[gnu::cold]] AnyScore read_score(Settings& s, std::string_view otherwise) {
  s.refuse_value("score", "rank",
                 "ranks within a token are 1 .. m whatever its logits are, so their p-values are "
                 "k/m and every token would get the same number of experts");
  std::vector<std::string_view> accepted;
  for (const AnyScore& score : named_scores) accepted.push_back(score.name);
  const std::string_view name = s.choice("score", accepted, otherwise);
  for (const AnyScore& score : named_scores) {
    if (score.name == name) return score;
  }
  s.refuse("null", "the null distribution was fitted on score " + quote(name) +
                       ", which no policy string can name");
}

/// Takes a null of a formula from its numbers, if it is one of this name.
template <class Settings>
[[gnu::cold]] void read_numbers(Settings& s, std::string_view name, NullAndScore& read) {
  const auto take = [&](const auto& null) {
    null.validate();
    read.null = any_null(null, read.score.name);
  };
  if (name == "normal") {
    NormalNull null{};
    null.mean = s.number("mean", null.mean);
    null.sd = s.number("sd", null.sd);
    take(null);
  } else if (name == "logistic") {
    LogisticNull null{};
    null.location = s.number("location", null.location);
    null.scale = s.number("scale", null.scale);
    take(null);
  }
}

/// `prior`: whether p-values are divided by the prior weights that are given; `given`, if any are.
template <class Settings>
[[gnu::cold]] bool read_prior(Settings& s) {
  if (!s.options().prior.empty()) return s.choice("prior", {"given", "none"}, "given") == "given";
  static constexpr std::array<std::string_view, 2> accepted{"none", "given"};
  if (s.option("prior", accepted) == "given")
    s.lacks("prior weights: give one per expert, or prior=none");
  return false;
}

/// `null`, `score`, the numbers of the null, and `prior`.
template <class Settings>
[[gnu::cold]] NullAndScore read_null(Settings& s) {
  NullAndScore read;
  const std::string_view name = read_null_name(s);
  const std::string fitted_on = take_given_null(s, name, read);
  read.score = read_score(s, fitted_on);
  read_numbers(s, name, read);
  if (read_prior(s)) {
    if (read.null.per_expert)
      s.refuse("prior", "null=per_expert takes no prior weights: say prior=none");
    const auto& prior = s.options().prior;
    const WeightedNull weighted{read.null, {prior.begin(), prior.end()}};
    weighted.validate(s.experts());
    read.null = any_null(weighted, read.null.score);
  }
  return read;
}

}  // namespace fdroute::inline v0::detail
