#pragma once

#include <fdroute/any_router.hpp>
#include <optional>
#include <string>
#include <vector>

#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "measure/calibration.hpp"
#include "measure/evaluation.hpp"
#include "routing/routing.hpp"

/// The subcommands of `olmoe`, each as its options and a function. main.cpp reads the command line
/// into them and says what they mean; sweep and merge are in sweep.hpp. All throw Error for a
/// failure and std::invalid_argument for options that cannot be.
namespace olmoe {

/// The options that choose a routing policy.
struct RouteOptions {
  std::string policy = native_policy;
  std::string nulls;

  /// One router per layer of the model in `directory`. Without `nulls`, the directory's
  /// nulls.safetensors serves if there is one. Throws as make_routers() and check_nulls_model() do.
  std::vector<fdroute::AnyRouter> routers(const std::string& directory, const Model& model) const;
};

struct GenerateOptions {
  std::string model;
  std::string prompt;
  Compute compute = Compute::f32;
  RouteOptions route;
  GenerationOptions generation;
};
void run_generate(const GenerateOptions& options);

struct TokenizeOptions {
  std::string model;
  // Exactly one of these is given.
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> jsonl;
  std::optional<std::string> ids;
};
void run_tokenize(const TokenizeOptions& options);

struct LogitsOptions {
  std::string model;
  Compute compute = Compute::f32;
  std::string ids;
  std::string text;
  std::string out;
  RouteOptions route;
};
void run_logits(const LogitsOptions& options);

struct VerifyOptions {
  std::string model;
  Compute compute = Compute::f32;
  // Exactly one of these is given.
  std::string capture;
  std::string preset;
  std::string nulls;
  double atol = 1e-4;
};
void run_verify(const VerifyOptions& options);

struct PerplexityOptions {
  std::string model;
  Compute compute = Compute::f32;
  std::vector<std::string> texts;
  RouteOptions route;
  EvaluationOptions evaluation;
};
void run_perplexity(const PerplexityOptions& options);

struct CalibrateOptions {
  std::string model;
  Compute compute = Compute::f32;
  std::vector<std::string> texts;
  std::vector<std::string> held_out;
  std::string out;
  NullOptions null;
  RecordingOptions recording;
  double target_experts = 0.0;  ///< 0: none
  bool per_layer = false;
  std::string policy = "bh:alpha=?,min_k=1,max_k=16";
};
void run_calibrate(const CalibrateOptions& options);

void run_inspect(const std::string& directory);

}  // namespace olmoe
