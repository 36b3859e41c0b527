#include "measure/equal_cost.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

using olmoe::DocumentLosses;

TEST_CASE("A document's loss is the mean over its windows' tokens, by hand") {
  const std::vector<olmoe::WindowSum> windows{{10, 20.0}, {30, 40.0}, {5, 5.0}};
  CHECK(olmoe::document_losses(windows, std::vector<std::int64_t>{2, 1}) ==
        DocumentLosses{1.5, 1.0});
  CHECK_THROWS_AS(olmoe::document_losses(windows, std::vector<std::int64_t>{2}),
                  std::invalid_argument);
}

TEST_CASE("Equal cost: log perplexity is interpolated between neighbours") {
  olmoe::CostCurve curve;
  curve.add(4.0, {2.0, 3.0});
  curve.add(5.0, {1.5, 2.8});
  curve.add(7.0, {1.0, 2.0});

  CHECK(curve.perplexities().at(4.0) == doctest::Approx(std::exp(2.5)));
  CHECK(curve.at(4.0).value() == DocumentLosses{2.0, 3.0});
  CHECK(curve.at(4.5).value()[0] == doctest::Approx(1.75));
  CHECK(curve.at(4.25).value()[1] == doctest::Approx(2.95));
  CHECK_FALSE(curve.at(3.99).has_value());
  CHECK_FALSE(curve.at(7.01).has_value());
  CHECK_FALSE(curve.at(5.5).has_value());  // 5 and 7 are no neighbours

  CHECK(olmoe::difference({1.0, 2.0}, {0.5, 3.0}) == DocumentLosses{0.5, -1.0});
}
