#include "forward/model.hpp"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "formats/safetensors_writer.hpp"
#include "forward/generation.hpp"
#include "reference/captured_models.hpp"
#include "reference/each_isa.hpp"
#include "reference/error_of.hpp"
#include "reference/forward/fused_experts.hpp"
#include "reference/temp_dir.hpp"
#include "routing/nulls.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Model;

/// Root of mean square of the differences, over that of the values expected.
double relative_rms(const std::vector<float>& actual, const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  double squares = 0.0;
  double differences = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto e = static_cast<double>(expected[i]);
    squares += e * e;
    differences += (static_cast<double>(actual[i]) - e) * (static_cast<double>(actual[i]) - e);
  }
  return std::sqrt(differences / squares);
}

void check_policy(const Model& model, const olmoe::SafetensorsFile& capture,
                  const std::string& prefix, const std::vector<fdroute::AnyRouter>& routers) {
  const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
  const olmoe::BatchResult result = olmoe::run_batch(model, batch, routers);
  CHECK(distance(result.logits, capture.at(prefix + "logits").to_float()) <= 1e-4);
  for (std::size_t l = 0; l < result.trace.routing.size(); ++l) {
    const olmoe::ExecutedRouting& routing = result.trace.routing[l];
    const std::string suffix = "." + std::to_string(l);
    CHECK(distance(routing.logits, capture.at(prefix + "router_logits" + suffix).to_float()) <=
          1e-4);
    if (prefix.empty()) continue;
    CHECK(widen(routing.counts) == capture.at(prefix + "expert_counts" + suffix).to_int64());
    CHECK(widen(routing.experts) == capture.at(prefix + "selected_experts" + suffix).to_int64());
    CHECK(distance(routing.weights, capture.at(prefix + "routing_weights" + suffix).to_float()) <=
          1e-5);
  }

  const olmoe::Tensor& greedy = capture.at(prefix + "greedy_ids");
  std::vector<std::int64_t> generated;
  for (std::int64_t s = 0; s < batch.sequences; ++s)
    olmoe::generate(model, routers, batch.sequence(s),
                    {.max_new_tokens = static_cast<int>(greedy.shape.at(1)), .stop_at_eos = false},
                    [&](std::int32_t id) { generated.push_back(id); });
  CHECK(generated == greedy.to_int64());
}

std::filesystem::path plain() {
  return source_dir / "tests/data/tiny/plain";
}

std::vector<fdroute::AnyRouter> native(const Model& model) {
  return olmoe::make_routers(model.config(), olmoe::native_policy, std::filesystem::path());
}

}  // namespace

TEST_CASE("every captured checkpoint gives transformers' logits, routing and greedy text") {
  const auto directories = captured_models();
  REQUIRE(directories.size() >= 10);
  for (const auto& directory : directories) {
    CAPTURE(directory.filename().string());
    const Model model(directory);
    const olmoe::SafetensorsFile capture(directory / "capture.safetensors");
    each_isa([&](olmoe::Isa) { check_policy(model, capture, "", native(model)); });

    const std::string recorded = metadata(capture, "bh.nulls");
    const auto nulls = recorded.empty() ? std::filesystem::path() : directory / recorded;
    const auto routers = olmoe::make_routers(model.config(), metadata(capture, "bh.policy"), nulls);
    each_isa([&](olmoe::Isa) { check_policy(model, capture, "bh.", routers); });
    // A capture on which every token got the same count would not tell BH from top-k.
    const auto counts = capture.at("bh.expert_counts.0").to_int64();
    CHECK(std::set<std::int64_t>(counts.begin(), counts.end()).size() > 1);
  }
}

