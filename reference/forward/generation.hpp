#pragma once

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
  /// Asked after each new token: true ends the generation.
  std::function<bool()> stop_after_token = {};
};

enum class EndedBy : std::uint8_t { length, eos, request };

/// How a generation went. Times are in seconds.
struct GenerationStatistics {
  std::int64_t prompt_tokens = 0;
  std::int64_t new_tokens = 0;
  double prefill_seconds = 0.0;
  std::int64_t decode_steps = 0;  ///< tokens run one at a time, after the prompt
  double decode_seconds = 0.0;
  EndedBy ended_by = EndedBy::length;
  ExpertCounter experts;  ///< over the prompt and all tokens run
};

/// Continues `prompt`; `on_token` is called with each new token as soon as it is chosen. Ties
/// between logits go to the lower id. Throws Error as Model::forward does, before anything is run
/// if the prompt and max_new_tokens together exceed max_position_embeddings; std::invalid_argument
/// for options out of range.
GenerationStatistics generate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                              std::span<const std::int32_t> prompt,
                              const GenerationOptions& options,
                              const std::function<void(std::int32_t)>& on_token);

}  // namespace olmoe
