// Under another rounding mode than to nearest results may differ, as docs/numerics.md says; but ids
// stay unique and in range, weights are numbers, and neither moves far.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "library/parse_once.hpp"
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

}  // namespace

TEST_CASE("Under every rounding mode a routing is sound, and near that of rounding to nearest") {
  constexpr int experts = 64;
  test::Random random(17);
  const test::Batch batch = test::batch_of_every_kind(experts, 40, random);
  for (const char* const policy :
       {"topk:k=8", "bh:alpha=0.2,null=normal,score=zscore",
        "bh:alpha=0.2,null=normal,score=log_softmax,mean=-5,sd=1", "hc:null=logistic,score=logit",
        "top_p:p=0.8,renormalize=true", "topk:k=4,ranking=sigmoid,weights=sigmoid"}) {
    CAPTURE(policy);
    const fdroute::AnyRouter router = fdroute::parse_router(policy, experts);
    const test::Padded<> nearest = test::routed(router, batch.view());
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      CAPTURE(mode);
      const Rounding rounding(mode);
      const test::Padded<> other = test::routed(router, batch.view());
      const test::Padded<> made_so =
          test::routed(fdroute::parse_router(policy, experts), batch.view());
      CHECK(other.guards_intact());
      check_sound(other, experts);
      check_sound(made_so, experts);
      std::ptrdiff_t moved = 0;
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        moved += other.counts[t] != nearest.counts[t] ? 1 : 0;
        const int common = std::min(other.counts[t], nearest.counts[t]);
        for (int i = 0; i < common; ++i) {
          const std::ptrdiff_t place = t * other.capacity + i;
          REQUIRE(other.experts[place] == nearest.experts[place]);
          if (other.counts[t] == nearest.counts[t])
            REQUIRE(other.weights[place] == doctest::Approx(nearest.weights[place]).epsilon(1e-4));
        }
      }
      CHECK(moved * 100 <= batch.tokens());
    }
  }
}
