#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"
#include "sweep/prompts.hpp"
#include "sweep/sweep.hpp"
#include "sweep/sweep_plan.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {

struct TokenizedPrompt {
  Prompt prompt;
  std::vector<std::int32_t> ids;  ///< (tokens)
};

/// What a sweep works on, and its plan: everything that can be read and checked before any work.
class SweepInputs {
 public:
  /// Throws Error, naming the file, and std::invalid_argument for options that cannot be.
  explicit SweepInputs(const SweepOptions& options);

  Model model;
  Tokenizer tokenizer;
  std::vector<Text> texts;                    ///< (texts): to evaluate
  bool calibration_is_first_quarter = false;  ///< of `texts`, which hold the rest
  std::vector<Text> calibration_texts;        ///< (texts): to fit, solve and choose on
  std::vector<TokenizedPrompt> prompts;
  EvaluationOptions evaluation;
  std::vector<fdroute::TabulatedNull> nulls;  ///< (layers), from a file; empty if none was given
  std::vector<std::vector<float>>
      selection_bias;  ///< (layers) of (experts), from it, if it has any
  SweepPlan plan;

 private:
  void load_texts(const SweepOptions& options);
  void load_prompts(const SweepOptions& options);
  void load_given_nulls(const SweepOptions& options);
  void record_inputs(const SweepOptions& options);
  void choose_configurations(const SweepOptions& options);
};

}  // namespace olmoe