TEST_CASE("the tiny checkpoints cover what they are there for") {
  bool gqa = false, clip = false, tied = false, bias = false, renormalised = false, gelu = false;
  bool top1 = false, all_experts = false, odd_experts = false, linear_rope = false, shards = false;
  std::set<std::string> dtypes;
  for (const auto& directory : captured_models()) {
    const Model model(directory);
    const olmoe::Config& c = model.config();
    gqa |= c.num_key_value_heads < c.num_attention_heads;
    clip |= c.clip_qkv.has_value();
    tied |= c.tie_word_embeddings;
    bias |= c.attention_bias;
    renormalised |= c.norm_topk_prob;
    gelu |= c.hidden_act == olmoe::Activation::Gelu;
    top1 |= c.num_experts_per_tok == 1;
    all_experts |= c.num_experts_per_tok == c.num_experts;
    odd_experts |= (c.num_experts & (c.num_experts - 1)) != 0;
    linear_rope |= c.rope_factor != 1.0;
    shards |= model.checkpoint().files().size() >= 3;
    for (const std::string& tensor : model.checkpoint().names())
      dtypes.insert(std::string(olmoe::name(model.checkpoint().at(tensor).dtype)));
  }
  CHECK(gqa);
  CHECK(clip);
  CHECK(tied);
  CHECK(bias);
  CHECK(renormalised);
  CHECK(gelu);
  CHECK(top1);
  CHECK(all_experts);
  CHECK(odd_experts);
  CHECK(linear_rope);
  CHECK(shards);
  CHECK(dtypes == std::set<std::string>{"BF16", "F16", "F32"});
}

TEST_CASE("prefill, decode and any split of a sequence agree to the last bit") {
  const std::filesystem::path directory = source_dir / "reference/model";
  const Model model(directory);
  const auto routers =
      olmoe::make_routers(model.config(), "bh:alpha=0.1,max_k=16", directory / "nulls.safetensors");
  const olmoe::SafetensorsFile capture(directory / "capture.safetensors");
  const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
  const auto ids = batch.sequence(0);

  each_isa([&](olmoe::Isa) {
    olmoe::KvCache whole_cache;
    const auto whole = model.forward(ids, whole_cache, routers, Model::LogitsOf::every_token);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{5}, ids.size() - 1}) {
      olmoe::KvCache cache;
      std::vector<float> pieces;
      for (std::size_t start = 0; start < ids.size(); start += piece) {
        const auto part = ids.subspan(start, std::min(piece, ids.size() - start));
        const auto logits = model.forward(part, cache, routers, Model::LogitsOf::every_token);
        pieces.insert(pieces.end(), logits.begin(), logits.end());
      }
      CHECK(pieces == whole);
    }
    olmoe::KvCache cache;
    const auto last = model.forward(ids, cache, routers, Model::LogitsOf::last_token);
    CHECK(
        std::equal(last.begin(), last.end(), whole.end() - model.config().vocab_size, whole.end()));
  });
}

TEST_CASE("in bf16 too, prefill, decode and any number of threads agree to the last bit") {
  each_bf16([] {
    const Model model(source_dir / "reference/model", olmoe::Compute::bf16);
    const auto routers = native(model);
    const olmoe::SafetensorsFile capture(source_dir / "reference/model/capture.safetensors");
    const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
    const auto ids = batch.sequence(1);

    const int before = omp_get_max_threads();
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{5}, ids.size()}) {
        olmoe::KvCache cache;
        std::vector<float>& result = results.emplace_back();
        for (std::size_t start = 0; start < ids.size(); start += piece) {
          const auto part = ids.subspan(start, std::min(piece, ids.size() - start));
          const auto logits = model.forward(part, cache, routers, Model::LogitsOf::every_token);
          result.insert(result.end(), logits.begin(), logits.end());
        }
      }
    }
    omp_set_num_threads(before);
    for (const auto& result : results) CHECK(result == results.front());

    olmoe::KvCache cache;
    const Model exact(source_dir / "reference/model");
    CHECK(exact.forward(ids, cache, routers, Model::LogitsOf::every_token) != results.front());
  });
}

