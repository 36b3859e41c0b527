#include "forward/plain_forward.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "reference/captured_models.hpp"
#include "reference/error_of.hpp"
#include "reference/forward/fused_experts.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Model;
using Routers = std::vector<fdroute::AnyRouter>;

/// The capture's routing by a policy string, from the nulls file that it names.
Routers captured_routers(const Model& model, const olmoe::SafetensorsFile& capture,
                         const std::filesystem::path& directory) {
  const std::string nulls = metadata(capture, "bh.nulls");
  return olmoe::make_routers(model.config(), metadata(capture, "bh.policy"),
                             nulls.empty() ? std::filesystem::path() : directory / nulls);
}

Routers native_routers(const Model& model) {
  return olmoe::make_routers(model.config(), olmoe::native_policy, std::filesystem::path());
}

/// Rows [first, first + rows) of a captured array.
template <class T>
std::vector<T> rows_of(const std::vector<T>& values, std::size_t first, std::size_t rows,
                       std::size_t all_rows) {
  const std::size_t cols = values.size() / all_rows;
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first * cols);
  return {begin, begin + static_cast<std::ptrdiff_t>(rows * cols)};
}

/// plain_forward() against what transformers computed on every captured sequence.
void check_capture(const Model& model, const olmoe::SafetensorsFile& capture,
                   const std::string& prefix, const Routers& routers) {
  const olmoe::TokenBatch batch = olmoe::token_batch(capture.at("input_ids"));
  const auto length = static_cast<std::size_t>(batch.length);
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const auto captured = [&](const std::string& name) {
      return rows_of(capture.at(prefix + name).to_float(), static_cast<std::size_t>(s) * length,
                     length, batch.ids.size());
    };
    const auto captured_ids = [&](const std::string& name) {
      return rows_of(capture.at(prefix + name).to_int64(), static_cast<std::size_t>(s) * length,
                     length, batch.ids.size());
    };
    const auto result =
        olmoe::plain_forward(model.config(), model.checkpoint(), batch.sequence(s), routers);
    CHECK(distance(result.logits, captured("logits")) <= 1e-4);
    REQUIRE(result.routing.size() == model.layers().size());
    for (std::size_t l = 0; l < result.routing.size(); ++l) {
      const olmoe::PlainRouting& routing = result.routing[l];
      const std::string suffix = "." + std::to_string(l);
      CHECK(distance(routing.logits, captured("router_logits" + suffix)) <= 1e-4);
      if (prefix.empty()) continue;
      CHECK(widen(routing.counts) == captured_ids("expert_counts" + suffix));
      CHECK(widen(routing.experts) == captured_ids("selected_experts" + suffix));
      CHECK(distance(routing.weights, captured("routing_weights" + suffix)) <= 1e-5);
    }
  }
}

/// Model against plain_forward(): logits within 1e-4, every token's experts equal.
void check_model(const Model& model, std::span<const std::int32_t> ids, const Routers& routers) {
  const auto expected = olmoe::plain_forward(model.config(), model.checkpoint(), ids, routers);
  olmoe::KvCache cache;
  olmoe::ForwardTrace trace;
  const auto logits = model.forward(ids, cache, routers, Model::LogitsOf::every_token, &trace);
  CHECK(distance(logits, expected.logits) <= 1e-4);
  REQUIRE(trace.routing.size() == expected.routing.size());
  for (std::size_t l = 0; l < trace.routing.size(); ++l) {
    CHECK(trace.routing[l].experts == expected.routing[l].experts);
    CHECK(trace.routing[l].counts == expected.routing[l].counts);
    CHECK(distance(trace.routing[l].weights, expected.routing[l].weights) <= 1e-5);
  }
}

}  // namespace

TEST_CASE("plain_forward gives transformers' logits and routing on every captured checkpoint") {
  for (const auto& directory : captured_models()) {
    CAPTURE(directory.filename().string());
    const Model model(directory);
    const olmoe::SafetensorsFile capture(directory / "capture.safetensors");
    check_capture(model, capture, "", native_routers(model));
    check_capture(model, capture, "bh.", captured_routers(model, capture, directory));
  }
}

