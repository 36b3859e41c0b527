#include "forward/generation.hpp"

#include <algorithm>
#include <chrono>
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

std::int32_t choose(std::span<const float> logits, const SamplingOptions& options,
                    std::mt19937_64& random) {
  if (options.temperature == 0.0)
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  // Written out, since the standard's distributions differ between libraries.
  const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
  return draw(sampling_weights(logits, options), uniform);
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
  options.sampling.validate();
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
    return choose(logits, options.sampling, random);
  };

  const Stopwatch prefill;
  std::int32_t token = run(prompt);
  statistics.prefill_seconds = prefill.seconds();

  const Stopwatch decode;
  const auto& eos = config.eos_token_ids;
  while (true) {
    if (options.stop_at_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) {
      statistics.ended_by = EndedBy::eos;
      break;
    }
    on_token(token);
    ++statistics.new_tokens;
    if (options.stop_after_token && options.stop_after_token()) {
      statistics.ended_by = EndedBy::request;
      break;
    }
    if (statistics.new_tokens == options.max_new_tokens) break;
    token = run({&token, 1});
    ++statistics.decode_steps;
  }
  statistics.decode_seconds = decode.seconds();
  return statistics;
}

}  // namespace olmoe