TEST_CASE("in bf16, logits are within 1.5 % of those in f32 where routing has no choice") {
  each_bf16([] {
    int checkpoints = 0;
    for (const auto& directory : captured_models()) {
      const Model exact(directory);
      if (exact.lm_head().dtype != olmoe::DType::BF16) {
        CAPTURE(directory.string());
        const std::string refusal = error_of([&] { Model(directory, olmoe::Compute::bf16); });
        CHECK(refusal.find(directory.string()) == 0);
        CHECK(refusal.ends_with("; compute 'bf16' needs BF16"));
        continue;
      }
      ++checkpoints;
      CAPTURE(directory.filename().string());
      const Model model(directory, olmoe::Compute::bf16);
      const olmoe::SafetensorsFile capture(directory / "capture.safetensors");
      const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
      // All experts: the least difference would move a cut.
      const auto routers = olmoe::make_routers(
          model.config(), "topk:k=" + std::to_string(model.config().num_experts),
          std::filesystem::path());
      const auto expected = olmoe::run_batch(exact, batch, routers).logits;
      const auto actual = olmoe::run_batch(model, batch, routers).logits;
      CHECK(relative_rms(actual, expected) <= 0.015);
      CHECK(relative_rms(actual, expected) >= 0.0005);
    }
    CHECK(checkpoints >= 6);
  });
}

TEST_CASE(
    "in bf16, the bundled model is near transformers' logits and agrees on every next token") {
  each_bf16([] {
    const Model model(source_dir / "reference/model", olmoe::Compute::bf16);
    const olmoe::SafetensorsFile capture(source_dir / "reference/model/capture.safetensors");
    const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
    const auto expected = capture.at("logits").to_float();
    const auto actual = olmoe::run_batch(model, batch, native(model)).logits;
    CHECK(relative_rms(actual, expected) <= 0.006);
    const auto vocabulary = static_cast<std::ptrdiff_t>(model.config().vocab_size);
    int differing = 0;
    for (std::ptrdiff_t at = 0; at < std::ssize(expected); at += vocabulary) {
      const auto most_likely = [&](const std::vector<float>& logits) {
        const auto row = logits.begin() + at;
        return std::max_element(row, row + vocabulary) - row;
      };
      differing += most_likely(actual) != most_likely(expected);
    }
    CHECK(differing == 0);
  });
}

TEST_CASE("routing is an argument: another policy gives other logits, the native one its own") {
  const Model model(plain());
  const std::vector<std::int32_t> ids{3, 1, 4, 1, 5};
  const auto run = [&](const std::string& policy) {
    olmoe::KvCache cache;
    return model.forward(ids, cache,
                         olmoe::make_routers(model.config(), policy, std::filesystem::path()),
                         Model::LogitsOf::every_token);
  };
  CHECK(run("native") == run("topk:k=2"));
  CHECK(run("native") != run("topk:k=3"));
  CHECK(run("native") == run("bh:alpha=0.3,null=normal,min_k=2,max_k=2"));
}

TEST_CASE("generation stops at an end-of-sequence token, and a seed repeats itself") {
  const Model model(plain());
  const std::vector<std::int32_t> prompt{3, 1, 4};
  const auto run = [&](olmoe::GenerationOptions options) {
    std::vector<std::int32_t> ids;
    const auto statistics = olmoe::generate(model, native(model), prompt, options,
                                            [&](std::int32_t id) { ids.push_back(id); });
    CHECK(statistics.new_tokens == static_cast<std::int64_t>(ids.size()));
    CHECK(statistics.experts.mean() == 2.0);
    return ids;
  };
  const auto sampled = run(
      {.max_new_tokens = 20, .sampling = {.temperature = 3.0}, .seed = 7, .stop_at_eos = false});
  CHECK(sampled.size() == 20);
  CHECK(sampled == run({.max_new_tokens = 20,
                        .sampling = {.temperature = 3.0},
                        .seed = 7,
                        .stop_at_eos = false}));
  CHECK(sampled != run({.max_new_tokens = 20,
                        .sampling = {.temperature = 3.0},
                        .seed = 8,
                        .stop_at_eos = false}));

  // Sample until the eos of this config, 0, turns up: with stop_at_eos the text ends before it.
  std::uint64_t seed = 0;
  std::vector<std::int32_t> free;
  std::size_t eos_at = 0;
  do {
    free = run({.max_new_tokens = 50,
                .sampling = {.temperature = 100.0},
                .seed = ++seed,
                .stop_at_eos = false});
    eos_at = static_cast<std::size_t>(std::find(free.begin(), free.end(), 0) - free.begin());
    REQUIRE(seed < 1000);
  } while (eos_at == 0 || eos_at == free.size());
  const auto stopped =
      run({.max_new_tokens = 50, .sampling = {.temperature = 100.0}, .seed = seed});
  CHECK(stopped == std::vector<std::int32_t>(free.begin(),
                                             free.begin() + static_cast<std::ptrdiff_t>(eos_at)));
}

