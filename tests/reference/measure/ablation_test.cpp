#include "measure/ablation.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <span>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"

namespace {

/// Routing as it is, but for one token's weight of one expert in one layer, which is 0.
class ZeroWeight final : public olmoe::RoutingSource {
 public:
  ZeroWeight(std::span<const fdroute::AnyRouter> routers, int layer, std::int64_t position,
             std::size_t rank)
      : all_(routers), layer_(layer), position_(position), rank_(rank) {}
  int layers() const override { return all_.layers(); }
  int capacity(int layer) const override { return all_.capacity(layer); }
  int floor(int layer) const override { return all_.floor(layer); }
  void route(int layer, std::span<const olmoe::Stretch> stretches,
             fdroute::LogitsView<float> logits, fdroute::RoutingView<std::int32_t> out) override {
    all_.route(layer, stretches, logits, out);
    if (layer == layer_) out.from(position_ - stretches[0].start).weights[rank_] = 0.0F;
  }

 private:
  olmoe::PolicyRouting all_;
  int layer_;
  std::int64_t position_;
  std::size_t rank_;
};

/// -log softmax(row)[id]
double loss(std::span<const float> row, std::int32_t id) {
  double sum = 0.0;
  for (const float x : row) sum += std::exp(static_cast<double>(x));
  return std::log(sum) - static_cast<double>(row[static_cast<std::size_t>(id)]);
}

}  // namespace

TEST_CASE("An expert left out costs what it costs to take its weight for 0") {
  const olmoe::Model model(tiny + "plain");
  // One place alone: a context of 10 tokens, the token, and 5 predictions.
  std::vector<olmoe::Text> texts = one_text(model);
  texts.front().ids.resize(16);
  const auto null =
      fdroute::TabulatedNull::from_log_survival({-3.0, 1.0}, {0.0, -4.0}, {.score = "log_softmax"});
  const std::vector nulls{null, null};
  std::vector<std::int64_t> shown;
  const auto ablated = olmoe::ablate_experts(
      model, texts, nulls,
      {.tokens = 2,
       .context = 10,
       .ahead = 5,
       .seed = 1,
       .on_progress = [&](std::int64_t done, std::int64_t) { shown.push_back(done); }});
  CHECK(shown == std::vector<std::int64_t>{0, 1, 2});
  const auto k = static_cast<std::size_t>(model.config().num_experts_per_tok);
  REQUIRE(ablated.size() == 2 * 2 * k);

  const auto native = routers(model, "native");
  const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);
  const std::span<const std::int32_t> ids = texts.front().ids;
  const auto loss_by = [&](olmoe::RoutingSource& source) {
    olmoe::KvCache cache;
    const olmoe::Sequence alone{ids.first(15), &cache};
    const auto logits = model.forward({&alone, 1}, source, olmoe::Model::LogitsOf::every_token);
    double sum = 0.0;
    for (std::size_t i = 10; i < 15; ++i)
      sum += loss(std::span(logits).subspan(i * vocabulary, vocabulary), ids[i + 1]);
    return sum;
  };
  olmoe::PolicyRouting all(native);
  const double whole = loss_by(all);
  bool any = false;
  for (std::size_t i = 0; i < ablated.size(); ++i) {
    const olmoe::AblatedExpert& expert = ablated[i];
    CHECK(expert.token == static_cast<std::int64_t>(i / (2 * k)));
    CHECK(expert.layer == static_cast<int>(i / k % 2));
    CHECK(expert.rank == static_cast<int>(i % k));
    CHECK(expert.p == null(expert.score));
    if (i % k > 0) CHECK(expert.score <= ablated[i - 1].score);
    ZeroWeight without(native, expert.layer, 10, i % k);
    CHECK(expert.cost == doctest::Approx(loss_by(without) - whole).scale(1.0).epsilon(1e-5));
    any = any || std::abs(expert.cost) > 1e-3;
  }
  CHECK(any);
  texts.front().ids.pop_back();
  CHECK(error_of([&] {
          olmoe::ablate_experts(model, texts, nulls, {.tokens = 1, .context = 10, .ahead = 5});
        }) == "no document has the 16 tokens of a token's context and of the predictions after it");
}

TEST_CASE("Conformal p-values, by hand") {
  const std::vector<double> needless{1.0, 2.0, 3.0};
  CHECK(olmoe::conformal_p(needless, 0.0) == 1.0);
  CHECK(olmoe::conformal_p(needless, 2.0) == 0.75);
  CHECK(olmoe::conformal_p(needless, 3.5) == 0.25);
}
