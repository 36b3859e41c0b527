// How fast the reference runs a model, beside what the machine could do at that moment. README.md
// defines every column.

#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "cli/random_checkpoint.hpp"
#include "forward/completed_routing.hpp"
#include "forward/memory.hpp"
#include "forward/model.hpp"
#include "forward/plain_forward.hpp"
#include "kernels/isa.hpp"
#include "kernels/wait_policy.hpp"
#include "measure/expert_loads.hpp"
#include "probes.hpp"
#include "routing/routing.hpp"

namespace {

using bench::now;
using olmoe::Model;
using Routers = std::vector<fdroute::AnyRouter>;

struct Options {
  std::string model;
  olmoe::Compute compute = olmoe::Compute::f32;
  olmoe::Storage kv = olmoe::Storage::f32;
  std::vector<int> threads{1};
  std::vector<int> prompts{16, 128, 512};
  std::vector<int> contexts{16, 512};
  std::vector<std::string> policies{"topk:k=8", "topk:k=6", "topk:k=4", "topk:k=2", "topk:k=16"};
  std::vector<std::string> parts{"decode", "prefill", "mixture", "plain"};
  std::vector<int> batches{1, 2, 4, 8, 16, 32};
  int free_window = 8;
  int repeats = 5;
  int tokens = 8;
  std::string clock = "wall";
  std::string json;
  std::string make;
};

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// ---- What a forward pass takes
// -------------------------------------------------------------------

/// Bytes of weights and cache that `batch` tokens at `position`, run together, read, at `experts`
/// loaded per layer on average.
double decode_bytes(const Model& model, double experts, std::int64_t position, int batch = 1) {
  const olmoe::Config& c = model.config();
  double bytes = static_cast<double>(model.lm_head().bytes());
  for (const olmoe::DecoderLayer& layer : model.layers()) {
    const olmoe::AttentionWeights& a = layer.attention;
    const olmoe::ExpertWeights& e = layer.moe.experts.front();
    bytes += static_cast<double>(a.q.bytes() + a.k.bytes() + a.v.bytes() + a.o.bytes() +
                                 layer.moe.router.bytes());
    bytes += experts * static_cast<double>(e.gate.bytes() + e.up.bytes() + e.down.bytes());
  }
  return bytes + batch * olmoe::cache_memory(c, model.kv(), position);
}

double elements(const olmoe::Matrix& w) {
  return static_cast<double>(w.rows) * static_cast<double>(w.cols);
}

/// Floating-point operations, 2 per multiply-add, of the products and the attention of a prompt of
/// `tokens` at `experts` per layer on average, with the logits of the last token.
double prefill_operations(const Model& model, double experts, int tokens) {
  double per_token = 0.0;
  for (const olmoe::DecoderLayer& layer : model.layers()) {
    const olmoe::AttentionWeights& a = layer.attention;
    const olmoe::ExpertWeights& e = layer.moe.experts.front();
    per_token += elements(a.q) + elements(a.k) + elements(a.v) + elements(a.o) +
                 elements(layer.moe.router) +
                 experts * (elements(e.gate) + elements(e.up) + elements(e.down));
    per_token += (tokens + 1) * static_cast<double>(model.config().hidden_size);  // both halves
  }
  return 2.0 * (per_token * tokens + elements(model.lm_head()));
}

// ---- Runs
// ----------------------------------------------------------------------------------------

std::vector<std::int32_t> random_ids(const Model& model, int n, unsigned seed) {
  std::mt19937 random(seed);
  const auto vocabulary = static_cast<unsigned>(model.config().vocab_size);
  std::vector<std::int32_t> ids(at(n));
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % vocabulary);
  return ids;
}

