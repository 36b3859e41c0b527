// Several sequences together: Model::forward of many and generate() of many prompts, against each
// sequence alone.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "formats/safetensors_writer.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "reference/captured_models.hpp"
#include "reference/each_isa.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Model;
using TokenIds = std::vector<std::int32_t>;
using Routers = std::vector<fdroute::AnyRouter>;

std::filesystem::path plain_checkpoint() {
  return source_dir / "tests/data/tiny/plain";
}

Routers adaptive(const Model& model) {
  return olmoe::make_routers(model.config(), "bh:alpha=0.3,null=normal,score=zscore,max_k=3",
                             std::filesystem::path());
}

TokenIds some_ids(const Model& model, int n, unsigned seed) {
  std::mt19937 random(seed);
  TokenIds ids(static_cast<std::size_t>(n));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random() % static_cast<unsigned>(model.config().vocab_size));
  return ids;
}

/// A run of one sequence: logits, what was left in its trace and in its cache.
struct SequenceRun {
  std::vector<float> logits;
  olmoe::ForwardTrace trace;
  olmoe::KvCache cache;
};

void check_equal(const SequenceRun& a, const SequenceRun& b) {
  CHECK(a.logits == b.logits);
  CHECK(a.trace.hidden_states == b.trace.hidden_states);
  REQUIRE(a.trace.routing.size() == b.trace.routing.size());
  for (std::size_t l = 0; l < a.trace.routing.size(); ++l) {
    CHECK(a.trace.routing[l].logits == b.trace.routing[l].logits);
    CHECK(a.trace.routing[l].experts == b.trace.routing[l].experts);
    CHECK(a.trace.routing[l].weights == b.trace.routing[l].weights);
    CHECK(a.trace.routing[l].counts == b.trace.routing[l].counts);
  }
  CHECK(a.cache.positions == b.cache.positions);
}

/// Runs each sequence's ids in pieces of `piece`, one after the other.
std::vector<SequenceRun> alone(const Model& model, const Routers& routers,
                               const std::vector<TokenIds>& sequences, std::size_t piece) {
  std::vector<SequenceRun> outcomes(sequences.size());
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    SequenceRun& o = outcomes[s];
    const std::span<const std::int32_t> ids(sequences[s]);
    for (std::size_t begin = 0; begin < ids.size(); begin += piece) {
      const auto logits = model.forward(ids.subspan(begin, std::min(piece, ids.size() - begin)),
                                        o.cache, routers, Model::LogitsOf::every_token, &o.trace);
      o.logits.insert(o.logits.end(), logits.begin(), logits.end());
    }
  }
  return outcomes;
}

/// Runs the sequences' ids together, `piece` of each at a time.
std::vector<SequenceRun> together(const Model& model, const Routers& routers,
                                  const std::vector<TokenIds>& sequences, std::size_t piece) {
  std::vector<SequenceRun> outcomes(sequences.size());
  olmoe::PolicyRouting source(routers);
  for (std::size_t begin = 0;; begin += piece) {
    std::vector<olmoe::Sequence> batch;
    std::vector<SequenceRun*> of;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const std::span<const std::int32_t> ids(sequences[s]);
      if (begin >= ids.size()) continue;
      of.push_back(&outcomes[s]);
      batch.push_back({ids.subspan(begin, std::min(piece, ids.size() - begin)), &outcomes[s].cache,
                       &outcomes[s].trace});
    }
    if (batch.empty()) return outcomes;
    const auto logits = model.forward(batch, source, Model::LogitsOf::every_token);
    auto from = logits.begin();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto n = std::ssize(batch[i].ids) * model.config().vocab_size;
      of[i]->logits.insert(of[i]->logits.end(), from, from + n);
      from += n;
    }
    CHECK(from == logits.end());
  }
}

void check_same_bits(const Model& model, const Routers& routers,
                     const std::vector<TokenIds>& sequences, std::size_t piece) {
  const auto expected = alone(model, routers, sequences, piece);
  const auto actual = together(model, routers, sequences, piece);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    CAPTURE(s);
    check_equal(actual[s], expected[s]);
  }
}

