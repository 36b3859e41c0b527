// Keys and values that are rounded: what is stored, what attention makes of it, and that a
// sequence's bits depend on nothing else.

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/float16.hpp"
#include "formats/safetensors_writer.hpp"
#include "forward/attention.hpp"
#include "forward/model.hpp"
#include "forward/plain_forward.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"
#include "reference/captured_models.hpp"
#include "reference/each_isa.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace {

using olmoe::LayerCache;
using olmoe::Model;
using olmoe::Storage;

constexpr std::array storages{Storage::f32, Storage::f16, Storage::bf16};

std::filesystem::path plain_model() {
  return source_dir / "tests/data/tiny/plain";
}

float rounded(Storage storage, float x) {
  if (storage == Storage::f16) return olmoe::to_float(olmoe::to_half(x));
  if (storage == Storage::bf16) return olmoe::to_float(olmoe::to_bfloat16(x));
  return x;
}

/// Element `i` of a part of a cache.
float element(const LayerCache& cache, const std::vector<LayerCache::Line>& part, std::size_t i) {
  const std::byte* at = reinterpret_cast<const std::byte*>(part.data()) + i * size(cache.storage);
  if (cache.storage == Storage::f32) {
    float value = 0.0F;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return cache.storage == Storage::f16 ? olmoe::to_float(olmoe::Half{bits})
                                       : olmoe::to_float(olmoe::BFloat16{bits});
}

/// A config of `heads` heads of `dim`.
olmoe::Config config_of(int heads, int dim) {
  olmoe::Config config{};
  config.hidden_size = heads * dim;
  config.num_attention_heads = config.num_key_value_heads = heads;
  config.num_hidden_layers = 1;
  return config;
}

/// What is stored of `x` as a value, and whether it was taken.
std::pair<float, bool> stored(Storage storage, float x) {
  const olmoe::Config config = config_of(1, 2);
  LayerCache cache{.storage = storage};
  olmoe::reserve(config, cache, 1, 0);
  const std::vector<float> key{0.0F, 0.0F};
  const bool fits = olmoe::store(config, cache, 0, key, std::vector<float>{0.0F, x});
  // A key is looked at as a value is.
  CHECK(olmoe::store(config, cache, 0, std::vector<float>{x, 0.0F}, key) == fits);
  CHECK(olmoe::store(config, cache, 0, key, std::vector<float>{0.0F, x}) == fits);
  return {element(cache, cache.values, 1), fits};
}

std::vector<fdroute::AnyRouter> routers_of(const Model& model, const std::string& policy) {
  return olmoe::make_routers(model.config(), policy, std::filesystem::path());
}

std::vector<std::int32_t> some_tokens(const Model& model, int n) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random() % static_cast<unsigned>(model.config().vocab_size));
  return ids;
}

/// y = W x + bias in double, one token. x (cols).
std::vector<double> project(const olmoe::Matrix& w, const std::vector<float>& bias,
                            const std::vector<double>& x) {
  std::vector<double> y(static_cast<std::size_t>(w.rows));
  std::vector<float> row(static_cast<std::size_t>(w.cols));
  for (std::size_t r = 0; r < y.size(); ++r) {
    olmoe::copy_row(w, static_cast<std::int64_t>(r), row);
    for (std::size_t c = 0; c < row.size(); ++c) y[r] += static_cast<double>(row[c]) * x[c];
    if (!bias.empty()) y[r] += static_cast<double>(bias[r]);
  }
  return y;
}