/// A cache as `positions` tokens could have left it, without running them.
olmoe::KvCache random_cache(const Model& model, int positions) {
  const olmoe::Config& c = model.config();
  std::mt19937 random(7);
  olmoe::KvCache cache;
  cache.positions = positions;
  cache.layers.resize(at(c.num_hidden_layers));
  std::vector<float> key(at(c.num_key_value_heads * c.head_dim()));
  std::vector<float> value(key.size());
  for (olmoe::LayerCache& layer : cache.layers) {
    layer.storage = model.kv();
    olmoe::reserve(c, layer, positions + 64, 0);
    for (int p = 0; p < positions; ++p) {
      for (std::vector<float>* row : {&key, &value}) {
        for (float& v : *row) v = static_cast<float>(random() >> 8) * 0x1p-23F - 1.0F;
      }
      if (!olmoe::store(c, layer, p, key, value))
        throw std::logic_error("a number below 1 is too large");
    }
  }
  return cache;
}

struct Run {
  double seconds;  ///< per token
  double experts;  ///< mean per token and layer
};

Run decode(const Model& model, const Routers& routers, const olmoe::KvCache& start, int tokens,
           unsigned seed) {
  olmoe::KvCache cache = start;
  olmoe::ExpertCounter counter;
  double seconds = 0.0;
  for (const std::int32_t id : random_ids(model, tokens, seed)) {
    olmoe::ForwardTrace trace;
    const double begin = now();
    model.forward({&id, 1}, cache, routers, Model::LogitsOf::last_token, &trace);
    seconds += now() - begin;
    for (const olmoe::ExecutedRouting& routing : trace.routing) counter.add(routing.counts);
  }
  return {seconds / tokens, counter.mean()};
}

/// A policy for a batch, completed or not.
struct BatchCase {
  std::string name;
  Routers routers;
  bool completed;
};

struct BatchRun {
  Run run;        ///< seconds of a step, all tokens of a batch
  double loaded;  ///< experts per layer and step
};

BatchRun decode_batch(const Model& model, const BatchCase& what, const olmoe::KvCache& start,
                      int batch, const Options& options, unsigned seed) {
  const olmoe::Grouping group{olmoe::Grouping::Kind::batch, batch};
  std::unique_ptr<olmoe::RoutingSource> source =
      std::make_unique<olmoe::PolicyRouting>(what.routers);
  if (what.completed)
    source = std::make_unique<olmoe::CompletedRouting>(
        what.routers, group,
        fdroute::Completion{.window = options.free_window, .max_k = options.free_window});
  std::vector<olmoe::KvCache> caches(at(batch), start);
  std::vector<olmoe::ForwardTrace> traces(at(batch));
  const auto ids = random_ids(model, batch * options.tokens, seed);
  double seconds = 0.0;
  for (int step = 0; step < options.tokens; ++step) {
    std::vector<olmoe::Sequence> sequences;
    for (std::size_t s = 0; s < caches.size(); ++s)
      sequences.push_back({{&ids[at(step) * caches.size() + s], 1}, &caches[s], &traces[s]});
    const double begin = now();
    model.forward(sequences, *source, Model::LogitsOf::last_token);
    seconds += now() - begin;
  }
  olmoe::ExpertCounter counter;
  std::vector<olmoe::LoadSums> loads(model.layers().size(),
                                     olmoe::LoadSums(model.config().num_experts));
  for (std::size_t l = 0; l < loads.size(); ++l) {
    std::vector<const olmoe::ExecutedRouting*> routings;
    for (const olmoe::ForwardTrace& trace : traces) {
      routings.push_back(&trace.routing[l]);
      counter.add(trace.routing[l].counts);
    }
    loads[l].add(group, routings);
  }
  return {{seconds / options.tokens, counter.mean()},
          olmoe::expert_loads(model, group, loads).mean};
}

Run prefill(const Model& model, const Routers& routers, int tokens, unsigned seed) {
  const auto ids = random_ids(model, tokens, seed);
  olmoe::KvCache cache;
  olmoe::ForwardTrace trace;
  const double begin = now();
  model.forward(ids, cache, routers, Model::LogitsOf::last_token, &trace);
  const double seconds = now() - begin;
  olmoe::ExpertCounter counter;
  for (const olmoe::ExecutedRouting& routing : trace.routing) counter.add(routing.counts);
  return {seconds / tokens, counter.mean()};
}