/// What a source was asked, routed by a policy. The routers must outlive it.
class Spy final : public olmoe::RoutingSource {
 public:
  explicit Spy(const Routers& routers) : policy_(routers) {}
  int layers() const override { return policy_.layers(); }
  int capacity(int layer) const override { return policy_.capacity(layer); }
  int floor(int layer) const override { return policy_.floor(layer); }
  void route(int layer, std::span<const olmoe::Stretch> stretches,
             fdroute::LogitsView<float> logits, fdroute::RoutingView<std::int32_t> out) override {
    std::string text = std::to_string(layer) + ":";
    for (const olmoe::Stretch& s : stretches)
      text += " " + std::to_string(s.sequence) + "@" + std::to_string(s.start) + "+" +
              std::to_string(s.tokens);
    asked.push_back(text);
    CHECK(logits.tokens == olmoe::tokens_of(stretches));
    policy_.route(layer, stretches, logits, out);
  }
  std::vector<std::string> asked;

 private:
  olmoe::PolicyRouting policy_;
};

}  // namespace

TEST_CASE("a sequence has the same bits alone and in a batch, on every checkpoint") {
  for (const auto& directory : captured_models()) {
    CAPTURE(directory.filename().string());
    const Model model(directory);
    const Routers routers = adaptive(model);
    const int longest = std::min(model.config().max_position_embeddings, 40);
    std::vector<TokenIds> sequences;
    for (const int length : {longest, 1, longest / 2, longest - 3, 7})
      sequences.push_back(some_ids(model, length, static_cast<unsigned>(length)));
    each_isa([&](olmoe::Isa) {
      check_same_bits(model, routers, sequences, 40);  // whole
      check_same_bits(model, routers, sequences, 1);   // decoded
      check_same_bits(model, routers, sequences, 6);
    });
  }
}

TEST_CASE("with rounded keys and values too, a sequence has the same bits alone and in a batch") {
  for (const olmoe::Storage kv : {olmoe::Storage::f16, olmoe::Storage::bf16}) {
    CAPTURE(olmoe::name(kv));
    const Model model(source_dir / "reference/model", olmoe::Compute::f32, kv);
    const std::vector<TokenIds> sequences{some_ids(model, 600, 1), some_ids(model, 3, 2),
                                          some_ids(model, 70, 3)};
    check_same_bits(model, adaptive(model), sequences, 1000);
    const std::vector<TokenIds> shorter{some_ids(model, 40, 1), some_ids(model, 3, 2),
                                        some_ids(model, 21, 3)};
    each_isa([&](olmoe::Isa) {
      check_same_bits(model, adaptive(model), shorter, 1);
      check_same_bits(model, adaptive(model), shorter, 6);
    });
  }
}

TEST_CASE("sequences longer than what is run at once have the same bits in a batch") {
  const Model model(source_dir / "reference/model");
  const Routers routers = adaptive(model);
  const std::vector<TokenIds> sequences{some_ids(model, 600, 1), some_ids(model, 30, 2),
                                        some_ids(model, 250, 3)};
  check_same_bits(model, routers, sequences, 1000);
}

TEST_CASE("in bf16 too, a sequence has the same bits alone and in a batch") {
  each_bf16([] {
    const Model model(source_dir / "reference/model", olmoe::Compute::bf16);
    const std::vector<TokenIds> sequences{some_ids(model, 20, 1), some_ids(model, 3, 2),
                                          some_ids(model, 11, 3)};
    check_same_bits(model, adaptive(model), sequences, 20);
    check_same_bits(model, adaptive(model), sequences, 1);
  });
}