/// The definition of attention for the last token of x (tokens, hidden), in double, of the keys and
/// values that `exact` holds, rounded to `storage`.
std::vector<double> definition(const olmoe::Config& config, const olmoe::AttentionWeights& w,
                               const LayerCache& exact, Storage storage,
                               const std::vector<float>& x) {
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  const auto dim = static_cast<std::size_t>(config.head_dim());
  const std::size_t tokens = x.size() / hidden;
  const std::vector<double> token(x.end() - static_cast<std::ptrdiff_t>(hidden), x.end());
  std::vector<double> q = project(w.q, w.q_bias, token);
  double squares = 0.0;
  for (const double v : q) squares += v * v;
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(hidden) +
                                       static_cast<double>(config.rms_norm_eps));
  std::vector<float> query(hidden);
  for (std::size_t i = 0; i < hidden; ++i) {
    const double limit = config.clip_qkv ? static_cast<double>(*config.clip_qkv) : HUGE_VAL;
    query[i] = static_cast<float>(
        std::clamp(q[i] * scale * static_cast<double>(w.q_norm[i]), -limit, limit));
  }
  olmoe::RotaryEmbedding(config).rotate(query, static_cast<std::int64_t>(tokens) - 1);

  std::vector<double> mixed(hidden);
  const auto heads = static_cast<std::size_t>(config.num_attention_heads);
  const auto kv_heads = static_cast<std::size_t>(config.num_key_value_heads);
  for (std::size_t head = 0; head < heads; ++head) {
    const auto seen = [&](const std::vector<LayerCache::Line>& part, std::size_t position,
                          std::size_t i) {
      const std::size_t row =
          head / (heads / kv_heads) * static_cast<std::size_t>(exact.capacity) + position;
      return static_cast<double>(rounded(storage, element(exact, part, row * dim + i)));
    };
    std::vector<double> p(tokens);
    for (std::size_t s = 0; s < tokens; ++s) {
      for (std::size_t i = 0; i < dim; ++i)
        p[s] += static_cast<double>(query[head * dim + i]) * seen(exact.keys, s, i);
      p[s] /= std::sqrt(static_cast<double>(dim));
    }
    const double largest = *std::max_element(p.begin(), p.end());
    double total = 0.0;
    for (double& v : p) total += v = std::exp(v - largest);
    for (std::size_t s = 0; s < tokens; ++s) {
      for (std::size_t i = 0; i < dim; ++i)
        mixed[head * dim + i] += p[s] / total * seen(exact.values, s, i);
    }
  }
  return project(w.o, w.o_bias, mixed);
}

/// The largest |a - b|.
double apart(const std::vector<double>& a, std::span<const float> b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - static_cast<double>(b[i]));
    if (!(d <= largest)) largest = std::isnan(d) ? HUGE_VAL : d;
  }
  return largest;
}

/// Root of mean square of the differences, over that of the values expected.
double relative(const std::vector<float>& actual, const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  double squares = 0.0;
  double differences = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto e = static_cast<double>(expected[i]);
    const double d = static_cast<double>(actual[i]) - e;
    squares += e * e;
    differences += d * d;
  }
  return std::sqrt(differences / squares);
}

}  // namespace

TEST_CASE("a key or value is rounded to nearest, ties to even, and what is too large is refused") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const auto f16 = [](float x) { return stored(Storage::f16, x); };
  using Stored = std::pair<float, bool>;
  CHECK(f16(1.0F + 0x1p-11F) == Stored{1.0F, true});  // half-way
  CHECK(f16(1.0F + 0x3p-11F) == Stored{1.0F + 0x1p-9F, true});
  CHECK(f16(1.0F + 0x1.002p-11F) == Stored{1.0F + 0x1p-10F, true});
  CHECK(f16(-65504.0F) == Stored{-65504.0F, true});
  CHECK(f16(std::nextafter(65520.0F, 0.0F)) == Stored{65504.0F, true});
  CHECK(f16(65520.0F) == Stored{infinity, false});
  CHECK(f16(-65520.0F) == Stored{-infinity, false});
  CHECK(f16(std::numeric_limits<float>::max()) == Stored{infinity, false});
  CHECK(f16(0x1p-24F) == Stored{0x1p-24F, true});  // the least denormal
  CHECK(f16(0x1.8p-24F) == Stored{0x1p-23F, true});
  CHECK(f16(0x1p-25F) == Stored{0.0F, true});
  CHECK(std::signbit(f16(-0x1p-26F).first));
  CHECK(f16(0x1.ff8p-15F) == Stored{0x1.ff8p-15F, true});

  const auto bf16 = [](float x) { return stored(Storage::bf16, x); };
  CHECK(bf16(1.0F + 0x1p-8F) == Stored{1.0F, true});
  CHECK(bf16(1.0F + 0x3p-8F) == Stored{1.0F + 0x1p-6F, true});
  CHECK(bf16(65520.0F) == Stored{65536.0F, true});
  CHECK(bf16(0x1.fefffep127F) == Stored{0x1.fep127F, true});
  CHECK(bf16(0x1.ffp127F) == Stored{infinity, false});
  CHECK(bf16(-std::numeric_limits<float>::max()) == Stored{-infinity, false});
  CHECK(bf16(0x1p-133F) == Stored{0x1p-133F, true});  // the least denormal
  CHECK(bf16(0x1p-134F) == Stored{0.0F, true});

  CHECK(stored(Storage::f32, std::numeric_limits<float>::max()) ==
        Stored{std::numeric_limits<float>::max(), true});
  CHECK(stored(Storage::f32, 0x1.000002p0F) == Stored{0x1.000002p0F, true});
  // What is no finite number is a fault of the weights, which is found where it does harm.
  for (const Storage storage : storages) {
    CHECK(stored(storage, -infinity) == Stored{-infinity, true});
    const auto [value, fits] = stored(storage, std::numeric_limits<float>::quiet_NaN());
    CHECK(std::isnan(value));
    CHECK(fits);
  }
}

