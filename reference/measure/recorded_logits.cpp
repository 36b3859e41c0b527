#include "measure/recorded_logits.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <fdroute/openmp.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include "formats/error.hpp"
#include "forward/memory.hpp"
#include "measure/at.hpp"
#include "measure/parallel.hpp"
#include "measure/windows.hpp"

namespace olmoe {
namespace {

/// A window to record, and where its rows go.
struct Piece {
  const Text& text;
  std::int64_t first_token;
  std::span<const std::int32_t> ids;
  bool held_out;
  std::int64_t first_row;
};

}  // namespace

RecordedLogits record_logits(const Model& model, std::span<const fdroute::AnyRouter> routers,
                             std::span<const Text> texts, const RecordingOptions& options) {
  const Config& config = model.config();
  const std::int64_t window = options.window == 0 ? default_window(config) : options.window;
  if (window < 1 || window > config.max_position_embeddings)
    throw std::invalid_argument("record_logits: window must lie in [1, " +
                                std::to_string(config.max_position_embeddings) + "], got " +
                                std::to_string(window));
  if (options.skip_first < 0 || options.skip_first >= window)
    throw std::invalid_argument("record_logits: skip_first must lie in [0, window), got " +
                                std::to_string(options.skip_first));
  if (!(options.held_out_share >= 0.0 && options.held_out_share < 1.0))
    throw std::invalid_argument("record_logits: held_out_share must lie in [0, 1), got " +
                                std::to_string(options.held_out_share));

  std::vector<Piece> pieces;
  std::array<std::int64_t, 2> rows{};  // fit, held out
  for (const Text& text : texts) {
    if (text.ids.empty()) throw Error(text.name + ": has no tokens");
    std::vector<std::pair<std::int64_t, std::int64_t>> cuts;  // first token, length
    std::int64_t document_begin = 0;
    for (const Document& document : text.all_documents()) {
      for (std::int64_t first = 0; first < document.tokens; first += window)
        cuts.emplace_back(document_begin + first, std::min(window, document.tokens - first));
      document_begin += document.tokens;
    }
    const auto windows = static_cast<std::int64_t>(cuts.size());
    const auto held_out =
        static_cast<std::int64_t>(std::ceil(options.held_out_share * static_cast<double>(windows)));
    if (held_out == windows)
      throw Error(text.name + ": is too short to hold a window of " + std::to_string(window) +
                  " tokens out: it has " + std::to_string(text.ids.size()) +
                  "; give more text, or other text to check the fit on (--held-out FILE)");
    for (std::int64_t w = 0; w < windows; ++w) {
      const auto [first, length] = cuts[at(w)];
      std::int64_t& next = rows[w >= windows - held_out ? 1 : 0];
      pieces.push_back({text, first, std::span(text.ids).subspan(at(first), at(length)),
                        w >= windows - held_out, next});
      next += std::max<std::int64_t>(length - options.skip_first, 0);
    }
  }

  require_memory(sizeof(float) * static_cast<double>(rows[0] + rows[1]) * config.num_hidden_layers *
                     config.num_experts,
                 "recording router logits");
  const auto empty = [&](std::int64_t n) {
    LayerLogits layer{.values = std::vector<float>(at(n * config.num_experts)),
                      .counts = std::vector<std::int32_t>(at(n)),
                      .experts = config.num_experts};
    return RouterLogits(at(config.num_hidden_layers), layer);
  };
  RecordedLogits recorded{empty(rows[0]), empty(rows[1])};
  const auto all = static_cast<std::int64_t>(pieces.size());
  std::int64_t done = 0;
  if (options.on_progress) options.on_progress(0, all);
  const auto record = [&](const Piece& piece) {
    if (static_cast<std::int64_t>(piece.ids.size()) <= options.skip_first) return;
    KvCache cache;
    ForwardTrace trace;
    try {
      model.forward(piece.ids, cache, routers, Model::LogitsOf::no_token, &trace);
    } catch (const Error& error) {
      throw Error(piece.text.name + ", window from token " + std::to_string(piece.first_token) +
                  ": " + error.what());
    }
    RouterLogits& to = piece.held_out ? recorded.held_out : recorded.fit;
    for (std::size_t l = 0; l < trace.routing.size(); ++l) {
      const ExecutedRouting& from = trace.routing[l];
      std::copy(from.logits.begin() + options.skip_first * config.num_experts, from.logits.end(),
                to[l].values.begin() + piece.first_row * config.num_experts);
      std::copy(from.counts.begin() + options.skip_first, from.counts.end(),
                to[l].counts.begin() + piece.first_row);
    }
  };
  parallel_for(all, [&](std::int64_t p) {
    record(pieces[at(p)]);
    if (!options.on_progress) return;
#pragma omp critical(olmoe_recording_progress)
    options.on_progress(++done, all);
  });
  return recorded;
}

SelectedExperts select_experts(const fdroute::AnyRouter& router, const LayerLogits& logits) {
  const std::size_t tokens = at(logits.tokens());
  SelectedExperts selected{.experts = std::vector<std::int32_t>(tokens * at(router.capacity())),
                           .counts = std::vector<std::int32_t>(tokens),
                           .capacity = router.capacity()};
  std::vector<float> weights(selected.experts.size());  // computed and dropped
  router.route(fdroute::OpenMP{},
               fdroute::LogitsView<float>(logits.values.data(), logits.tokens(), logits.experts),
               fdroute::RoutingView<std::int32_t>{selected.experts.data(), weights.data(),
                                                  selected.counts.data(), router.capacity()});
  return selected;
}

}  // namespace olmoe
