#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "measure/texts.hpp"
#include "sweep/grid.hpp"
#include "sweep/sweep.hpp"

namespace olmoe {

/// What a sweep will take, as far as that is known before it.
struct SweepEstimate {
  std::size_t configurations = 0;  ///< of the plan
  std::size_t pending = 0;         ///< to be measured by this run
  std::int64_t tokens = 0;         ///< to run through the model, each as often as it is run
  std::int64_t new_tokens = 0;     ///< to generate
  double probe_seconds = 0.0;
  double tokens_per_second = 0.0;      ///< measured
  double new_tokens_per_second = 0.0;  ///< measured; 0 if none are to be generated
  double seconds = 0.0;                ///< of the whole run
  double weight_bytes = 0.0;           ///< of the mapped checkpoint
  double record_bytes = 0.0;           ///< hidden states, counts and router logits kept

  double bytes() const { return weight_bytes + record_bytes; }
};

/// How often the model is run over the texts, the calibration texts and the prompts for one
/// configuration.
struct ConfigurationRuns {
  double texts = 0.0;
  double calibration = 0.0;
  double prompts = 0.0;
};

/// An adaptive row is measured once, and once for each shuffle of its counts; what is not the
/// baseline's or top-k's counts as adaptive. An open parameter takes `solving_runs` over the
/// calibration texts, a usual number, and one more if it is solved for the mean of another
/// configuration; fitting the weights' exponent takes `fitting_runs`, and solving once more. What
/// counts by layer are chosen from is not counted here: it is measured once for all of them.
/// Generation is timed by turns with the baseline.
ConfigurationRuns runs_of(const Configuration& configuration, const SweepOptions& options);

inline constexpr double solving_runs = 4.0;
inline constexpr double fitting_runs = 10.0;

/// Reads what run_sweep() would, runs the model for `probe_seconds`, and estimates. Writes nothing.
/// Throws as run_sweep() does for options, model, texts and what `out` holds.
SweepEstimate estimate_sweep(const SweepOptions& options, double probe_seconds = 5.0);

/// All tokens of some texts.
std::int64_t tokens_of(std::span<const Text> texts);

/// The estimate, a line for each thing to know.
std::string to_text(const SweepEstimate& estimate);

}  // namespace olmoe