// ---- Tables
// --------------------------------------------------------------------------------------

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Repetitions of one measurement, each with a probe of the machine taken just before.
struct Series {
  std::vector<double> rates;   ///< reached
  std::vector<double> probes;  ///< possible
  std::vector<double> mapped;  ///< bandwidth of the mapped weights, where asked for
  std::vector<double> seconds;
  std::vector<double> experts;

  void add(double work, const Run& run, double probe) {
    rates.push_back(work / run.seconds);
    probes.push_back(probe);
    seconds.push_back(run.seconds);
    experts.push_back(run.experts);
  }
  double mean_experts() const {
    return std::accumulate(experts.begin(), experts.end(), 0.0) /
           static_cast<double>(experts.size());
  }
  double best_seconds() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double best_rate() const { return *std::max_element(rates.begin(), rates.end()); }
  double best_probe() const { return *std::max_element(probes.begin(), probes.end()); }
  double median_ratio() const { return median_ratio(probes); }
  double median_ratio(const std::vector<double>& to) const {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < rates.size(); ++i) ratios.push_back(rates[i] / to[i]);
    return median(std::move(ratios));
  }
};

class Json {
 public:
  void add(const std::string& part, const std::string& what, int threads, double tokens_per_second,
           double ratio) {
    text_ += std::string(text_.empty() ? "" : ",\n") + "  {\"part\": \"" + part +
             "\", \"what\": \"" + what + "\", \"threads\": " + std::to_string(threads) +
             ", \"tokens_per_second\": " + std::to_string(tokens_per_second) +
             ", \"of_probe\": " + std::to_string(ratio) + "}";
  }
  void write(const std::string& path) const {
    std::FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) {
      std::perror(path.c_str());
      std::exit(1);
    }
    std::fprintf(file, "[\n%s\n]\n", text_.c_str());
    std::fclose(file);
  }

 private:
  std::string text_;
};

/// The file that a tensor is in.
std::string file_of(const Model& model, const std::string& tensor) {
  const std::string& origin = model.checkpoint().at(tensor).origin;
  return origin.substr(0, origin.find(": tensor"));
}

/// Some 2 GiB of weights as they are mapped, from the first layer's first expert on, all in its
/// file.
std::span<const std::byte> mapped_weights(const Model& model) {
  constexpr std::ptrdiff_t most = std::ptrdiff_t{2} << 30;
  const std::string first = "model.layers.0.mlp.experts.0.gate_proj.weight";
  const std::byte* begin = model.checkpoint().at(first).bytes.data();
  const std::byte* end = begin;
  for (const std::string& name : model.checkpoint().names()) {
    const auto bytes = model.checkpoint().at(name).bytes;
    if (file_of(model, name) == file_of(model, first) && bytes.data() >= begin &&
        bytes.data() - begin < most)
      end = std::max(end, bytes.data() + bytes.size());
  }
  // From a cache line's beginning on, as the other probe's memory.
  return {begin + (64 - reinterpret_cast<std::uintptr_t>(begin) % 64) % 64, end};
}

Routers routers_for(const Model& model, const std::string& policy) {
  return olmoe::make_routers(model.config(), policy, std::filesystem::path());
}