TEST_CASE("a cache that grows keeps what it holds, a head after the other") {
  const olmoe::Config config = config_of(3, 6);
  for (const Storage storage : storages) {
    LayerCache cache{.storage = storage};
    const auto number = [](int position, int i, bool key) {
      return static_cast<float>(position * 100 + i + (key ? 0 : 50));
    };
    std::int64_t grown = 0;
    for (int position = 0; position < 20; ++position) {
      const std::int64_t before = cache.capacity;
      olmoe::reserve(config, cache, position + 1, position);
      grown += cache.capacity != before;
      std::vector<float> key;
      std::vector<float> value;
      for (int i = 0; i < 18; ++i) {
        key.push_back(number(position % 2, i, true));
        value.push_back(number(position % 2, i, false));
      }
      REQUIRE(olmoe::store(config, cache, position, key, value));
    }
    CHECK(grown == 6);  // to 1, 2, 4 ... 32
    CHECK(cache.capacity == 32);
    CHECK(std::bit_cast<std::uintptr_t>(cache.keys.data()) % 64 == 0);
    for (int position = 0; position < 20; ++position) {
      for (int i = 0; i < 18; ++i) {
        const auto at = static_cast<std::size_t>((i / 6 * 32 + position) * 6 + i % 6);
        CHECK(element(cache, cache.keys, at) == number(position % 2, i, true));
        CHECK(element(cache, cache.values, at) == number(position % 2, i, false));
      }
    }
  }
}

TEST_CASE("attention is the definition's, of rounded keys and values, on every checkpoint") {
  for (const auto& directory : captured_models()) {
    CAPTURE(directory.filename().string());
    const Model model(directory);
    const olmoe::Config& config = model.config();
    const olmoe::AttentionWeights& weights = model.layers().front().attention;
    constexpr std::size_t tokens = 45;
    const auto hidden = static_cast<std::size_t>(config.hidden_size);
    std::vector<float> x(tokens * hidden);
    std::mt19937 random(1);
    for (float& v : x) v = static_cast<float>(random() >> 8) * 0x1p-22F - 2.0F;
    const olmoe::Stretch stretch{.tokens = tokens};
    const auto run = [&](Storage storage, LayerCache& cache) {
      cache.storage = storage;
      LayerCache* const caches[] = {&cache};
      std::vector<float> out(x.size());
      REQUIRE(olmoe::attend(config, weights, olmoe::RotaryEmbedding(config), x, {&stretch, 1},
                            caches, out) == tokens);
      return out;
    };
    each_isa([&](olmoe::Isa) {
      LayerCache exact;
      const auto last = [&](const std::vector<float>& out) { return std::span(out).last(hidden); };
      const auto in_float = run(Storage::f32, exact);
      for (const Storage storage : storages) {
        CAPTURE(olmoe::name(storage));
        LayerCache cache;
        const auto out = run(storage, cache);
        // The keys and values are those of float, rounded.
        REQUIRE(cache.capacity == exact.capacity);
        const auto elements = static_cast<std::size_t>(cache.capacity * config.num_key_value_heads *
                                                       config.head_dim());
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < elements; ++i) {
          wrong += element(cache, cache.keys, i) != rounded(storage, element(exact, exact.keys, i));
          wrong +=
              element(cache, cache.values, i) != rounded(storage, element(exact, exact.values, i));
        }
        CHECK(wrong == 0);

        const auto expected = definition(config, weights, exact, storage, x);
        double largest = 0.0;
        for (const double v : expected) largest = std::max(largest, std::abs(v));
        CHECK(apart(expected, last(out)) <= 2e-5 * largest);
        // Of unrounded ones it is farther away.
        if (storage != Storage::f32) CHECK(apart(expected, last(in_float)) > 5e-5 * largest);
      }
    });
  }
}

