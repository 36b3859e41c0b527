#pragma once

#include <cstddef>
#include <cstdint>
#include <fdroute/any_router.hpp>
#include <functional>
#include <span>
#include <vector>

#include "forward/model.hpp"
#include "forward/sampling.hpp"

namespace olmoe {

struct GenerationOptions {
  int max_new_tokens = 64;
  SamplingOptions sampling = {};
  std::uint64_t seed = 0;   ///< of the sampling; the same seed gives the same text
  bool stop_at_eos = true;  ///< end before max_new_tokens at one of the config's eos ids
  /// Asked after each new token, with its prompt's index: true ends the continuation.
  std::function<bool(std::size_t)> stop_after_token = {};
};

enum class EndedBy : std::uint8_t { length, eos, request };

/// How a generation went, over all prompts. Times are in seconds.
struct GenerationStatistics {
  std::int64_t prompt_tokens = 0;
  std::int64_t new_tokens = 0;
  double prefill_seconds = 0.0;
  std::int64_t decode_steps = 0;  ///< tokens run one at a time for a sequence, after its prompt
  double decode_seconds = 0.0;
  std::vector<EndedBy> ended_by;  ///< a prompt
  ExpertCounter experts;          ///< over the prompts and all tokens run
};

/// Throws Error, beginning with `origin`, unless the prompt has tokens and leaves room for the new
/// ones in max_position_embeddings.
void check_prompt(const Model& model, std::span<const std::int32_t> ids,
                  const GenerationOptions& options, const std::string& origin);

/// Continues `prompts`, up to `batch` of them at a time: their next tokens are run together, and
/// when a sequence ends the next prompt takes its place. A prompt is run alone. `on_token` is
/// called with a prompt's index and each of its new tokens as soon as it is chosen. Ties between
/// logits go to the lower id. Each sequence samples with a generator of its own, of the same seed:
/// where `source` routes a token by its own sequence alone, the text is that of the prompt alone.
///
/// Throws Error as Model::forward does, before anything is run if a prompt and max_new_tokens
/// together exceed max_position_embeddings; std::invalid_argument for options out of range and a
/// batch of less than 1.
GenerationStatistics generate(const Model& model, RoutingSource& source,
                              std::span<const std::vector<std::int32_t>> prompts, int batch,
                              const GenerationOptions& options,
                              const std::function<void(std::size_t, std::int32_t)>& on_token);

/// generate() of one prompt, routed by a policy.
GenerationStatistics generate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                              std::span<const std::int32_t> prompt,
                              const GenerationOptions& options,
                              const std::function<void(std::int32_t)>& on_token);

}  // namespace olmoe
