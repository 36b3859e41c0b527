#include "measure/evaluation.hpp"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"

namespace {

using olmoe::Evaluation;
using olmoe::EvaluationOptions;
using olmoe::EvaluationRecord;
using olmoe::Text;

/// The definition, from forward() and the logits it returns.
double naive_nll(const olmoe::Model& model, std::span<const fdroute::AnyRouter> policy,
                 const Text& text, std::int64_t window, std::int64_t stride) {
  double sum = 0.0;
  std::size_t predicted = 0;
  const auto inputs = static_cast<std::int64_t>(text.ids.size()) - 1;
  for (std::int64_t start = 0; static_cast<std::int64_t>(predicted) < inputs; start += stride) {
    const std::int64_t first = std::min(start, inputs - window);
    olmoe::KvCache cache;
    const auto logits = model.forward(std::span(text.ids).subspan(static_cast<std::size_t>(first),
                                                                  static_cast<std::size_t>(window)),
                                      cache, policy, olmoe::Model::LogitsOf::every_token);
    const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);
    for (std::size_t i = 0; i < static_cast<std::size_t>(window); ++i) {
      const std::size_t input = static_cast<std::size_t>(first) + i;
      if (input < predicted) continue;
      double total = 0.0;
      for (std::size_t v = 0; v < vocabulary; ++v)
        total += std::exp(static_cast<double>(logits[i * vocabulary + v]));
      const auto next = static_cast<std::size_t>(text.ids[input + 1]);
      sum += std::log(total) - static_cast<double>(logits[i * vocabulary + next]);
      predicted = input + 1;
    }
  }
  return sum / static_cast<double>(predicted);
}

}  // namespace

TEST_CASE("perplexity is that of the definition, with several kinds of model and routing") {
  for (const char* name : {"plain", "gqa", "norm_topk", "tied", "thirteen_experts"}) {
    const olmoe::Model model(tiny + name);
    const auto texts = two_texts(model);
    for (const char* policy : {"native", "topk:k=3", "bh:alpha=0.2,null=normal", "top_p:p=0.5"}) {
      for (const std::int64_t stride : {5, 16}) {
        CAPTURE(name);
        CAPTURE(policy);
        CAPTURE(stride);
        const auto chosen = routers(model, policy);
        const Evaluation evaluation =
            olmoe::evaluate(model, chosen, texts, {.window = 16, .stride = stride});
        double sum = 0.0;
        double macro = 0.0;
        REQUIRE(evaluation.domains.size() == 2);
        for (std::size_t t = 0; t < texts.size(); ++t) {
          const double expected = naive_nll(model, chosen, texts[t], 16, stride);
          const auto& domain = evaluation.domains[t];
          CHECK(domain.name == texts[t].name);
          CHECK(domain.predicted_tokens == static_cast<std::int64_t>(texts[t].ids.size()) - 1);
          CHECK(domain.nll.value == doctest::Approx(expected).epsilon(1e-9));
          CHECK(domain.nll.error.value() == olmoe::cluster_mean(domain.windows).error.value());
          sum += expected * static_cast<double>(domain.predicted_tokens);
          macro += expected / 2.0;
        }
        CHECK(evaluation.total.predicted_tokens == 69 + 40);
        CHECK(evaluation.total.nll.value == doctest::Approx(sum / 109.0).epsilon(1e-9));
        CHECK(evaluation.macro_perplexity == doctest::Approx(std::exp(macro)).epsilon(1e-9));
        const double share = 69.0 / 109.0;
        CHECK(evaluation.total.nll.error.value() ==
              doctest::Approx(std::hypot(share * *evaluation.domains[0].nll.error,
                                         (1.0 - share) * *evaluation.domains[1].nll.error)));
      }
    }
  }
}

