#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <fdroute/null/tabulated.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forward/model.hpp"

/// How single tokens were routed, with what decided it: what `olmoe trace` shows.
namespace olmoe {

/// One layer's routing of a text.
struct TracedLayer {
  ExecutedRouting routing;
  /// (tokens, experts): the p-values that the rule read; empty if it reads none, or a null that no
  /// policy string holds (conformal, per expert, with prior weights).
  std::vector<double> p;
  /// (experts): p(k) is compared with critical[k - 1]; empty for a rule without critical values.
  std::vector<double> critical;

  int experts() const { return static_cast<int>(routing.logits.size() / routing.counts.size()); }
};

/// A text as one policy routes it: the model is run with it, so that a layer's logits are those
/// that the routing of the layers below leads to.
struct TracedPolicy {
  std::string policy;
  std::vector<TracedLayer> layers;
};

/// Runs `routers`, one per layer, over `ids`, one sequence. `nulls`: the file's that the routers
/// were made from, one per layer, or none. Throws Error as Model::forward() does.
TracedPolicy trace(const Model& model, std::span<const fdroute::AnyRouter> routers,
                   std::span<const fdroute::TabulatedNull> nulls,
                   std::span<const std::int32_t> ids);

/// A token of the text.
struct TracedToken {
  std::int32_t id;
  std::string bytes;  ///< what it stands for, perhaps a part of a character
};

/// One HTML page, complete in itself, that shows the text with every token coloured by its number
/// of experts in each layer, and of a token that is pointed at its logits, p-values, critical
/// values and experts. The data are in the element `data`, as JSON: docs/command-line.md.
std::string trace_page(std::span<const TracedToken> tokens, std::span<const TracedPolicy> policies,
                       const std::string& model);

/// One token's sorted p-values, all of them and the first ones again, under the critical values of
/// the rule: an SVG. Throws std::invalid_argument if the layer has no p-values or no critical
/// values.
std::string step_up_picture(const TracedLayer& layer, std::int64_t token, const std::string& title);

/// Bytes as text to read: what is not UTF-8 or not printable is written as ⟨E2⟩, a line break and a
/// tab as they are.
std::string readable(std::string_view bytes);

}  // namespace olmoe