void run_decode(const Model& model, const Options& options, const bench::Memory& memory,
                Json& json) {
  std::printf(
      "\nDecode (%d tokens a run, best of %d; ratios: median of the runs)\n"
      "%7s %7s  %-28s %7s %8s %8s %7s %7s %7s %7s %7s %8s %8s\n",
      options.tokens, options.repeats, "threads", "context", "policy", "experts", "MB/token",
      "tokens/s", "GB/s", "probe", "ratio", "mapped", "ratio", "speed-up", "of bytes");
  const std::span<const std::byte> weights = mapped_weights(model);
  for (const int threads : options.threads) {
    omp_set_num_threads(threads);
    const bench::Bandwidth bandwidth(memory.bytes());
    for (const int context : options.contexts) {
      const olmoe::KvCache cache = random_cache(model, context);
      std::vector<Routers> routers;
      for (const std::string& policy : options.policies)
        routers.push_back(routers_for(model, policy));
      std::vector<Series> series(routers.size());
      for (int r = 0; r < options.repeats; ++r) {
        for (std::size_t p = 0; p < routers.size(); ++p) {
          const double before = bandwidth(memory.bytes());
          const Run run =
              decode(model, routers[p], cache, options.tokens, 11 + static_cast<unsigned>(r));
          series[p].mapped.push_back(bandwidth(weights));
          const double probe = (before + bandwidth(memory.bytes())) / 2;
          series[p].add(decode_bytes(model, run.experts, context), run, probe);
        }
      }
      for (std::size_t p = 0; p < series.size(); ++p) {
        const Series& s = series[p];
        // Against the first policy, run by run, and what the bytes would allow.
        std::vector<double> gains;
        std::vector<double> of_allowed;
        for (std::size_t r = 0; r < s.seconds.size(); ++r) {
          gains.push_back(series[0].seconds[r] / s.seconds[r]);
          of_allowed.push_back(gains.back() * decode_bytes(model, s.experts[r], context) /
                               decode_bytes(model, series[0].experts[r], context));
        }
        const double experts = s.mean_experts();
        std::printf("%7d %7d  %-28s %7.2f %8.1f %8.2f %7.2f %7.2f %7.3f %7.2f %7.3f %8.3f %8.3f\n",
                    threads, context, options.policies[p].c_str(), experts,
                    decode_bytes(model, experts, context) / 1e6, 1.0 / s.best_seconds(),
                    s.best_rate() / 1e9, s.best_probe() / 1e9, s.median_ratio(),
                    *std::max_element(s.mapped.begin(), s.mapped.end()) / 1e9,
                    s.median_ratio(s.mapped), median(gains), median(of_allowed));
        std::fflush(stdout);
        json.add("decode", options.policies[p] + " context " + std::to_string(context), threads,
                 1.0 / s.best_seconds(), s.median_ratio());
      }
    }
  }
}

/// Decoding of several sequences together, each policy as it is and completed by what its batch
/// loads.
void run_batch(const Model& model, const Options& options, const bench::Memory& memory,
               Json& json) {
  std::printf(
      "\nDecode in batches (%d steps a run, context %d, best of %d; ratios: median of the runs)\n"
      "%7s %7s  %-28s %7s %7s %8s %9s %7s %7s %7s %8s %8s\n",
      options.tokens, options.contexts.front(), options.repeats, "threads", "batch", "policy",
      "experts", "loaded", "MB/step", "tokens/s", "GB/s", "probe", "ratio", "to plain", "of bytes");
  const int context = options.contexts.front();
  const olmoe::KvCache cache = random_cache(model, context);
  std::vector<BatchCase> cases;
  for (const std::string& policy : options.policies) {
    for (const bool completed : {false, true})
      cases.push_back({policy + (completed ? " + free " + std::to_string(options.free_window) : ""),
                       routers_for(model, policy), completed});
  }
  for (const int threads : options.threads) {
    omp_set_num_threads(threads);
    const bench::Bandwidth bandwidth(memory.bytes());
    for (const int batch : options.batches) {
      std::vector<Series> series(cases.size());
      std::vector<std::vector<double>> loaded(cases.size());
      for (int r = 0; r < options.repeats; ++r) {
        for (std::size_t c = 0; c < cases.size(); ++c) {
          const double before = bandwidth(memory.bytes());
          const BatchRun run =
              decode_batch(model, cases[c], cache, batch, options, 11 + static_cast<unsigned>(r));
          const double probe = (before + bandwidth(memory.bytes())) / 2;
          loaded[c].push_back(run.loaded);
          series[c].add(decode_bytes(model, run.loaded, context, batch), run.run, probe);
        }
      }
      for (std::size_t c = 0; c < cases.size(); ++c) {
        const Series& s = series[c];
        const std::size_t plain = c - (cases[c].completed ? 1 : 0);
        std::vector<double> gains;       // against the policy as it is, run by run
        std::vector<double> of_allowed;  // and against the batch of one policy that came first
        for (std::size_t r = 0; r < s.seconds.size(); ++r) {
          gains.push_back(series[plain].seconds[r] / s.seconds[r]);
          of_allowed.push_back(series[0].seconds[r] / s.seconds[r] *
                               decode_bytes(model, loaded[c][r], context, batch) /
                               decode_bytes(model, loaded[0][r], context, batch));
        }
        const double loads = std::accumulate(loaded[c].begin(), loaded[c].end(), 0.0) /
                             static_cast<double>(loaded[c].size());
        const double rate = batch / s.best_seconds();
        std::printf("%7d %7d  %-28s %7.2f %7.2f %8.1f %9.2f %7.2f %7.2f %7.3f %8.3f %8.3f\n",
                    threads, batch, cases[c].name.c_str(), s.mean_experts(), loads,
                    decode_bytes(model, loads, context, batch) / 1e6, rate, s.best_rate() / 1e9,
                    s.best_probe() / 1e9, s.median_ratio(), median(gains), median(of_allowed));
        std::fflush(stdout);
        json.add("batch", cases[c].name + " batch " + std::to_string(batch), threads, rate,
                 s.median_ratio());
      }
    }
  }
}

