// What a policy must be, one requirement at a time: POLICY has the flaw FDROUTE_FAIL.
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include "fdroute/router.hpp"

enum Flaw { none, not_copyable, no_member, no_call, not_const, wrong_result, may_throw, ambiguous };
enum Policy { rule, logit_rule, null, score, weights, ranking, execution };

constexpr Flaw flaw_of(Policy policy) {
#ifdef FDROUTE_FAIL
  return policy == POLICY ? FDROUTE_FAIL : none;
#else
  return policy == POLICY ? none : none;
#endif
}

template <Flaw flaw, class Result, class... Args>
struct Callable {
  static constexpr bool good = flaw == none || flaw == not_copyable || flaw == no_member;
  std::conditional_t<flaw == not_copyable, std::unique_ptr<int>, int> value{};

  Result operator()(Args...) const noexcept requires(good) { return Result(); }
  Result operator()(Args...) noexcept requires(flaw == not_const) { return Result(); }
  const char* operator()(Args...) const noexcept requires(flaw == wrong_result) { return nullptr; }
  Result operator()(Args...) const requires(flaw == may_throw) { return Result(); }
};

using Logits = std::span<const float>;

struct MyRule : Callable<flaw_of(rule), int, std::span<const double>> {};
struct MyRuleOfBoth {
  int operator()(std::span<const double>) const noexcept { return 1; }
  int operator()(Logits) const noexcept { return 1; }
};
struct MyLogitRule : Callable<flaw_of(logit_rule), int, Logits> {};
struct MyNull : Callable<flaw_of(null), double, double> {};
struct Name {
  static constexpr std::string_view name = "my_score";
};
struct Nothing {};
struct MyScore : Callable<flaw_of(score), fdroute::ScoreMap, Logits>,
                 std::conditional_t<flaw_of(score) == no_member, Nothing, Name> {};
struct MyWeights
    : Callable<flaw_of(weights), void, Logits, std::span<const std::int32_t>, std::span<float>> {};
struct Ties {
  fdroute::TieOrder ties = fdroute::TieOrder::lowest_index;
};
struct MyRanking : Callable<flaw_of(ranking), void, Logits, std::span<float>>,
                   std::conditional_t<flaw_of(ranking) == no_member, Nothing, Ties> {};

template <Flaw flaw>
struct MyExecution {
  template <class Body>
  fdroute::TokenStatus for_each(std::ptrdiff_t, const Body&) const noexcept requires(flaw == none) {
    return {};
  }
  template <class Body>
  fdroute::TokenStatus for_each(std::ptrdiff_t, const Body&) noexcept requires(flaw == not_const) {
    return {};
  }
  template <class Body>
  void for_each(std::ptrdiff_t, const Body&) const noexcept requires(flaw == wrong_result) {}
  template <class Body>
  fdroute::TokenStatus for_each(std::ptrdiff_t, const Body&) const requires(flaw == may_throw) {
    return {};
  }
};

int main() {
  const float logits[4] = {};
  float out[4];
  const fdroute::LogitsView view(logits, 1, 4);
  const fdroute::DenseView dense{out, 4};
  using Rule = std::conditional_t<flaw_of(rule) == ambiguous, MyRuleOfBoth, MyRule>;
  const fdroute::Router by_p(4, Rule{}, MyScore{}, MyNull{}, MyWeights{}, fdroute::ExpertBounds{},
                             MyRanking{});
  const fdroute::Router by_logits(4, MyLogitRule{}, MyWeights{});
#ifdef FDROUTE_FAIL
  if constexpr (POLICY == execution)
#endif
  {
    by_logits.route(MyExecution<flaw_of(execution)>{}, view, dense);
  }
}
