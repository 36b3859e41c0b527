#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

/// Whether dense weights written over their own logits are those written elsewhere, bit for bit,
/// with rows of `experts` and of `stride` places.
template <class AnyPolicy>
void check_in_place(const AnyPolicy& router, const char* name) {
  const int experts = router.experts();
  for (const std::ptrdiff_t stride : {std::ptrdiff_t{experts}, std::ptrdiff_t{experts} + 7}) {
    CAPTURE(name);
    CAPTURE(stride);
    test::Random random(12);
    test::Batch batch{experts};
    for (int i = 0; i < 40; ++i) batch.add(test::random_row(test::Rows::random, experts, random));
    batch.add(test::batch_of_every_kind(experts, 3, random).logits);
    const std::ptrdiff_t tokens = batch.tokens();
    std::vector<float> logits(test::index(tokens * stride), -3.0F);
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      const std::vector<float> row = batch.row(t);
      std::memcpy(&logits[test::index(t * stride)], row.data(), row.size() * sizeof(float));
    }
    std::vector<float> expected = logits;
    test::Guarded<std::int32_t> counts(tokens);
    test::Guarded<std::int32_t> counts_in_place(tokens);
    const fd::TokenStatus status =
        router.route(fd::LogitsView{logits.data(), tokens, experts, stride},
                     fd::DenseView{expected.data(), stride, counts.data()});
    CHECK(router.route(fd::LogitsView{logits.data(), tokens, experts, stride},
                       fd::DenseView{logits.data(), stride, counts_in_place.data()}) == status);
    CHECK(std::memcmp(logits.data(), expected.data(), expected.size() * sizeof(float)) == 0);
    CHECK(counts_in_place == counts);
  }
}

}  // namespace

TEST_CASE("dense weights may be written over the logits") {
  const fd::NormalNull null;
  for (const int experts : {8, 64, 100, 320}) {
    const fd::ExpertBounds at_most{.min_k = 1, .max_k = 4};
    const fd::SoftmaxWeights warm{.temperature = 2.0};
    check_in_place(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{},
                              fd::NormalNull{-5.0, 1.0}, fd::SoftmaxWeights{}, at_most),
                   "BH, at most 4");
    check_in_place(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, null, warm),
                   "BH, temperature 2");
    check_in_place(fd::Router(experts, fd::HigherCriticism{}, fd::ZScore{}, null), "HC");
    check_in_place(fd::Router(experts, fd::TopK{3}), "top-k");
    check_in_place(fd::Router(experts, fd::TopP{0.6}), "top-p");
    check_in_place(fd::presets::deepseek_v2({experts, 3, 4, 2, 16.0F}), "deepseek-v2");
  }
}