TEST_CASE("with rounded keys and values, Model is near plain_forward's logits of such") {
  for (const auto& directory : captured_models()) {
    CAPTURE(directory.filename().string());
    const Model exact(directory);
    // All experts: the least difference would move a cut. A number next to a half-way point may be
    // rounded to either side.
    const auto routers = routers_of(exact, "topk:k=" + std::to_string(exact.config().num_experts));
    const auto ids = some_tokens(exact, 48);
    const auto unrounded =
        olmoe::plain_forward(exact.config(), exact.checkpoint(), ids, routers).logits;
    for (const Storage storage : {Storage::f16, Storage::bf16}) {
      CAPTURE(olmoe::name(storage));
      const auto expected =
          olmoe::plain_forward(exact.config(), exact.checkpoint(), ids, routers, storage).logits;
      const Model model(directory, olmoe::Compute::f32, storage);
      CHECK(model.kv() == storage);
      olmoe::KvCache cache;
      const auto logits = model.forward(ids, cache, routers, Model::LogitsOf::every_token);
      const double near = relative(logits, expected);
      const double rounding = relative(unrounded, expected);
      CHECK(rounding > 0.0);
      CHECK(rounding <= (storage == Storage::f16 ? 0.002 : 0.015));
      CHECK(near <= 0.2 * rounding);
    }
  }
}

TEST_CASE("with rounded keys and values, pieces, threads and instruction sets change no bit") {
  for (const Storage storage : {Storage::f16, Storage::bf16}) {
    CAPTURE(olmoe::name(storage));
    const Model model(source_dir / "reference/model", olmoe::Compute::f32, storage);
    const auto routers = routers_of(model, olmoe::native_policy);
    const auto ids = some_tokens(model, 150);
    const int before = omp_get_max_threads();
    std::vector<std::vector<float>> fused;
    each_isa([&](olmoe::Isa isa) {
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 3}) {
        omp_set_num_threads(threads);
        for (const std::size_t piece :
             {std::size_t{1}, std::size_t{13}, std::size_t{70}, ids.size()}) {
          olmoe::KvCache cache;
          std::vector<float>& result = results.emplace_back();
          for (std::size_t start = 0; start < ids.size(); start += piece) {
            const auto part = std::span(ids).subspan(start, std::min(piece, ids.size() - start));
            const auto logits = model.forward(part, cache, routers, Model::LogitsOf::every_token);
            result.insert(result.end(), logits.begin(), logits.end());
          }
        }
      }
      for (const auto& result : results) CHECK(result == results.front());
      if (isa != olmoe::Isa::baseline) fused.push_back(results.front());
    });
    omp_set_num_threads(before);
    for (const auto& result : fused) CHECK(result == fused.front());
    const Model exact(source_dir / "reference/model");
    olmoe::KvCache cache;
    CHECK(exact.forward(ids, cache, routers, Model::LogitsOf::every_token) != fused.front());
  }
}

