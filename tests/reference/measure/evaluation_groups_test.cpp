// evaluate() of groups: what they load, and completion.

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "forward/completed_routing.hpp"
#include "measure/evaluation.hpp"
#include "measure/windows.hpp"
#include "reference/random_texts.hpp"

namespace {

using olmoe::EvaluationOptions;

/// The windows of two_texts() as evaluate() cuts them, and what each reads.
struct TextWindow {
  const olmoe::Text& text;
  olmoe::Window window;
  std::span<const std::int32_t> ids() const {
    return std::span(text.ids).subspan(static_cast<std::size_t>(window.first),
                                       static_cast<std::size_t>(window.length));
  }
};

std::vector<TextWindow> windows_of(const std::vector<olmoe::Text>& texts, std::int64_t window) {
  std::vector<TextWindow> result;
  for (const olmoe::Text& text : texts) {
    for (const auto& w :
         olmoe::sliding_windows(static_cast<std::int64_t>(text.ids.size()), window, window))
      result.push_back({text, w});
  }
  return result;
}

/// A window's negative log likelihood, from logits (length, vocabulary).
double loss(const TextWindow& w, std::span<const float> logits, std::size_t vocabulary) {
  double sum = 0.0;
  for (std::int64_t i = w.window.scored; i < w.window.length; ++i) {
    const auto row = logits.subspan(static_cast<std::size_t>(i) * vocabulary, vocabulary);
    double total = 0.0;
    for (const float x : row) total += std::exp(static_cast<double>(x));
    const auto next =
        static_cast<std::size_t>(w.text.ids[static_cast<std::size_t>(w.window.first + i + 1)]);
    sum += std::log(total) - static_cast<double>(row[next]);
  }
  return sum;
}

std::set<std::int32_t> experts_of(const olmoe::ExecutedRouting& routing, std::size_t token) {
  const auto begin =
      routing.experts.begin() + static_cast<std::ptrdiff_t>(token) * routing.capacity;
  return {begin, begin + routing.counts[token]};
}

}  // namespace

TEST_CASE("a group changes no result, and its loads are those of the routing executed") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto policy = routers(model, "bh:alpha=0.3,null=normal,score=zscore,max_k=3");
  constexpr std::int64_t window = 16;
  const auto plain = olmoe::evaluate(model, policy, texts, {.window = window, .stride = window});
  CHECK(!plain.loads);

  const auto windows = windows_of(texts, window);
  std::vector<olmoe::ForwardTrace> traces;
  for (const TextWindow& w : windows) {
    olmoe::KvCache cache;
    model.forward(w.ids(), cache, policy, olmoe::Model::LogitsOf::no_token, &traces.emplace_back());
  }
  const std::size_t layers = model.layers().size();
  for (const char* group : {"batch:1", "batch:99", "batch:3", "consecutive:5", "cache:2"}) {
    CAPTURE(group);
    EvaluationOptions options{.window = window, .stride = window};
    options.group = olmoe::parse_grouping(group);
    const auto actual = olmoe::evaluate(model, policy, texts, options);
    REQUIRE(actual.loads);
    CHECK(actual.total.nll.value == plain.total.nll.value);
    CHECK(actual.total.nll.error == plain.total.nll.error);
    CHECK(actual.total.routing.counts.histogram == plain.total.routing.counts.histogram);
    for (std::size_t w = 0; w < windows.size(); ++w)
      CHECK(actual.total.windows[w].sum == plain.total.windows[w].sum);

    const std::string kind = group;
    double loaded = 0.0;
    double groups = 0.0;
    for (std::size_t l = 0; l < layers; ++l) {
      if (kind == "batch:99") {
        // All windows are one batch; the place in the window is the group.
        for (std::size_t t = 0; t < window; ++t, ++groups) {
          std::set<std::int32_t> all;
          for (const auto& trace : traces) all.merge(experts_of(trace.routing[l], t));
          loaded += static_cast<double>(all.size());
        }
      }
      if (kind != "consecutive:5" && kind != "batch:1") continue;
      const std::size_t step = kind == "batch:1" ? 1 : 5;
      for (const auto& trace : traces) {
        for (std::size_t t = 0; t < window; t += step, ++groups) {
          std::set<std::int32_t> all;
          for (std::size_t i = t; i < std::min<std::size_t>(t + step, window); ++i)
            all.merge(experts_of(trace.routing[l], i));
          loaded += static_cast<double>(all.size());
        }
      }
    }
    if (groups > 0.0) CHECK(actual.loads->mean == doctest::Approx(loaded / groups));
    if (kind == "batch:1")
      CHECK(actual.loads->mean == doctest::Approx(plain.total.routing.counts.mean));
    if (kind == "batch:3") {
      // Eight windows: batches of 3, 3 and 2.
      REQUIRE(windows.size() == 8);
      CHECK(actual.loads->groups == 3 * window);
      CHECK(actual.loads->tokens_per_group == doctest::Approx(8.0 / 3.0));
      CHECK(actual.loads->mean > plain.total.routing.counts.mean);
      CHECK(actual.loads->mean < 3.0 * plain.total.routing.counts.mean);
    }
    if (kind == "cache:2") CHECK(actual.loads->mean < plain.total.routing.counts.mean);
  }
}

