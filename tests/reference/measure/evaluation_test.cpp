#include "measure/evaluation.hpp"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "reference/error_of.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Evaluation;
using olmoe::EvaluationOptions;
using olmoe::EvaluationRecord;
using olmoe::Text;
using olmoe::Window;

const std::string tiny = FDROUTE_SOURCE_DIR "/tests/data/tiny/";

std::vector<std::int32_t> random_ids(std::size_t n, int vocabulary, std::uint32_t seed) {
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 1664525U + 1013904223U;
    ids.push_back(static_cast<std::int32_t>((seed >> 8) % static_cast<std::uint32_t>(vocabulary)));
  }
  return ids;
}

std::vector<Text> two_texts(const olmoe::Model& model) {
  const int vocabulary = model.config().vocab_size;
  return {{"one", random_ids(70, vocabulary, 1), ""}, {"two", random_ids(41, vocabulary, 2), ""}};
}

std::vector<fdroute::AnyRouter> routers(const olmoe::Model& model, const std::string& policy) {
  return olmoe::make_routers(model.config(), policy, std::filesystem::path());
}

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

TEST_CASE("sliding windows score every token but the first once") {
  using Windows = std::vector<Window>;
  CHECK(olmoe::sliding_windows(9, 8, 4) == Windows{{0, 8, 0}});
  CHECK(olmoe::sliding_windows(17, 8, 8) == Windows{{0, 8, 0}, {8, 8, 0}});
  CHECK(olmoe::sliding_windows(17, 8, 4) == Windows{{0, 8, 0}, {4, 8, 4}, {8, 8, 4}});
  CHECK(olmoe::sliding_windows(12, 8, 8) == Windows{{0, 8, 0}, {3, 8, 5}});

  for (std::int64_t tokens = 2; tokens < 40; ++tokens) {
    for (std::int64_t window = 1; window < tokens; ++window) {
      for (std::int64_t stride = 1; stride <= window; ++stride) {
        std::int64_t next = 0;
        for (const Window& w : olmoe::sliding_windows(tokens, window, stride)) {
          REQUIRE(w.length == window);
          REQUIRE(w.first + w.scored == next);
          REQUIRE(w.scored < w.length);
          next = w.first + w.length;
        }
        REQUIRE(next == tokens - 1);
      }
    }
  }
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 8, 4), std::invalid_argument);
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 4, 5), std::invalid_argument);
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 4, 0), std::invalid_argument);
}

TEST_CASE("cluster mean and its error, by hand") {
  // mean (3 + 9) / 6 = 2; residuals 3 - 4 = -1 and 9 - 8 = 1; error^2 = 2 (1 + 1) / 36.
  const std::vector<olmoe::WindowSum> windows{{2, 3.0}, {4, 9.0}};
  const auto mean = olmoe::cluster_mean(windows);
  CHECK(mean.value == 2.0);
  REQUIRE(mean.error);
  CHECK(*mean.error == doctest::Approx(1.0 / 3.0));
  const auto perplexity = olmoe::perplexity_of(mean);
  CHECK(perplexity.value == doctest::Approx(std::exp(2.0)));
  CHECK(*perplexity.error == doctest::Approx(std::exp(2.0) / 3.0));

  CHECK_FALSE(olmoe::cluster_mean(std::span(windows).first(1)).error);
  CHECK_FALSE(olmoe::perplexity_of(olmoe::cluster_mean(std::span(windows).first(1))).error);
}

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

TEST_CASE("the error is absent where one window is all there is") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const auto evaluation =
      olmoe::evaluate(model, routers(model, "native"), texts, {.window = 40, .stride = 40});
  CHECK(evaluation.domains[0].nll.error);
  CHECK_FALSE(evaluation.domains[1].nll.error);
  CHECK_FALSE(evaluation.total.nll.error);
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
  std::int64_t last = 0;
  EvaluationOptions reporting = options;
  reporting.on_progress = [&](std::int64_t done, std::int64_t all) {
    CHECK(done == ++last);
    CHECK(all == 12);
  };
  const auto three = olmoe::evaluate(model, policy, texts, reporting, &record).total;
  omp_set_num_threads(threads);
  CHECK(last == 12);
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
  CHECK_THROWS_AS(check({}, {.window = 2}), std::invalid_argument);
  CHECK_THROWS_AS(check({{"fine", {1, 2, 3}, ""}}, {.window = 65}), std::invalid_argument);
  CHECK_THROWS_AS(check({{"fine", {1, 2, 3}, ""}}, {.window = 2, .stride = 3}),
                  std::invalid_argument);
  CHECK(olmoe::default_window(model.config()) == 64);
}

TEST_CASE("per-layer values in a policy string") {
  const olmoe::Model model(tiny + "plain");
  const auto of_layers = routers(model, "bh:alpha=0.1/0.2,max_k=4,null=normal");
  REQUIRE(of_layers.size() == 2);
  CHECK(of_layers[0].policy() == routers(model, "bh:alpha=0.1,max_k=4,null=normal")[0].policy());
  CHECK(of_layers[1].policy() == routers(model, "bh:alpha=0.2,max_k=4,null=normal")[0].policy());
  const std::string all = olmoe::policy_of(of_layers);
  CHECK(all.starts_with("bh:alpha=0.1/0.2,min_k=1,max_k=4,"));
  CHECK(olmoe::policy_of(routers(model, all)) == all);
  CHECK(olmoe::policy_of(routers(model, "topk:k=2/2")) ==
        olmoe::policy_of(routers(model, "topk:k=2")));
  CHECK(routers(model, "topk:k=2,min_k=1/2")[1].bounds().min_k == 2);
  CHECK(routers(model, "topk:k=2/-")[1].capacity() == 8);

  // Layers of different nulls have different settings.
  const auto mixed = routers(model, "bh:alpha=0.1/0.2,null=normal/logistic,sd=2/-,scale=-/3");
  CHECK(mixed[0].policy().find(",sd=2") != std::string::npos);
  CHECK(mixed[1].policy().find(",scale=3") != std::string::npos);
  const std::string recorded = olmoe::policy_of(mixed);
  CHECK(recorded.find(",null=normal/logistic,") != std::string::npos);
  CHECK(recorded.find(",sd=2/-,") != std::string::npos);
  CHECK(recorded.find(",location=-/0,scale=-/3") != std::string::npos);
  CHECK(routers(model, recorded)[0].policy() == mixed[0].policy());
  CHECK(routers(model, recorded)[1].policy() == mixed[1].policy());

  const auto message = [&](const std::string& policy) -> std::string {
    try {
      routers(model, policy);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message("topk:k=1/2/3") == "policy 'topk:k=1/2/3': 'k' lists 3 values for 2 layers");
  CHECK(message("topk:k=1/x") == "policy 'topk:k=x', position 8: k takes an integer, got 'x'");
  CHECK(message("topk:k=1/").starts_with("policy 'topk:k=', position 6: key=value expected"));
}