TEST_CASE("a source is asked once a layer for all sequences, and told who stands where") {
  const Model model(plain_checkpoint());
  const Routers routers = adaptive(model);
  Spy spy(routers);
  std::vector<olmoe::KvCache> caches(3);
  const std::vector<TokenIds> ids{some_ids(model, 4, 1), some_ids(model, 2, 2),
                                  some_ids(model, 1, 3)};
  std::vector<olmoe::Sequence> batch;
  for (std::size_t s = 0; s < 3; ++s) batch.push_back({ids[s], &caches[s]});
  const auto last = model.forward(batch, spy, Model::LogitsOf::last_token);
  CHECK(spy.asked == std::vector<std::string>{"0: 0@0+4 1@0+2 2@0+1", "1: 0@0+4 1@0+2 2@0+1"});
  REQUIRE(last.size() == 3 * static_cast<std::size_t>(model.config().vocab_size));
  for (std::size_t s = 0; s < 3; ++s) {
    olmoe::KvCache cache;
    const auto expected = model.forward(ids[s], cache, routers, Model::LogitsOf::last_token);
    CHECK(std::equal(expected.begin(), expected.end(),
                     last.begin() + static_cast<std::ptrdiff_t>(s) * model.config().vocab_size));
  }

  spy.asked.clear();
  std::swap(batch[0], batch[2]);
  CHECK(model.forward(batch, spy, Model::LogitsOf::no_token).empty());
  CHECK(spy.asked.front() == "0: 0@1+1 1@2+2 2@4+4");
}

TEST_CASE("counts given from outside are found by sequence and position") {
  const Model model(plain_checkpoint());
  const olmoe::Config& config = model.config();
  const auto topk = olmoe::topk_routers(config.num_experts, 3, {});
  // Rows 0 ... 3 are one sequence's, rows 4 ... 6 the other's.
  const std::vector<std::vector<std::int32_t>> counts(
      static_cast<std::size_t>(config.num_hidden_layers), {1, 2, 0, 3, 2, 2, 1});
  olmoe::CountedRouting source(counts, {4, 0}, topk);
  const TokenIds of_second = some_ids(model, 4, 1);
  const TokenIds of_first = some_ids(model, 3, 2);
  olmoe::KvCache caches[2];
  olmoe::ForwardTrace traces[2];
  for (std::size_t begin = 0; begin < 4; begin += 2) {
    std::vector<olmoe::Sequence> batch;
    for (const auto& [ids, s] : {std::pair(&of_first, 0), std::pair(&of_second, 1)})
      batch.push_back(
          {std::span(*ids).subspan(begin, std::min<std::size_t>(2, ids->size() - begin)),
           &caches[s], &traces[s]});
    model.forward(batch, source, Model::LogitsOf::no_token);
  }
  for (std::size_t l = 0; l < counts.size(); ++l) {
    CHECK(traces[0].routing[l].counts == std::vector<std::int32_t>{2, 2, 1});
    CHECK(traces[1].routing[l].counts == std::vector<std::int32_t>{1, 2, 0, 3});
  }
}

TEST_CASE("what cannot be run in a batch is refused, and a bad number has its sequence's name") {
  const Model model(plain_checkpoint());
  const TokenIds good{1, 2, 3};
  const TokenIds bad{1, 112};
  const auto message = [&](const Model& runs, const std::vector<const TokenIds*>& sequences) {
    std::vector<olmoe::KvCache> caches(sequences.size());
    std::vector<olmoe::Sequence> batch;
    for (std::size_t s = 0; s < sequences.size(); ++s) batch.push_back({*sequences[s], &caches[s]});
    const Routers routers = adaptive(runs);
    olmoe::PolicyRouting source(routers);
    return error_of([&] { runs.forward(batch, source, Model::LogitsOf::last_token); });
  };
  const TokenIds none;
  CHECK(message(model, {}) == "no sequence given");
  CHECK(message(model, {&good, &none}) == "the prompt has no tokens");
  CHECK(message(model, {&good, &bad}) == "token id 112 is outside the vocabulary of 112");
  const TokenIds long_one(65, 1);
  CHECK(message(model, {&good, &long_one}) ==
        "a sequence of 65 tokens exceeds max_position_embeddings, 64");

  // The embedding of id 7 becomes infinite.
  const TempDir directory;
  std::filesystem::copy_file(plain_checkpoint() / "config.json", directory.path() / "config.json");
  const olmoe::Checkpoint original(plain_checkpoint());
  std::vector<olmoe::NamedTensor> tensors;
  std::vector<float> embeddings;
  for (const std::string& name : original.names()) {
    const olmoe::Tensor& tensor = original.at(name);
    if (name == "model.embed_tokens.weight") {
      embeddings = tensor.to_float();
      embeddings[7 * static_cast<std::size_t>(model.config().hidden_size)] =
          std::numeric_limits<float>::infinity();
      tensors.push_back(olmoe::NamedTensor::of(name, tensor.shape, embeddings));
    } else {
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    }
  }
  olmoe::write_safetensors(directory.path() / "model.safetensors", tensors);
  const Model damaged(directory.path());
  const TokenIds meets{1, 2, 7};
  CHECK(message(damaged, {&good, &meets, &good})
            .find(": infinity in the embedding of token 2 of sequence 1;") != std::string::npos);
  CHECK(message(damaged, {&meets}).find(": infinity in the embedding of token 2;") !=
        std::string::npos);
}