/// What the products could do at most.
double peak(olmoe::Compute compute) {
  return compute == olmoe::Compute::bf16 ? bench::bf16_peak() : bench::peak(olmoe::kernels().isa);
}

void run_prefill(const Model& model, const Options& options, Json& json) {
  std::printf(
      "\nPrefill (native routing, best of %d; ratio: median of the runs)\n"
      "%7s %7s %8s %9s %9s %9s %7s\n",
      options.repeats, "threads", "prompt", "experts", "tokens/s", "GFLOP/s", "peak", "ratio");
  const Routers routers = routers_for(model, olmoe::native_policy);
  std::vector<Series> series(options.prompts.size() * options.threads.size());
  for (int r = 0; r < options.repeats; ++r) {
    for (std::size_t i = 0; i < series.size(); ++i) {
      omp_set_num_threads(options.threads[i % options.threads.size()]);
      const int prompt = options.prompts[i / options.threads.size()];
      const double before = peak(options.compute);
      const Run run = prefill(model, routers, prompt, 3 + static_cast<unsigned>(r));
      const double probe = std::max(before, peak(options.compute));
      series[i].add(prefill_operations(model, run.experts, prompt) / prompt, run, probe);
    }
  }
  for (std::size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    const int threads = options.threads[i % options.threads.size()];
    const int prompt = options.prompts[i / options.threads.size()];
    std::printf("%7d %7d %8.2f %9.2f %9.1f %9.1f %7.3f\n", threads, prompt, s.mean_experts(),
                1.0 / s.best_seconds(), s.best_rate() / 1e9, s.best_probe() / 1e9,
                s.median_ratio());
    json.add("prefill", "prompt " + std::to_string(prompt), threads, 1.0 / s.best_seconds(),
             s.median_ratio());
  }
}

/// The mixtures of all layers, one after the other, so that no weights stay in a cache.
void run_mixture(const Model& model, const Options& options, Json& json) {
  std::printf(
      "\nMixture of experts alone, all layers in turn (native routing, best of %d)\n"
      "%7s %7s %12s %12s\n",
      options.repeats, "threads", "tokens", "us/token", "times");
  const Routers routers = routers_for(model, olmoe::native_policy);
  olmoe::PolicyRouting source(routers);
  const std::size_t hidden = at(model.config().hidden_size);
  std::mt19937 random(5);
  std::vector<float> x(512 * hidden);
  for (float& v : x) v = static_cast<float>(random() >> 8) * 0x1p-23F - 1.0F;
  std::vector<float> out(x.size());
  const double layers = static_cast<double>(model.layers().size());

  for (const int threads : options.threads) {
    omp_set_num_threads(threads);
    double alone = 0.0;
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{64}, std::size_t{512}}) {
      double best = HUGE_VAL;
      for (int r = 0; r < (tokens == 1 ? 4 : 1) * options.repeats; ++r) {
        const std::size_t first = tokens == 1 ? at(r) * hidden : 0;
        const olmoe::Stretch stretch{.tokens = static_cast<std::int64_t>(tokens)};
        olmoe::ExpertWorkspace workspace;
        olmoe::ExecutedRouting routing;
        const double begin = now();
        for (std::size_t l = 0; l < model.layers().size(); ++l) {
          olmoe::mix_experts(model.config(), model.layers()[l].moe, source, static_cast<int>(l),
                             {&stretch, 1}, std::span(x).subspan(first, tokens * hidden), routing,
                             std::span(out).first(tokens * hidden), workspace);
        }
        best = std::min(best, (now() - begin) / layers / static_cast<double>(tokens));
      }
      if (tokens == 1) alone = best;
      std::printf("%7d %7zu %12.1f %12.1f\n", threads, tokens, best * 1e6, alone / best);
      json.add("mixture", std::to_string(tokens) + " tokens", threads, 1.0 / best, alone / best);
    }
  }
}

