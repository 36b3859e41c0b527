#include "forward/generation.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <random>
#include <stdexcept>
#include <string>

#include "formats/error.hpp"

namespace olmoe {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::int32_t choose(std::span<const float> logits, double temperature, std::mt19937_64& random) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (temperature == 0.0) return static_cast<std::int32_t>(largest - logits.begin());
  std::vector<double> weights(logits.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weights[i] =
        std::exp((static_cast<double>(logits[i]) - static_cast<double>(*largest)) / temperature);
    sum += weights[i];
  }
  // Written out, since the standard's distributions differ between libraries.
  const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
  double left = uniform * sum;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(largest - logits.begin());
}

}  // namespace

GenerationStatistics generate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                              std::span<const std::int32_t> prompt,
                              const GenerationOptions& options,
                              const std::function<void(std::int32_t)>& on_token) {
  if (options.max_new_tokens < 1) {
    throw std::invalid_argument("generate: max_new_tokens must be at least 1, got " +
                                std::to_string(options.max_new_tokens));
  }
  if (!(options.temperature >= 0.0 && std::isfinite(options.temperature))) {
    throw std::invalid_argument("generate: temperature must be finite and at least 0, got " +
                                std::to_string(options.temperature));
  }
  const Config& config = model.config();
  const std::int64_t length = static_cast<std::int64_t>(prompt.size()) + options.max_new_tokens;
  if (length > config.max_position_embeddings) {
    throw Error("a prompt of " + std::to_string(prompt.size()) + " tokens and " +
                std::to_string(options.max_new_tokens) +
                " new ones exceed max_position_embeddings, " +
                std::to_string(config.max_position_embeddings));
  }

  GenerationStatistics statistics;
  statistics.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  std::mt19937_64 random(options.seed);
  KvCache cache;
  const auto run = [&](std::span<const std::int32_t> ids) {
    ForwardTrace trace;
    const auto logits = model.forward(ids, cache, routers, Model::LogitsOf::last_token, &trace);
    for (const ExecutedRouting& routing : trace.routing) statistics.experts.add(routing.counts);
    return choose(logits, options.temperature, random);
  };

  const Stopwatch prefill;
  std::int32_t token = run(prompt);
  statistics.prefill_seconds = prefill.seconds();

  const Stopwatch decode;
  const auto& eos = config.eos_token_ids;
  while (true) {
    if (options.stop_at_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) break;
    on_token(token);
    ++statistics.new_tokens;
    if (statistics.new_tokens == options.max_new_tokens) break;
    token = run({&token, 1});
    ++statistics.decode_steps;
  }
  statistics.decode_seconds = decode.seconds();
  return statistics;
}

}  // namespace olmoe
