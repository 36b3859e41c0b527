#include "measure/discoveries.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fdroute/compile_once.hpp>
#include <fdroute/null/tabulated.hpp>
#include <vector>

namespace {

/// Logits with the given p-values under p = exp(-s), row after row, of four experts.
olmoe::LayerLogits with_p(const std::vector<double>& p) {
  olmoe::LayerLogits logits{.values = {}, .counts = {}, .experts = 4};
  for (const double value : p) logits.values.push_back(static_cast<float>(-std::log(value)));
  return logits;
}

}  // namespace

TEST_CASE("Discoveries are counted row by row, in whatever order the experts stand") {
  const auto null =
      fdroute::TabulatedNull::from_log_survival({0.0, 1.0}, {0.0, -1.0}, {.score = "logit"});
  const std::vector nulls{null, null};
  const auto top_2 = fdroute::parse_router("topk:k=2", 4);
  const auto top_3 = fdroute::parse_router("topk:k=3", 4);
  // At 0.05: two strong experts are both found among the top 2, one among them if the other is
  // weak, and none if all are; among the top 3 of (.001 .002 .9 .9) there are still two.
  const olmoe::RouterLogits logits{with_p({0.9, 0.001, 0.002, 0.9, 0.5, 0.9, 0.9, 0.001}),
                                   with_p({0.9, 0.001, 0.002, 0.9, 0.5, 0.6, 0.7, 0.8})};
  const auto found = olmoe::check_discoveries(std::vector{top_2, top_3}, nulls, logits, 0.05);
  CHECK(found.selected == doctest::Approx((2 + 2 + 3 + 3) / 4.0));
  CHECK(found.at_least == doctest::Approx((2 + 1 + 2 + 0) / 4.0));
}