/// plain_forward() beside decoding, and how far their logits are apart.
void run_plain(const Model& model, const Options& options, Json& json) {
  omp_set_num_threads(1);
  const Routers routers = routers_for(model, olmoe::native_policy);
  const auto ids = random_ids(model, 4, 1);
  const double begin = now();
  const auto plain = olmoe::plain_forward(model.config(), model.checkpoint(), ids, routers).logits;
  const double plain_seconds = (now() - begin) / static_cast<double>(ids.size());
  double seconds = HUGE_VAL;
  std::vector<float> logits;
  for (int r = 0; r < options.repeats; ++r) {
    olmoe::KvCache cache;
    const double start = now();
    for (const std::int32_t& id : ids)
      logits = model.forward({&id, 1}, cache, routers, Model::LogitsOf::last_token);
    seconds = std::min(seconds, (now() - start) / static_cast<double>(ids.size()));
  }
  double difference = 0.0;
  const auto last = std::span(plain).last(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    difference = std::max(difference,
                          std::abs(static_cast<double>(logits[i]) - static_cast<double>(last[i])));
  }
  std::printf(
      "\nIn plain loops, 1 thread: %.2f tokens/s; decode %.2f, %.1f times as fast; "
      "logits differ by %.1e\n",
      1.0 / plain_seconds, 1.0 / seconds, plain_seconds / seconds, difference);
  json.add("plain", "decode", 1, 1.0 / plain_seconds, plain_seconds / seconds);
}

// ---- Command line
// --------------------------------------------------------------------------------

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t from = 0;;) {
    const std::size_t end = text.find(separator, from);
    parts.push_back(text.substr(from, end - from));
    if (end == std::string::npos) return parts;
    from = end + 1;
  }
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> result;
  for (const std::string& part : split(text, ',')) result.push_back(std::stoi(part));
  return result;
}

olmoe::Compute compute_of(const std::string& text) {
  for (const olmoe::Compute compute : {olmoe::Compute::f32, olmoe::Compute::bf16}) {
    if (olmoe::name(compute) == text) return compute;
  }
  throw std::invalid_argument("--compute " + text + ": known are f32 and bf16");
}

olmoe::Storage storage_of(const std::string& text) {
  for (const olmoe::Storage kv : {olmoe::Storage::f32, olmoe::Storage::f16, olmoe::Storage::bf16}) {
    if (olmoe::name(kv) == text) return kv;
  }
  throw std::invalid_argument("--kv " + text + ": known are f32, f16 and bf16");
}

