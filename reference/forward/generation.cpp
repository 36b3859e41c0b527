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

/// A prompt that is being continued.
struct Continuation {
  std::size_t prompt;              // its index
  std::vector<std::int32_t> next;  // to be run: the prompt, later the token chosen last
  std::mt19937_64 random;
  KvCache cache{};
  int new_tokens = 0;
  bool ended = false;
};

void check(const Model& model, std::span<const std::vector<std::int32_t>> prompts, int batch,
           const GenerationOptions& options) {
  if (options.max_new_tokens < 1) {
    throw std::invalid_argument("generate: max_new_tokens must be at least 1, got " +
                                std::to_string(options.max_new_tokens));
  }
  options.sampling.validate();
  if (batch < 1)
    throw std::invalid_argument("generate: batch must be at least 1, got " + std::to_string(batch));
  for (std::size_t p = 0; p < prompts.size(); ++p)
    check_prompt(model, prompts[p], options, "prompt " + std::to_string(p + 1));
}

}  // namespace

void check_prompt(const Model& model, std::span<const std::int32_t> ids,
                  const GenerationOptions& options, const std::string& origin) {
  if (ids.empty()) throw Error(origin + ": the prompt has no tokens");
  const std::int64_t longest = model.config().max_position_embeddings;
  if (std::ssize(ids) + options.max_new_tokens > longest) {
    throw Error(origin + ": a prompt of " + std::to_string(ids.size()) + " tokens and " +
                std::to_string(options.max_new_tokens) +
                " new ones exceed max_position_embeddings, " + std::to_string(longest));
  }
}

GenerationStatistics generate(const Model& model, RoutingSource& source,
                              std::span<const std::vector<std::int32_t>> prompts, int batch,
                              const GenerationOptions& options,
                              const std::function<void(std::size_t, std::int32_t)>& on_token) {
  check(model, prompts, batch, options);
  GenerationStatistics statistics;
  statistics.ended_by.resize(prompts.size());
  const auto& eos = model.config().eos_token_ids;
  const auto take = [&](Continuation& continuation, std::int32_t token) {
    continuation.next = {token};
    const std::size_t prompt = continuation.prompt;
    const auto end = [&](EndedBy by) {
      continuation.ended = true;
      statistics.ended_by[prompt] = by;
    };
    if (options.stop_at_eos && std::find(eos.begin(), eos.end(), token) != eos.end())
      return end(EndedBy::eos);
    on_token(prompt, token);
    ++statistics.new_tokens;
    if (options.stop_after_token && options.stop_after_token(prompt)) return end(EndedBy::request);
    if (++continuation.new_tokens == options.max_new_tokens) end(EndedBy::length);
  };
  const auto run = [&](std::span<Continuation> some) {
    std::vector<ForwardTrace> traces(some.size());
    std::vector<Sequence> sequences;
    for (std::size_t i = 0; i < some.size(); ++i)
      sequences.push_back({some[i].next, &some[i].cache, &traces[i]});
    const std::vector<float> logits = model.forward(sequences, source, Model::LogitsOf::last_token);
    const std::size_t vocabulary = logits.size() / some.size();
    for (std::size_t i = 0; i < some.size(); ++i) {
      for (const ExecutedRouting& routing : traces[i].routing)
        statistics.experts.add(routing.counts);
      take(some[i], choose(std::span(logits).subspan(i * vocabulary, vocabulary), options.sampling,
                           some[i].random));
    }
  };

  std::vector<Continuation> running;
  std::size_t next = 0;
  do {
    const Stopwatch prefill;
    while (next < prompts.size() && running.size() < static_cast<std::size_t>(batch)) {
      running.push_back({next, prompts[next], std::mt19937_64(options.seed)});
      statistics.prompt_tokens += std::ssize(prompts[next]);
      run({&running.back(), 1});
      if (running.back().ended) running.pop_back();
      ++next;
    }
    statistics.prefill_seconds += prefill.seconds();

    const Stopwatch decode;
    if (!running.empty()) run(running);
    statistics.decode_steps += std::ssize(running);
    std::erase_if(running, [](const Continuation& continuation) { return continuation.ended; });
    statistics.decode_seconds += decode.seconds();
  } while (next < prompts.size() || !running.empty());
  return statistics;
}

GenerationStatistics generate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                              std::span<const std::int32_t> prompt,
                              const GenerationOptions& options,
                              const std::function<void(std::int32_t)>& on_token) {
  const std::vector<std::int32_t> ids(prompt.begin(), prompt.end());
  PolicyRouting source(routers);
  return generate(model, source, {&ids, 1}, 1, options,
                  [&](std::size_t, std::int32_t id) { on_token(id); });
}

}  // namespace olmoe