TEST_CASE("what cannot be run is refused") {
  const Model model(plain());
  const auto routers = native(model);
  const auto message = [&](const std::vector<std::int32_t>& ids) {
    return error_of([&] {
      olmoe::KvCache cache;
      model.forward(ids, cache, routers, Model::LogitsOf::last_token);
    });
  };
  CHECK(message({}) == "the prompt has no tokens");
  CHECK(message({1, 112}) == "token id 112 is outside the vocabulary of 112");
  CHECK(message({-1}) == "token id -1 is outside the vocabulary of 112");
  CHECK(message(std::vector<std::int32_t>(65, 1)) ==
        "a sequence of 65 tokens exceeds max_position_embeddings, 64");
  CHECK(error_of([&] {
          olmoe::generate(model, routers, std::vector<std::int32_t>(60, 1), {.max_new_tokens = 5},
                          [](std::int32_t) {});
        }) == "prompt 1: a prompt of 60 tokens and 5 new ones exceed max_position_embeddings, 64");
  CHECK_THROWS_WITH_AS(olmoe::generate(model, routers, std::vector<std::int32_t>{1},
                                       {.sampling = {.temperature = -1.0}}, [](std::int32_t) {}),
                       "generate: temperature must be finite and at least 0, got -1",
                       std::invalid_argument);
}

TEST_CASE("a checkpoint must have the config's tensors, in its shapes, and no others") {
  const TempDir directory;
  const auto path = directory.path() / "model.safetensors";
  std::filesystem::copy_file(plain() / "config.json", directory.path() / "config.json");
  const olmoe::Checkpoint original(plain());
  const auto message = [&](const auto& change) {
    std::vector<olmoe::NamedTensor> tensors;
    for (const std::string& name : original.names()) {
      const olmoe::Tensor& tensor = original.at(name);
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    }
    change(tensors);
    olmoe::write_safetensors(path, tensors);
    return error_of([&] { Model model(directory.path()); });
  };
  const auto named = [](std::vector<olmoe::NamedTensor>& tensors, const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const auto& tensor) { return tensor.name == name; });
  };
  const std::string gate = "model.layers.1.mlp.gate.weight";

  CHECK(message([](auto&) {}) == "no error");
  const std::string missing = message([&](auto& tensors) { tensors.erase(named(tensors, gate)); });
  CHECK(missing.find(path.string()) != std::string::npos);
  CHECK(missing.find(gate) != std::string::npos);

  const std::string reshaped = message([&](auto& tensors) {
    std::reverse(named(tensors, gate)->shape.begin(), named(tensors, gate)->shape.end());
  });
  CHECK(reshaped.find(gate) != std::string::npos);
  const olmoe::Shape shape = original.at(gate).shape;
  REQUIRE(shape[0] != shape[1]);
  CHECK(reshaped.find(olmoe::to_string(shape)) != std::string::npos);
  CHECK(reshaped.find(olmoe::to_string({shape[1], shape[0]})) != std::string::npos);

  CHECK(message([&](auto& tensors) {
          named(tensors, "model.norm.weight")->name = "model.norm.scale";
        }).find("model.norm.weight") != std::string::npos);
  const std::string extra = message([&](auto& tensors) {
    auto copy = *named(tensors, gate);
    copy.name = "model.layers.2.mlp.gate.weight";
    tensors.push_back(copy);
  });
  CHECK(extra == path.string() +
                     ": tensor 'model.layers.2.mlp.gate.weight' has no place in an OLMoE of this "
                     "config");
}