TEST_CASE("prompts continued together get the text that each gets alone") {
  const Model model(plain_checkpoint());
  const Routers routers = adaptive(model);
  const std::vector<TokenIds> prompts{{3, 1, 4}, {1}, {5, 9, 2, 6, 5}, {3, 5}, {8, 9, 7, 9}};
  // A seed with which the texts end at different times, so that places are filled again.
  olmoe::GenerationOptions sampled{.max_new_tokens = 30, .sampling = {.temperature = 5.0}};
  std::set<std::size_t> lengths;
  while (lengths.size() < 2) {
    REQUIRE(++sampled.seed < 1000);
    lengths.clear();
    for (const TokenIds& prompt : prompts) {
      std::size_t n = 0;
      olmoe::generate(model, routers, prompt, sampled, [&](std::int32_t) { ++n; });
      lengths.insert(n);
    }
  }
  for (const olmoe::GenerationOptions& options :
       {olmoe::GenerationOptions{.max_new_tokens = 12}, sampled,
        olmoe::GenerationOptions{.max_new_tokens = 1, .stop_at_eos = false}}) {
    std::vector<TokenIds> expected(prompts.size());
    std::int64_t prompt_tokens = 0;
    std::int64_t new_tokens = 0;
    std::int64_t steps = 0;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      const auto statistics = olmoe::generate(model, routers, prompts[p], options,
                                              [&](std::int32_t id) { expected[p].push_back(id); });
      prompt_tokens += statistics.prompt_tokens;
      new_tokens += statistics.new_tokens;
      steps += statistics.decode_steps;
    }
    for (const int batch : {1, 2, 3, 9}) {
      std::vector<TokenIds> actual(prompts.size());
      Spy spy(routers);
      const auto statistics =
          olmoe::generate(model, spy, prompts, batch, options,
                          [&](std::size_t p, std::int32_t id) { actual[p].push_back(id); });
      CHECK(actual == expected);
      CHECK(statistics.prompt_tokens == prompt_tokens);
      CHECK(statistics.new_tokens == new_tokens);
      CHECK(statistics.decode_steps == steps);
      std::ptrdiff_t most = 0;
      for (const std::string& asked : spy.asked)
        most = std::max(most, std::count(asked.begin(), asked.end(), '@'));
      const bool decodes = options.max_new_tokens > 1;
      CHECK(most == (decodes ? std::min<std::ptrdiff_t>(batch, 5) : 1));
    }
  }
  olmoe::PolicyRouting source(routers);
  const auto run = [&](int batch, const std::vector<TokenIds>& given) {
    olmoe::generate(model, source, given, batch, {.max_new_tokens = 5},
                    [](std::size_t, std::int32_t) {});
  };
  CHECK_THROWS_WITH_AS(run(0, prompts), "generate: batch must be at least 1, got 0",
                       std::invalid_argument);
  CHECK(error_of([&] {
          run(2, {{1}, TokenIds(60, 1)});
        }) == "prompt 2: a prompt of 60 tokens and 5 new ones exceed max_position_embeddings, 64");
}