TEST_CASE("windows end with their document, and documents are the clusters") {
  const olmoe::Model model(tiny + "plain");
  auto texts = two_texts(model);
  texts.resize(1);
  texts[0].documents = {{"first", 40}, {"second", 10}, {"third", 20}};
  const EvaluationOptions options{.window = 16, .stride = 16};
  const auto native = routers(model, "native");
  const auto domain = olmoe::evaluate(model, native, texts, options).domains.front();
  CHECK(domain.predicted_tokens == 39 + 9 + 19);
  CHECK(domain.windows_of == std::vector<std::int64_t>{3, 1, 2});
  std::vector<olmoe::WindowSum> clusters;
  std::size_t first = 0;
  for (const olmoe::Document& document : texts[0].documents) {
    const auto size = static_cast<std::size_t>(document.tokens);
    Text alone{"alone",
               {texts[0].ids.begin() + static_cast<std::ptrdiff_t>(first),
                texts[0].ids.begin() + static_cast<std::ptrdiff_t>(first + size)},
               ""};
    const auto length = std::min<std::int64_t>(16, document.tokens - 1);
    const double nll = naive_nll(model, native, alone, length, length);
    clusters.push_back({document.tokens - 1, nll * static_cast<double>(document.tokens - 1)});
    first += size;
  }
  const auto expected = olmoe::cluster_mean(clusters);
  CHECK(domain.nll.value == doctest::Approx(expected.value).epsilon(1e-9));
  CHECK(*domain.nll.error == doctest::Approx(*expected.error).epsilon(1e-6));
}

TEST_CASE("the error is absent where one window is all there is") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto evaluation =
      olmoe::evaluate(model, routers(model, "native"), texts, {.window = 40, .stride = 40});
  CHECK(evaluation.domains[0].nll.error);
  CHECK_FALSE(evaluation.domains[1].nll.error);
  CHECK_FALSE(evaluation.total.nll.error);
}

TEST_CASE("against itself a policy agrees everywhere; against another it does not") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const EvaluationOptions options{.window = 16, .stride = 8};
  const auto native = routers(model, "native");
  EvaluationRecord record;
  const auto baseline = olmoe::evaluate(model, native, texts, options, nullptr, &record);
  CHECK_FALSE(baseline.total.baseline);

  const auto same = olmoe::evaluate(model, native, texts, options, &record).total.baseline;
  REQUIRE(same);
  CHECK(same->argmax_agreement == 1.0);
  CHECK(same->kl == 0.0);
  CHECK(same->nll_difference.value == 0.0);
  CHECK(*same->nll_difference.error == 0.0);

  const auto fewer = olmoe::evaluate(model, routers(model, "topk:k=1"), texts, options, &record);
  CHECK(fewer.total.baseline->argmax_agreement < 1.0);
  CHECK(fewer.total.baseline->kl > 0.0);
  CHECK(fewer.total.baseline->nll_difference.value ==
        doctest::Approx(fewer.total.nll.value - baseline.total.nll.value));

  CHECK_THROWS_AS(olmoe::evaluate(model, native, texts, {.window = 16, .stride = 16}, &record),
                  std::invalid_argument);
}

TEST_CASE("evaluation is the same for any number of threads") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const EvaluationOptions options{.window = 16, .stride = 8};
  const auto policy = routers(model, "bh:alpha=0.3,null=normal");
  EvaluationRecord record;
  olmoe::evaluate(model, routers(model, "native"), texts, options, nullptr, &record);
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto one = olmoe::evaluate(model, policy, texts, options, &record).total;
  omp_set_num_threads(3);
  std::int64_t last = -1;
  double nll = 0.0;
  EvaluationOptions reporting = options;
  reporting.on_progress = [&](const olmoe::EvaluationProgress& progress) {
    CHECK(progress.done == ++last);
    CHECK(progress.all == 12);
    CHECK((progress.last.tokens > 0) == (progress.done > 0));
    nll += progress.last.sum;
  };
  const auto three = olmoe::evaluate(model, policy, texts, reporting, &record).total;
  omp_set_num_threads(threads);
  CHECK(last == 12);
  CHECK(nll == doctest::Approx(three.nll.value * static_cast<double>(three.predicted_tokens)));
  CHECK(one.nll.value == three.nll.value);
  CHECK(*one.nll.error == *three.nll.error);
  CHECK(one.baseline->kl == three.baseline->kl);
  CHECK(one.routing.weight_mass == three.routing.weight_mass);
  CHECK(one.routing.counts.histogram == three.routing.counts.histogram);
}