Options parse(int argc, char** argv) {
  Options options;
  const std::vector<std::pair<std::string, std::function<void(const std::string&)>>> known{
      {"--model", [&](const std::string& v) { options.model = v; }},
      {"--threads", [&](const std::string& v) { options.threads = numbers(v); }},
      {"--prompts", [&](const std::string& v) { options.prompts = numbers(v); }},
      {"--contexts", [&](const std::string& v) { options.contexts = numbers(v); }},
      {"--batches", [&](const std::string& v) { options.batches = numbers(v); }},
      {"--free-window", [&](const std::string& v) { options.free_window = std::stoi(v); }},
      {"--policies", [&](const std::string& v) { options.policies = split(v, ' '); }},
      {"--parts", [&](const std::string& v) { options.parts = split(v, ','); }},
      {"--repeats", [&](const std::string& v) { options.repeats = std::stoi(v); }},
      {"--tokens", [&](const std::string& v) { options.tokens = std::stoi(v); }},
      {"--compute", [&](const std::string& v) { options.compute = compute_of(v); }},
      {"--kv", [&](const std::string& v) { options.kv = storage_of(v); }},
      {"--isa", [&](const std::string& v) { olmoe::use_isa(std::string_view(v)); }},
      {"--clock", [&](const std::string& v) { options.clock = v; }},
      {"--make", [&](const std::string& v) { options.make = v; }},
      {"--json", [&](const std::string& v) { options.json = v; }},
  };
  for (int i = 1; i < argc; i += 2) {
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const auto& option) { return option.first == argv[i]; });
    if (found == known.end() || i + 1 == argc)
      throw std::invalid_argument(std::string(argv[i]) + ": unknown option, or without its value");
    found->second(argv[i + 1]);
  }
  if (options.clock == "processor") {
    if (options.threads != std::vector<int>{1})
      throw std::invalid_argument("--clock processor times one thread");
    bench::use_processor_time();
  } else if (options.clock != "wall") {
    throw std::invalid_argument("--clock " + options.clock + ": known are wall and processor");
  }
  if (options.model.empty()) throw std::invalid_argument("--model DIR is missing");
  return options;
}

/// Reads a byte of every page of the weights, so that none is mapped during a measurement.
void touch(const Model& model) {
  constexpr std::size_t page = 4096;
  unsigned sum = 0;
  for (const std::string& name : model.checkpoint().names()) {
    const auto bytes = model.checkpoint().at(name).bytes;
    for (std::size_t i = 0; i < bytes.size(); i += page) sum += static_cast<unsigned>(bytes[i]);
  }
  asm volatile("" : : "r"(sum));
}

void run(const Options& options) {
  const auto asked = [&](const char* part) {
    return std::find(options.parts.begin(), options.parts.end(), part) != options.parts.end();
  };
  if (!options.make.empty() && !std::filesystem::exists(options.model))
    olmoe::make_random_checkpoint({.config = options.make, .out = options.model, .seed = 1});
  const double started = now();
  const Model model(options.model, options.compute, options.kv);
  const bool bf16 = options.compute == olmoe::Compute::bf16;
  std::printf("%s, kernels of %s, products in %s%s, keys and values in %s\n", options.model.c_str(),
              std::string(olmoe::name(olmoe::kernels().isa)).c_str(),
              std::string(olmoe::name(options.compute)).c_str(),
              bf16 ? (" by " + std::string(olmoe::bf16_unit())).c_str() : "",
              std::string(olmoe::name(options.kv)).c_str());

  omp_set_num_threads(*std::max_element(options.threads.begin(), options.threads.end()));
  const double loaded = now();
  prefill(model, routers_for(model, olmoe::native_policy), 16, 1);
  std::printf("loaded in %.2f s, the first 16 tokens run in another %.2f s\n", loaded - started,
              now() - loaded);
  touch(model);

  Json json;
  if (asked("decode")) run_decode(model, options, bench::Memory(std::size_t{2} << 30), json);
  if (asked("batch")) run_batch(model, options, bench::Memory(std::size_t{2} << 30), json);
  if (asked("prefill")) run_prefill(model, options, json);
  if (asked("mixture")) run_mixture(model, options, json);
  if (asked("plain")) run_plain(model, options, json);

  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("\npeak resident %.2f GB, of which weights are %.2f GB\n",
              static_cast<double>(usage.ru_maxrss) * 1024 / 1e9,
              static_cast<double>(model.checkpoint().total_bytes()) / 1e9);
  if (!options.json.empty()) json.write(options.json);
}

}  // namespace

int main(int argc, char** argv) {
  olmoe::sleep_while_waiting(argv);
  try {
    run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_model: %s\n", error.what());
    return 1;
  }
}
