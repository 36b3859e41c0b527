#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <span>
#include <vector>

#include "forward/model.hpp"
#include "measure/texts.hpp"

/// Router logits of a run: what null distributions are fitted on and policies are solved on.
namespace olmoe {

/// Router logits of one run, for one layer.
struct LayerLogits {
  std::vector<float> values;         ///< (tokens, experts), row-major
  std::vector<std::int32_t> counts;  ///< (tokens): the experts that each token got in that run
  int experts = 0;

  std::int64_t tokens() const { return static_cast<std::int64_t>(values.size()) / experts; }
};

/// Router logits of one run: (layers).
using RouterLogits = std::vector<LayerLogits>;

/// Router logits of a run, split by windows into those to fit on and those held out.
struct RecordedLogits {
  RouterLogits fit;
  RouterLogits held_out;  ///< (layers), without tokens if nothing was held out
};

struct RecordingOptions {
  std::int64_t window = 0;      ///< tokens per window, which do not overlap; 0: default_window()
  std::int64_t skip_first = 0;  ///< tokens at the start of each window to leave out
  double held_out_share = 0.0;  ///< of each text's windows, its last; at least one if above 0
};

/// Runs `routers` over consecutive windows of every document and keeps the router logits. The rest
/// of a document after its last whole window is a shorter window. Throws Error, naming the text, if
/// it cannot be run or is too short to hold a window out; std::invalid_argument for options out of
/// range.
RecordedLogits record_logits(const Model& model, std::span<const fdroute::AnyRouter> routers,
                             std::span<const Text> texts, const RecordingOptions& options = {});

/// What a router selects on logits recorded.
struct SelectedExperts {
  std::vector<std::int32_t> experts;  ///< (tokens, capacity), padded
  std::vector<std::int32_t> counts;   ///< (tokens)
  int capacity = 0;
};

SelectedExperts select_experts(const fdroute::AnyRouter& router, const LayerLogits& logits);

}  // namespace olmoe
