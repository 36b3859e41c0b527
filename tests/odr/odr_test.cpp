#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "library/oracle.hpp"
#include "library/support.hpp"
#include "routes.hpp"

namespace {

void check_alike(const Routes& a, const Routes& b) {
  CHECK(a.scores == b.scores);
  CHECK(a.p == b.p);
  CHECK(a.experts == b.experts);
  CHECK(a.counts == b.counts);
  REQUIRE(a.weights.size() == b.weights.size());
  int far = 0;
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    far += static_cast<int>(oracle::ulps_between(a.weights[i], b.weights[i]) > 4);
  CHECK(far == 0);
}

}  // namespace

TEST_CASE("translation units with other flags can be linked, and route alike") {
  struct Rows {
    int experts;
    std::vector<float> logits;
  };
  std::vector<Rows> all{{48, {}}, {6, {}}};
  test::Random random(131);
  for (int i = 0; i < 400 * 48; ++i) all[0].logits.push_back(2.0F * random.normal());
  // One row in 10^9 has deviations of which the squares' sum, fused and not, makes two floats.
  all[1].logits = {1.19921875F,    -1.19921875F,  1.5625F,        -1.5625F,      0.0146179199F,
                   0.00357047678F, 1.26171875F,   -1.26171875F,   3.4296875F,    -3.4296875F,
                   0.00918579102F, 0.0022186446F, 3.48046875F,    -3.48046875F,  1.09765625F,
                   -1.09765625F,   0.0025177002F, 0.00151554844F, 2.13671875F,   -2.13671875F,
                   0.69140625F,    -0.69140625F,  0.00918579102F, 0.00296399649F};
  for (const Rows& rows : all) {
    const Routes plain = routes_plain(rows.logits, rows.experts);
    REQUIRE(plain.counts.size() == 5 * rows.logits.size() / static_cast<std::size_t>(rows.experts));
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
      MESSAGE("linked, but this machine cannot run AVX2");
      continue;
    }
    check_alike(routes_avx2(rows.logits, rows.experts), plain);
    check_alike(routes_avx2_alone(rows.logits, rows.experts), plain);
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")) {
      MESSAGE("linked, but this machine cannot run AVX-512");
      continue;
    }
    check_alike(routes_avx512(rows.logits, rows.experts), plain);
  }
}