TEST_CASE("Model gives plain_forward's logits and experts on every captured checkpoint") {
  for (const auto& directory : captured_models()) {
    CAPTURE(directory.filename().string());
    const Model model(directory);
    const olmoe::SafetensorsFile capture(directory / "capture.safetensors");
    // As many tokens as the tiny models take, of which some come twice.
    std::vector<std::int32_t> ids;
    for (std::int32_t i = 0; i < 64; ++i) ids.push_back(i * i * 7 % model.config().vocab_size);
    check_model(model, ids, native_routers(model));
    check_model(model, ids, captured_routers(model, capture, directory));
  }
}

TEST_CASE("Model gives plain_forward's logits with every activation") {
  const auto plain = source_dir / "tests/data/tiny/plain";
  std::ifstream file(plain / "config.json");
  const std::string config{std::istreambuf_iterator<char>(file), {}};
  const std::string silu = R"("hidden_act": "silu")";
  REQUIRE(config.find(silu) != std::string::npos);
  const std::vector<std::int32_t> ids{3, 1, 4, 1, 5, 9, 2, 6};

  std::vector<std::vector<float>> results;
  for (const std::string name : {"silu", "gelu", "gelu_pytorch_tanh", "relu"}) {
    CAPTURE(name);
    const TempDir directory;
    std::string changed = config;
    changed.replace(changed.find(silu), silu.size(), R"("hidden_act": ")" + name + '"');
    directory.write("config.json", changed);
    std::filesystem::copy_file(plain / "model.safetensors", directory.path() / "model.safetensors");
    const Model model(directory.path());
    check_model(model, ids, native_routers(model));
    results.push_back(
        olmoe::plain_forward(model.config(), model.checkpoint(), ids, native_routers(model))
            .logits);
  }
  for (std::size_t i = 1; i < results.size(); ++i) CHECK(results[i] != results[i - 1]);
}

TEST_CASE("plain_forward reads fused experts, to the bits of those that are a tensor per matrix") {
  const auto plain = source_dir / "tests/data/tiny/plain";
  const Model model(plain);
  FusedExperts fused(model.checkpoint(), model.config());
  const TempDir directory;
  const std::vector<std::int32_t> ids{3, 1, 4, 1, 5, 9, 2, 6};
  const auto logits = [&](const olmoe::Checkpoint& checkpoint) {
    return olmoe::plain_forward(model.config(), checkpoint, ids, native_routers(model)).logits;
  };
  const auto write = [&] {
    olmoe::write_safetensors(directory.path() / "model.safetensors", fused.tensors);
    return olmoe::Checkpoint(directory.path());
  };
  CHECK(logits(write()) == logits(model.checkpoint()));

  std::swap(fused.tensors.back().shape[1], fused.tensors.back().shape[2]);
  CHECK(error_of([&] { logits(write()); }).find("down_proj' has shape") != std::string::npos);
}

TEST_CASE("plain_forward refuses what Model refuses") {
  const Model model(source_dir / "tests/data/tiny/plain");
  const auto message = [&](const std::vector<std::int32_t>& ids, const Routers& routers) {
    return error_of(
        [&] { olmoe::plain_forward(model.config(), model.checkpoint(), ids, routers); });
  };
  const Routers routers = native_routers(model);
  CHECK(message({1}, routers) == "no error");
  CHECK(message({}, routers) == "plain_forward: the prompt has no tokens or too many");
  CHECK(message(std::vector<std::int32_t>(65, 1), routers) ==
        "plain_forward: the prompt has no tokens or too many");
  CHECK(message({1, 112}, routers) == "plain_forward: a token id is outside the vocabulary");
  CHECK(message({-1}, routers) == "plain_forward: a token id is outside the vocabulary");
  CHECK(message({1}, {routers[0]}) == "plain_forward: there must be one router per layer");
}
