// Under another rounding mode than to nearest results may differ, as docs/numerics.md says; but ids
// stay unique and in range, weights are numbers, and neither moves far.

#include <doctest/doctest.h>

#include <cfenv>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>

#include "fdroute/compile_once.hpp"
#include "library/support.hpp"

namespace {

/// Sets a rounding mode as long as it lives.
class Rounding {
 public:
  explicit Rounding(int mode) : before_(std::fegetround()) { REQUIRE(std::fesetround(mode) == 0); }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;
  ~Rounding() { std::fesetround(before_); }

 private:
  int before_;
};

void check_sound(const test::Padded<>& out, int experts) {
  for (std::ptrdiff_t t = 0; t < out.tokens; ++t) {
    std::set<std::int32_t> ids;
    for (int i = 0; i < out.counts[t]; ++i) {
      const std::int32_t id = out.experts[t * out.capacity + i];
      REQUIRE(id >= 0);
      REQUIRE(id < experts);
      REQUIRE(ids.insert(id).second);
      REQUIRE(!std::isnan(out.weights[t * out.capacity + i]));
    }
  }
}

/// Whether a token has the same experts, and weights within a relative 1e-4.
bool is_near(const test::Padded<>& a, const test::Padded<>& b, std::ptrdiff_t token) {
  if (a.counts[token] != b.counts[token]) return false;
  for (int i = 0; i < a.counts[token]; ++i) {
    const std::ptrdiff_t place = token * a.capacity + i;
    if (a.experts[place] != b.experts[place]) return false;
    if (!(std::abs(a.weights[place] - b.weights[place]) <= 1e-4F * b.weights[place])) return false;
  }
  return true;
}

}  // namespace

TEST_CASE(
    "Under every rounding mode a routing is sound, and of ordinary rows nearly always the usual "
    "one") {
  constexpr int experts = 64;
  test::Random random(17);
  const test::Batch odd = test::batch_of_every_kind(experts, 40, random);
  test::Batch ordinary{experts};
  for (int t = 0; t < 400; ++t) ordinary.add(test::random_row(test::Rows::random, experts, random));
  for (const std::string policy :
       {"topk:k=8", "bh:alpha=0.2,null=normal,score=zscore",
        "bh:alpha=0.2,null=normal,score=log_softmax,mean=-5,sd=1", "hc:null=logistic,score=logit",
        "top_p:p=0.8,renormalize=true", "topk:k=4,ranking=sigmoid,weights=sigmoid"}) {
    CAPTURE(policy);
    const fdroute::AnyRouter router = fdroute::parse_router(policy, experts);
    const test::Padded<> usual = test::routed(router, ordinary.view());
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      CAPTURE(mode);
      const Rounding rounding(mode);
      for (const fdroute::AnyRouter& any : {router, fdroute::parse_router(policy, experts)}) {
        check_sound(test::routed(any, odd.view()), experts);
        const test::Padded<> other = test::routed(any, ordinary.view());
        check_sound(other, experts);
        int same = 0;
        for (std::ptrdiff_t t = 0; t < ordinary.tokens(); ++t) same += is_near(other, usual, t);
        CHECK(same >= 396);
      }
    }
  }
}