TEST_CASE("a completed evaluation is that of the completed routing, with any number of threads") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto policy = routers(model, "topk:k=1");
  constexpr std::int64_t window = 16;
  const auto windows = windows_of(texts, window);
  const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);
  for (const char* group : {"batch:99", "consecutive:4", "cache:3"}) {
    CAPTURE(group);
    EvaluationOptions options{.window = window, .stride = window};
    options.group = olmoe::parse_grouping(group);
    options.completion = {.window = 4, .max_k = 3};
    const auto plain = olmoe::evaluate(
        model, policy, texts, {.window = window, .stride = window, .group = options.group});
    const auto actual = olmoe::evaluate(model, policy, texts, options);

    olmoe::CompletedRouting source(policy, *options.group, *options.completion);
    std::vector<olmoe::KvCache> caches(windows.size());
    std::vector<olmoe::Sequence> batch;
    for (std::size_t w = 0; w < windows.size(); ++w)
      batch.push_back({windows[w].ids(), &caches[w]});
    const auto logits = model.forward(batch, source, olmoe::Model::LogitsOf::every_token);
    double sum = 0.0;
    for (std::size_t w = 0; w < windows.size(); ++w)
      sum += loss(windows[w], std::span(logits).subspan(w * window * vocabulary), vocabulary);
    CHECK(actual.total.nll.value ==
          doctest::Approx(sum / static_cast<double>(actual.total.predicted_tokens)).epsilon(1e-6));
    CHECK(actual.total.nll.value != plain.total.nll.value);
    CHECK(actual.total.routing.counts.mean > plain.total.routing.counts.mean);
    // Of one layer these would be equal: what is added was loaded. Later layers see other tokens.
    if (options.group->kind != olmoe::Grouping::Kind::cache)
      CHECK(actual.loads->layers[0] == plain.loads->layers[0]);

    const int before = omp_get_max_threads();
    for (const int threads : {1, 3}) {
      omp_set_num_threads(threads);
      CHECK(olmoe::evaluate(model, policy, texts, options).total.nll.value ==
            actual.total.nll.value);
    }
    omp_set_num_threads(before);

    options.random_residents = 1;
    const auto random = olmoe::evaluate(model, policy, texts, options);
    CHECK(random.total.nll.value != actual.total.nll.value);
  }
}

TEST_CASE("a completion needs a group, random residents a completion") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto policy = routers(model, "topk:k=1");
  EvaluationOptions options{.window = 16};
  options.completion = {.window = 4, .max_k = 3};
  CHECK_THROWS_AS(olmoe::evaluate(model, policy, texts, options), std::invalid_argument);
  options.completion = {};
  options.group = olmoe::parse_grouping("batch:2");
  options.random_residents = 1;
  CHECK_THROWS_AS(olmoe::evaluate(model, policy, texts, options), std::invalid_argument);
  options.random_residents = {};
  options.completion = {.window = 4, .max_k = 3};
  options.oracle = true;
  CHECK_THROWS_WITH_AS(olmoe::evaluate(model, policy, texts, options),
                       "evaluate: the oracle completes nothing", std::invalid_argument);
}