TEST_CASE("experts saved fused, as transformers 5 has them in memory, give the same bits") {
  const TempDir directory;
  std::filesystem::copy_file(plain() / "config.json", directory.path() / "config.json");
  const olmoe::Checkpoint original(plain());
  FusedExperts fused(original, olmoe::Config::load(plain()));
  olmoe::write_safetensors(directory.path() / "model.safetensors", fused.tensors);

  const std::vector<std::int32_t> ids{1, 2, 3, 5, 8, 13};
  const auto logits = [&](const std::filesystem::path& path) {
    const Model model(path);
    olmoe::KvCache cache;
    return model.forward(ids, cache, native(model), Model::LogitsOf::every_token);
  };
  CHECK(logits(directory.path()) == logits(plain()));

  std::swap(fused.tensors.back().shape[1], fused.tensors.back().shape[2]);
  olmoe::write_safetensors(directory.path() / "model.safetensors", fused.tensors);
  CHECK(error_of([&] { Model model(directory.path()); }).find("down_proj' has shape") !=
        std::string::npos);
}

TEST_CASE("nulls files of both forms load, and unfit ones are refused") {
  const TempDir directory;
  const auto path = directory.path() / "nulls.safetensors";
  const std::vector<double> score{-2.0, 0.0, 3.0};
  const std::vector<double> log_sf{-0.5, -1.0, -4.0};
  const std::vector<double> cdf{0.1, 0.5, 1.0};
  const auto write = [&](std::map<std::string, std::string> metadata, int layers,
                         const std::string& x, const std::string& y, const std::vector<double>& xs,
                         const std::vector<double>& ys) {
    std::vector<olmoe::NamedTensor> tensors;
    for (int l = 0; l < layers; ++l) {
      const std::string prefix = "layer." + std::to_string(l) + ".";
      tensors.push_back(olmoe::NamedTensor::of(prefix + x, {3}, xs));
      tensors.push_back(olmoe::NamedTensor::of(prefix + y, {3}, ys));
    }
    olmoe::write_safetensors(path, tensors, metadata);
  };
  const auto message = [&] { return error_of([&] { olmoe::load_nulls(path, 2); }); };

  write({{"score", "zscore"}, {"trim", "8"}, {"tokens", "100"}, {"model", "m"}}, 2, "score",
        "log_sf", score, log_sf);
  const auto nulls = olmoe::load_nulls(path, 2);
  REQUIRE(nulls.size() == 2);
  CHECK(nulls[1](1.5) == doctest::Approx(std::exp(-2.5)));
  CHECK(nulls[1](4.0) == doctest::Approx(std::exp(-5.0)));
  CHECK(nulls[1].provenance().score == "zscore");
  CHECK(nulls[1].provenance().trim == 8);
  CHECK(nulls[1].provenance().tokens == 100);
  CHECK(nulls[1].provenance().layer == 1);
  CHECK(nulls[1].provenance().model == "m");

  write({}, 2, "x", "cdf", score, cdf);
  CHECK(olmoe::load_nulls(path, 2)[0](-1.0) == doctest::Approx(0.7));
  CHECK(olmoe::load_nulls(path, 2)[0].fitted_on() == "logit");

  write({{"score", "zscore"}}, 1, "score", "log_sf", score, log_sf);
  CHECK(message() == path.string() + ": holds tables for 1 layers, the model has 2");
  write({}, 2, "score", "log_sf", score, log_sf);
  CHECK(message() ==
        path.string() + ": metadata does not say which 'score' the tables were fitted on");
  write({{"score", "zscore"}, {"trim", "few"}}, 2, "score", "log_sf", score, log_sf);
  CHECK(message() == path.string() + ": metadata 'trim' is not a count: 'few'");
  write({{"score", "zscore"}}, 2, "score", "log_sf", {0.0, 2.0, 1.0}, log_sf);
  CHECK(message() ==
        path.string() +
            ": layer 0: TabulatedNull: score[2] = 1 after 2: scores must ascend strictly");
}