TEST_CASE(
    "counts given from outside: the policy's own reproduce it, dealt ones keep the multiset") {
  for (const char* name : {"plain", "norm_topk"}) {
    const olmoe::Model model(tiny + name);
    const auto texts = two_texts(model);
    const EvaluationOptions options{.window = 16, .stride = 8};
    const fdroute::SoftmaxWeights weights{.renormalize = model.config().norm_topk_prob};
    EvaluationRecord record;
    const auto policy = olmoe::evaluate(model, routers(model, "bh:alpha=0.3,null=normal,min_k=0"),
                                        texts, options, nullptr, &record);
    const auto same = olmoe::evaluate_counts(model, record.counts, weights, texts, options);
    CHECK(same.total.nll.value == policy.total.nll.value);
    CHECK(same.total.routing.weight_mass == policy.total.routing.weight_mass);

    const auto dealt = olmoe::deal_counts(record.counts, 1);
    CHECK(dealt == olmoe::deal_counts(record.counts, 1));
    CHECK(dealt != olmoe::deal_counts(record.counts, 2));
    CHECK(dealt != record.counts);
    const auto control = olmoe::evaluate_counts(model, dealt, weights, texts, options);
    CHECK(control.total.nll.value != policy.total.nll.value);
    for (std::size_t l = 0; l < dealt.size(); ++l) {
      CHECK(std::is_permutation(dealt[l].begin(), dealt[l].end(), record.counts[l].begin()));
      CHECK(control.total.routing.layers[l].counts.histogram ==
            policy.total.routing.layers[l].counts.histogram);
    }

    auto wrong = record.counts;
    wrong.front().pop_back();
    CHECK_THROWS_AS(olmoe::evaluate_counts(model, wrong, weights, texts, options),
                    std::invalid_argument);
    wrong = record.counts;
    wrong.front().front() = model.config().num_experts + 1;
    CHECK_THROWS_AS(olmoe::evaluate_counts(model, wrong, weights, texts, options),
                    std::invalid_argument);
  }
}

TEST_CASE("texts that cannot be evaluated are named before any work") {
  const olmoe::Model model(tiny + "plain");
  const auto native = routers(model, "native");
  const auto check = [&](const std::vector<Text>& texts, EvaluationOptions options) {
    return error_of([&] { olmoe::evaluate(model, native, texts, options); });
  };
  CHECK(check({{"short", {1, 2, 3}, ""}}, {.window = 3}) ==
        "short: has 3 tokens; a window of 3 needs 4");
  CHECK(check({{"odd", {1, 2, 112}, ""}}, {.window = 2}) ==
        "odd: token id 112 is outside the model's vocabulary of 112");
  CHECK(check({{"fine", {1, 2, 3}, ""}}, {.window = 2}) == "no error");
  CHECK(check({{"one", {1, 2, 3}, "", {{"a", 2}, {"b", 1}}}}, {.window = 2}) ==
        "one: document 'b' has one token; to predict anything it needs two");
  CHECK_THROWS_AS(check({}, {.window = 2}), std::invalid_argument);
  CHECK_THROWS_AS(check({{"fine", {1, 2, 3}, ""}}, {.window = 65}), std::invalid_argument);
  CHECK_THROWS_AS(check({{"fine", {1, 2, 3}, ""}}, {.window = 2, .stride = 3}),
                  std::invalid_argument);
}
