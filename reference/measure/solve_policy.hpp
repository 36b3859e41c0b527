#pragma once

#include <fdroute/null/tabulated.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/error.hpp"
#include "forward/model.hpp"
#include "measure/recorded_logits.hpp"
#include "measure/texts.hpp"

/// Solves a policy for a mean number of experts.
namespace olmoe {

/// A policy with one parameter left open, and the mean number of experts that it shall have.
struct Target {
  std::string policy;  ///< a policy string with `?` for one value: "bh:alpha=?,max_k=12"
  double mean_experts;
  bool per_layer = false;  ///< each layer has the mean, by a value of its own
};

/// Throws std::invalid_argument unless solve_policy() can begin with `target`: exactly one value is
/// `?`, the policy parses, given a null distribution of `score`, and its bounds include the mean.
void check_target(const Config& config, const Target& target, std::string_view score);

struct SolvedPolicy {
  std::string policy;         ///< `?` replaced by a value, or by one per layer: `a/b/c`
  double mean_experts = 0.0;  ///< measured by running `policy`
  std::vector<double> layer_mean_experts;  ///< (layers)
  int runs = 0;                            ///< of the model
};

/// No value of the open parameter gives the mean.
struct Unreachable : Error {
  using Error::Error;
};

/// Finds the value of the open parameter, in (0, 1), by bisection over its log odds on recorded
/// logits (of the parameter `c`, which is a logarithm, the value of exp(c)); then runs the model
/// with it, since routing one layer changes the next one's logits, and goes on from the logits of
/// that run, until the measured mean is within 0.01 of the target (each layer's, with per_layer),
/// for at most 12 runs. The mean must change monotonically with the value.
///
/// Values have 9 significant digits: the string is what was measured. `nulls` and `selection_bias`,
/// one per layer, may be empty. Windows are run as by record_logits(). Throws std::invalid_argument
/// for a policy without exactly one `?`, or one that does not parse; Unreachable if no value gives
/// the mean, with the range that there is; Error as record_logits() does.
SolvedPolicy solve_policy(const Model& model, const Target& target,
                          std::span<const fdroute::TabulatedNull> nulls,
                          std::span<const Text> texts, const RecordingOptions& options = {},
                          std::span<const std::vector<float>> selection_bias = {});

}  // namespace olmoe
