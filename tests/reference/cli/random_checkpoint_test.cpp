#include "cli/random_checkpoint.hpp"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

namespace fs = std::filesystem;
using olmoe::DType;
using olmoe::Model;

const fs::path tiny = fs::path(FDROUTE_SOURCE_DIR) / "tests/data/tiny";

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// The config of a model large enough that every parallel region runs in parallel.
fs::path wide_config(const TempDir& directory) {
  nlohmann::json config = nlohmann::json::parse(read(tiny / "plain/config.json"));
  config["hidden_size"] = 256;
  config["intermediate_size"] = 160;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["max_position_embeddings"] = 1024;
  return directory.write("wide.json", config.dump());
}

std::vector<float> run(const Model& model, const std::vector<std::int32_t>& ids,
                       std::size_t piece) {
  const auto routers = olmoe::make_routers(model.config(), olmoe::native_policy, fs::path());
  olmoe::KvCache cache;
  std::vector<float> logits;
  for (std::size_t start = 0; start < ids.size(); start += piece) {
    const auto part = std::span(ids).subspan(start, std::min(piece, ids.size() - start));
    const auto more = model.forward(part, cache, routers, Model::LogitsOf::every_token);
    logits.insert(logits.end(), more.begin(), more.end());
  }
  return logits;
}

}  // namespace

TEST_CASE("a random checkpoint has the tensors that the model asks for, for every config") {
  for (const auto& entry : fs::directory_iterator(tiny)) {
    CAPTURE(entry.path().filename().string());
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      const TempDir out;
      olmoe::make_random_checkpoint({.config = entry.path() / "config.json",
                                     .out = out.path() / "new" / "model",
                                     .seed = 1,
                                     .dtype = dtype});
      const Model model(out.path() / "new" / "model");
      for (const std::string& name : model.checkpoint().names())
        CHECK(model.checkpoint().at(name).dtype == dtype);
      for (const float logit : run(model, {1, 2, 3}, 3)) REQUIRE(std::isfinite(logit));
    }
  }
}

TEST_CASE("its weights are spread as they should be, and depend on the seed alone") {
  const TempDir out;
  const auto make = [&](const std::string& name, std::uint64_t seed, std::uint64_t shard_size) {
    olmoe::make_random_checkpoint({.config = wide_config(out),
                                   .out = out.path() / name,
                                   .seed = seed,
                                   .dtype = DType::F32,
                                   .max_shard_size = shard_size});
    return olmoe::Checkpoint(out.path() / name);
  };
  const auto one = make("one", 1, 1'000'000'000);
  const auto shards = make("shards", 1, 1'000'000);
  const auto other = make("other", 2, 1'000'000'000);
  CHECK(one.files().size() == 1);
  CHECK(shards.files().size() > 2);
  CHECK(shards.files().front().filename().string().starts_with("model-00001-of-000"));
  for (const fs::path& file : shards.files()) CHECK(fs::file_size(file) < 1'200'000);

  double sum = 0.0;
  double squares = 0.0;
  double count = 0.0;
  for (const std::string& name : one.names()) {
    const auto values = one.at(name).to_float();
    CHECK(values == shards.at(name).to_float());
    if (name.ends_with("norm.weight")) {
      CHECK(std::count(values.begin(), values.end(), 1.0F) == std::ssize(values));
      continue;
    }
    CHECK(values != other.at(name).to_float());
    for (const float v : values) {
      REQUIRE(std::abs(v) < 0.0694F);  // 0.02 x 2 sqrt 3
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
      ++count;
    }
  }
  // Five standard errors.
  CHECK(std::abs(sum / count) < 5 * 0.02 / std::sqrt(count));
  CHECK(std::sqrt(squares / count) == doctest::Approx(0.02).epsilon(5 / std::sqrt(count)));

  CHECK(error_of([&] { make("one", 1, 1); }) ==
        (out.path() / "one").string() + ": holds weights already, model.safetensors");
}

TEST_CASE("threads and pieces change no bit of a result, beyond one chunk of tokens too") {
  const TempDir out;
  olmoe::make_random_checkpoint(
      {.config = wide_config(out), .out = out.path() / "model", .seed = 3});
  const Model model(out.path() / "model");
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 600; ++i) ids.push_back(i * 7 % model.config().vocab_size);

  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto whole = run(model, ids, ids.size());
  REQUIRE(whole.size() == ids.size() * static_cast<std::size_t>(model.config().vocab_size));
  for (const int n : {1, 2, 5}) {
    omp_set_num_threads(n);
    CHECK(run(model, ids, ids.size()) == whole);
    CHECK(run(model, ids, 77) == whole);
  }
  CHECK(run(model, ids, 1) == whole);
  omp_set_num_threads(threads);
}
