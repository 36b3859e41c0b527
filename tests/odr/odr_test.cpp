#include <doctest/doctest.h>

#include <vector>

#include "../oracle.hpp"
#include "../support.hpp"
#include "routes.hpp"

TEST_CASE("translation units with other flags can be linked, and route alike") {
  test::Random random(131);
  const int experts = 48;
  std::vector<float> logits;
  for (int i = 0; i < 400 * experts; ++i) logits.push_back(2.0F * random.normal());
  const Routes plain = routes_plain(logits, experts);
  REQUIRE(plain.counts.size() == 5 * 400);
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    MESSAGE("linked, but this machine cannot run AVX2");
    return;
  }
  const Routes avx2 = routes_avx2(logits, experts);
  CHECK(avx2.scores == plain.scores);
  CHECK(avx2.p == plain.p);
  CHECK(avx2.experts == plain.experts);
  CHECK(avx2.counts == plain.counts);
  REQUIRE(avx2.weights.size() == plain.weights.size());
  int far = 0;
  for (std::size_t i = 0; i < plain.weights.size(); ++i)
    far += static_cast<int>(oracle::ulps_between(avx2.weights[i], plain.weights[i]) > 4);
  CHECK(far == 0);
}