TEST_CASE("nulls of the older form: p is 1 - interpolated cdf to 1e-12 at any logit") {
  const TempDir directory;
  const auto path = directory.path() / "nulls.safetensors";
  constexpr std::size_t layers = 3;
  constexpr std::size_t points = 1000;
  std::vector<std::vector<double>> x(layers);
  std::vector<std::vector<double>> cdf(layers);
  std::vector<olmoe::NamedTensor> tensors;
  for (std::size_t l = 0; l < layers; ++l) {
    for (std::size_t i = 0; i < points; ++i) {
      const double share = static_cast<double>(i) / (points - 1);
      x[l].push_back(-6.0 + (10.3 + static_cast<double>(l)) * share);
      cdf[l].push_back(0.5 * std::erfc((1.0 - x[l].back()) / 1.7));
    }
    for (double& value : cdf[l]) value /= cdf[l].back();
    const std::string prefix = "layer." + std::to_string(l) + ".";
    tensors.push_back(olmoe::NamedTensor::of(prefix + "x", {points}, x[l]));
    tensors.push_back(olmoe::NamedTensor::of(prefix + "cdf", {points}, cdf[l]));
  }
  olmoe::write_safetensors(path, tensors, {});
  const auto nulls = olmoe::load_nulls(path, static_cast<int>(layers));
  for (std::size_t l = 0; l < layers; ++l) {
    CHECK(nulls[l].fitted_on() == "logit");
    for (const double logit : {-9.0, -2.0, 0.0, 2.0, 4.0, 4.3, 5.0}) {
      CAPTURE(logit);
      // Straight from the definition: find the segment, go along it.
      double expected = logit <= x[l].front() ? cdf[l].front() : cdf[l].back();
      for (std::size_t i = 1; i < points; ++i) {
        if (x[l][i - 1] < logit && logit <= x[l][i]) {
          const double t = (logit - x[l][i - 1]) / (x[l][i] - x[l][i - 1]);
          expected = (1.0 - t) * cdf[l][i - 1] + t * cdf[l][i];
        }
      }
      CHECK(std::abs(nulls[l](logit) - (1.0 - expected)) <= 1e-12);
    }
  }
}

TEST_CASE("a policy that the nulls cannot serve is refused") {
  const std::filesystem::path directory = source_dir / "reference/model";
  const olmoe::Config config = olmoe::Config::load(directory);
  const auto nulls = directory / "nulls.safetensors";
  CHECK(error_of([&] { olmoe::make_routers(config, "bh:score=logit", nulls); }) ==
        nulls.string() +
            ": Router: the null distribution was fitted on score 'log_softmax', the router uses "
            "'logit'; to fit nulls on that score: olmoe calibrate --score logit --model DIR --text "
            "FILE --out nulls.safetensors");
  CHECK_THROWS_WITH_AS(olmoe::make_routers(config, "bh", std::filesystem::path()),
                       "policy 'bh' needs a null distribution: give a fitted one, or null=normal; "
                       "to fit one: olmoe calibrate --model DIR --text FILE --out "
                       "nulls.safetensors",
                       std::invalid_argument);
  CHECK(olmoe::make_routers(config, "native", std::filesystem::path()).front().policy() ==
        "topk:k=8,min_k=1,max_k=64,temperature=1,renormalize=false");
}

TEST_CASE("a step is shared among threads if it is long: what docs/reference-model.md says") {
  const auto shared = [](std::int64_t rows, std::int64_t cols, std::int64_t tokens) {
    const auto bytes = static_cast<std::size_t>(2 * rows * cols);
    return olmoe::worth_sharing(olmoe::product_time(bytes, rows * cols * tokens));
  };
  // The bundled model: hidden 128, intermediate 64, 8 experts of 64, vocabulary 4096.
  CHECK(!shared(3 * 128, 128, 1));
  CHECK(!shared(8 * 2 * 64, 128, 1));
  CHECK(!shared(4096, 128, 1));
  CHECK(shared(4096, 128, 16));
  CHECK(shared(3 * 128, 128, 512));
  // OLMoE-1B-7B: hidden 2048, intermediate 1024, vocabulary 50304.
  CHECK(!shared(64, 2048, 1));
  CHECK(shared(3 * 2048, 2048, 1));
  CHECK(shared(2048, 2048, 1));
  CHECK(shared(2 * 1024, 2048, 1));
  CHECK(shared(8 * 1024, 2048, 1));
  CHECK(shared(50304, 2048, 1));
}
