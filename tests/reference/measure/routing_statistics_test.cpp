#include "measure/routing_statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "measure/evaluation.hpp"
#include "reference/random_texts.hpp"

using olmoe::EvaluationOptions;
using olmoe::EvaluationRecord;

TEST_CASE("load: shares, CV and Gini, by hand") {
  using Counts = std::vector<std::int64_t>;
  const auto even = olmoe::load_statistics(Counts{5, 5, 5, 5});
  CHECK(even.share == std::vector<double>(4, 0.25));
  CHECK(even.cv == 0.0);
  CHECK(even.gini == 0.0);
  const auto one = olmoe::load_statistics(Counts{0, 7, 0, 0});
  CHECK(one.cv == doctest::Approx(std::sqrt(3.0)));
  CHECK(one.gini == doctest::Approx(0.75));
  // Deviations -1.5, -0.5, 0.5, 1.5 from 2.5; mean difference over all pairs 1.25 = 2 x 2.5 x G.
  const auto ramp = olmoe::load_statistics(Counts{3, 1, 4, 2});
  CHECK(ramp.cv == doctest::Approx(std::sqrt(1.25) / 2.5));
  CHECK(ramp.gini == doctest::Approx(0.25));
  const auto none = olmoe::load_statistics(Counts{0, 0});
  CHECK(none.share == std::vector<double>{0.0, 0.0});
  CHECK(none.gini == 0.0);
}

TEST_CASE("the routing statistics are those of the routings executed") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto policy = routers(model, "bh:alpha=0.3,null=normal,min_k=1,max_k=3");
  const EvaluationOptions options{.window = 16, .stride = 8};
  EvaluationRecord record;
  const auto evaluation = olmoe::evaluate(model, policy, texts, options, nullptr, &record);

  const auto& routing = evaluation.total.routing;
  const auto layers = static_cast<std::size_t>(model.config().num_hidden_layers);
  REQUIRE(routing.layers.size() == layers);
  std::vector<std::int64_t> histogram(static_cast<std::size_t>(model.config().num_experts) + 1, 0);
  double sum = 0.0;
  double rows = 0.0;
  for (std::size_t l = 0; l < layers; ++l) {
    const auto& counts = record.counts[l];
    const auto& statistics = routing.layers[l];
    CHECK(statistics.counts.rows == static_cast<std::int64_t>(counts.size()));
    const double layer_sum = std::accumulate(counts.begin(), counts.end(), 0.0);
    CHECK(statistics.counts.mean ==
          doctest::Approx(layer_sum / static_cast<double>(counts.size())));
    CHECK(statistics.counts.min == *std::min_element(counts.begin(), counts.end()));
    CHECK(statistics.counts.max == *std::max_element(counts.begin(), counts.end()));
    const auto rate = [&](int k) {
      return static_cast<double>(std::count(counts.begin(), counts.end(), k)) /
             static_cast<double>(counts.size());
    };
    CHECK(statistics.counts.floor_rate == doctest::Approx(rate(1)));
    CHECK(statistics.counts.ceiling_rate == doctest::Approx(rate(3)));
    const auto& share = statistics.load.share;
    CHECK(std::accumulate(share.begin(), share.end(), 0.0) == doctest::Approx(1.0));
    for (const std::int32_t k : counts) ++histogram[static_cast<std::size_t>(k)];
    sum += layer_sum;
    rows += static_cast<double>(counts.size());
  }
  CHECK(routing.counts.histogram == histogram);
  CHECK(routing.counts.rows == static_cast<std::int64_t>(rows));
  CHECK(routing.counts.mean == doctest::Approx(sum / rows));
  CHECK(routing.counts.std > 0.0);

  // One expert: gate and up (24, 32) and down (32, 24), f32.
  const double expert_bytes = 3.0 * 24.0 * 32.0 * 4.0;
  CHECK(routing.expert_bytes_per_token ==
        doctest::Approx(routing.counts.mean * static_cast<double>(layers) * expert_bytes));
  CHECK(routing.weight_mass > 0.0);
  CHECK(routing.weight_mass < 1.0);

  const auto all = olmoe::evaluate(model, routers(model, "topk:k=8"), texts, options);
  CHECK(all.total.routing.weight_mass == doctest::Approx(1.0));
  CHECK(all.total.routing.counts.std == 0.0);
  CHECK(all.total.routing.counts.mean == 8.0);
  CHECK(all.total.routing.counts.ceiling_rate == 1.0);
  CHECK(all.total.routing.load_gini == 0.0);
}
