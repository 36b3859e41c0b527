#include "measure/ablation.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>

#include "formats/error.hpp"
#include "measure/at.hpp"
#include "measure/null_fit.hpp"
#include "measure/parallel.hpp"
#include "measure/prediction.hpp"
#include "routing/routing.hpp"

namespace olmoe {
namespace {

/// A policy's routing without one expert of one token in one layer.
class WithoutExpert final : public RoutingSource {
 public:
  WithoutExpert(std::span<const fdroute::AnyRouter> routers, int layer, std::int64_t position,
                std::int32_t expert)
      : all_(routers), layer_(layer), position_(position), expert_(expert) {}

  int layers() const override { return all_.layers(); }
  int capacity(int layer) const override { return all_.capacity(layer); }
  int floor(int layer) const override { return all_.floor(layer) - (layer == layer_ ? 1 : 0); }
  void route(int layer, std::span<const Stretch> stretches, fdroute::LogitsView<float> logits,
             fdroute::RoutingView<std::int32_t> out) override {
    all_.route(layer, stretches, logits, out);
    const auto [sequence, start, tokens] = stretches[0];  // there is one sequence
    if (layer != layer_ || position_ < start || position_ >= start + tokens) return;
    const auto row = out.from(position_ - start);
    const std::int32_t n = row.counts[0];
    const auto place = std::find(row.experts, row.experts + n, expert_) - row.experts;
    if (place == n) return;
    std::copy(row.experts + place + 1, row.experts + n, row.experts + place);
    std::copy(row.weights + place + 1, row.weights + n, row.weights + place);
    row.experts[n - 1] = -1;
    row.weights[n - 1] = 0.0F;
    row.counts[0] = n - 1;
  }

 private:
  PolicyRouting all_;
  int layer_;
  std::int64_t position_;
  std::int32_t expert_;
};

/// A place of a text that a token can be drawn from: where its context begins.
struct Place {
  const Text* text;
  std::int64_t first;
};

std::vector<Place> places_of(std::span<const Text> texts, const AblationOptions& options) {
  const std::int64_t length = options.context + options.ahead + 1;
  std::vector<Place> places;
  for (const Text& text : texts) {
    std::int64_t first = 0;
    for (const Document& document : text.all_documents()) {
      for (std::int64_t i = 0; i + length <= document.tokens; ++i)
        places.push_back({&text, first + i});
      first += document.tokens;
    }
  }
  if (places.empty())
    throw Error("no document has the " + std::to_string(length) +
                " tokens of a token's context and of the predictions after it");
  return places;
}

/// Sum of the negative log likelihoods of ids[1], ids[2] ... given the logits after ids[0] ...
double loss_of(const std::vector<float>& logits, std::span<const std::int32_t> ids) {
  const std::size_t rows = ids.size() - 1;
  const std::size_t vocabulary = logits.size() / rows;
  double loss = 0.0;
  for (std::size_t i = 0; i < rows; ++i) {
    const Prediction prediction{std::span(logits).subspan(i * vocabulary, vocabulary)};
    loss -= prediction.log_probability(at(ids[i + 1]));
  }
  return loss;
}

/// Runs one token with all of its experts, then without each.
std::vector<AblatedExpert> ablate_token(const Model& model,
                                        std::span<const fdroute::AnyRouter> routers,
                                        std::span<const fdroute::TabulatedNull> nulls,
                                        std::span<const std::int32_t> window,
                                        const AblationOptions& options) {
  constexpr auto every = Model::LogitsOf::every_token;
  KvCache before;
  model.forward(window.first(at(options.context)), before, routers, Model::LogitsOf::no_token);
  const auto rest = window.subspan(at(options.context));
  const auto inputs = rest.first(rest.size() - 1);
  KvCache cache = before;
  ForwardTrace trace;
  const double whole = loss_of(model.forward(inputs, cache, routers, every, &trace), rest);

  std::vector<AblatedExpert> ablated;
  for (std::size_t l = 0; l < trace.routing.size(); ++l) {
    const ExecutedRouting& routing = trace.routing[l];
    LayerLogits logits{.values = {}, .counts = {}, .experts = model.config().num_experts};
    logits.values.assign(routing.logits.begin(), routing.logits.begin() + logits.experts);
    const auto scores = losing_scores(logits, nulls[l].fitted_on(), 0);
    std::vector<std::int32_t> selected(routing.experts.begin(),
                                       routing.experts.begin() + routing.counts[0]);
    std::stable_sort(selected.begin(), selected.end(), [&](std::int32_t a, std::int32_t b) {
      return logits.values[at(a)] > logits.values[at(b)];
    });
    for (std::size_t rank = 0; rank < selected.size(); ++rank) {
      const int layer = static_cast<int>(l);
      WithoutExpert source(routers, layer, options.context, selected[rank]);
      cache = before;
      const Sequence alone{inputs, &cache};
      const double loss = loss_of(model.forward({&alone, 1}, source, every), rest);
      const auto score = static_cast<double>(scores[at(selected[rank])]);
      ablated.push_back({.layer = layer,
                         .rank = static_cast<int>(rank),
                         .score = score,
                         .p = nulls[l](score),
                         .cost = loss - whole});
    }
  }
  return ablated;
}

}  // namespace

std::vector<AblatedExpert> ablate_experts(const Model& model, std::span<const Text> texts,
                                          std::span<const fdroute::TabulatedNull> nulls,
                                          const AblationOptions& options) {
  if (options.tokens < 1 || options.context < 1 || options.ahead < 1)
    throw std::invalid_argument(
        "ablate_experts: tokens, context and predictions ahead must be at least 1");
  const auto routers = make_routers(model.config(), native_policy, std::filesystem::path());
  const auto places = places_of(texts, options);
  std::mt19937_64 random(options.seed);
  std::vector<Place> drawn;
  for (std::int64_t i = 0; i < options.tokens; ++i)
    drawn.push_back(places[static_cast<std::size_t>(random() % places.size())]);

  std::vector<std::vector<AblatedExpert>> by_token(drawn.size());
  std::int64_t done = 0;
  if (options.on_progress) options.on_progress(0, options.tokens);
  parallel_for(options.tokens, [&](std::int64_t i) {
    const auto [text, first] = drawn[at(i)];
    const auto window =
        std::span(text->ids).subspan(at(first), at(options.context + options.ahead + 1));
    by_token[at(i)] = ablate_token(model, routers, nulls, window, options);
    for (AblatedExpert& expert : by_token[at(i)]) expert.token = i;
    if (!options.on_progress) return;
#pragma omp critical(olmoe_ablation_progress)
    options.on_progress(++done, options.tokens);
  });
  std::vector<AblatedExpert> all;
  for (const auto& of_token : by_token) all.insert(all.end(), of_token.begin(), of_token.end());
  return all;
}

double conformal_p(std::span<const double> needless, double score) {
  const auto at_least = needless.end() - std::lower_bound(needless.begin(), needless.end(), score);
  return (1.0 + static_cast<double>(at_least)) / (static_cast<double>(needless.size()) + 1.0);
}

}  // namespace olmoe