TEST_CASE("a number too large for the cache is an error that names layer, token and sequence") {
  // The values of layer 1 are some 10^6 as large, and the output takes it back.
  const TempDir directory;
  std::filesystem::copy_file(plain_model() / "config.json", directory.path() / "config.json");
  const olmoe::Checkpoint original(plain_model());
  std::vector<olmoe::NamedTensor> tensors;
  std::array<std::vector<float>, 2> scaled;
  for (const std::string& name : original.names()) {
    const olmoe::Tensor& tensor = original.at(name);
    const bool v = name == "model.layers.1.self_attn.v_proj.weight";
    if (!v && name != "model.layers.1.self_attn.o_proj.weight") {
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
      continue;
    }
    std::vector<float>& values = scaled[v ? 0 : 1];
    values = tensor.to_float();
    for (float& value : values) value *= v ? 0x1p20F : 0x1p-20F;
    tensors.push_back(olmoe::NamedTensor::of(name, tensor.shape, values));
  }
  olmoe::write_safetensors(directory.path() / "model.safetensors", tensors);

  const std::vector<std::int32_t> ids{1, 2, 3};
  const auto run = [&](Storage storage) {
    const Model model(directory.path(), olmoe::Compute::f32, storage);
    olmoe::KvCache caches[2];
    const olmoe::Sequence sequences[] = {{ids, &caches[0]}, {ids, &caches[1]}};
    const auto routers = routers_of(model, olmoe::native_policy);
    olmoe::PolicyRouting source(routers);
    return model.forward(sequences, source, Model::LogitsOf::every_token);
  };
  CHECK(error_of([&] { run(Storage::f16); }) ==
        directory.path().string() +
            ": layer 1: a key or value of token 0 of sequence 0 is too large for a cache of f16");
  // The scale is a power of two.
  const Model unscaled(plain_model());
  olmoe::KvCache cache;
  auto expected = unscaled.forward(ids, cache, routers_of(unscaled, olmoe::native_policy),
                                   Model::LogitsOf::every_token);
  const std::vector<float> once = expected;
  expected.insert(expected.end(), once.begin(), once.end());
  CHECK(run(Storage::f32) == expected);
  CHECK(relative(run(Storage::bf16), expected) <= 0.02);
}

TEST_CASE("a model refuses a cache of another storage") {
  const Model in_float(plain_model());
  const Model in_half(plain_model(), olmoe::Compute::f32, Storage::f16);
  const std::vector<std::int32_t> ids{1, 2};
  const auto routers = routers_of(in_float, olmoe::native_policy);
  olmoe::KvCache cache;
  in_half.forward(ids, cache, routers, Model::LogitsOf::no_token);
  CHECK(error_of([&] { in_float.forward(ids, cache, routers, Model::LogitsOf::no_token); }) ==
        "a cache of f16 given to a model that has f32");
  in_half.forward(ids, cache, routers, Model::LogitsOf::no_token);
  CHECK(cache.positions == 4);
}

TEST_CASE("rounded keys and values change the bundled model's perplexity by less than 0.1 %") {
  const std::filesystem::path directory = source_dir / "reference/model";
  const std::vector<std::string> files{(directory / "development/jargon.txt").string()};
  auto texts = olmoe::load_texts(files, olmoe::Tokenizer::load(directory / "tokenizer.json"));
  texts.front() = olmoe::first_tokens(texts.front(), 1500);
  const auto perplexity = [&](Storage storage) {
    const Model model(directory, olmoe::Compute::f32, storage);
    const auto routers = routers_of(model, olmoe::native_policy);
    return olmoe::evaluate(model, routers, texts, {.window = 512, .stride = 512})
        .total.perplexity.value;
  };
  const double in_float = perplexity(Storage::f32);
  for (const Storage storage : {Storage::f16, Storage::bf16}) {
    const double rounded_ones = perplexity(storage);
    CHECK(rounded_ones != in_float);
    CHECK(std::abs(rounded_ones / in_float - 1.0) <= 0.001);
  }
}
