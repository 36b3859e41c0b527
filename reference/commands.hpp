#pragma once

#include <CLI/CLI.hpp>
#include <fdroute/any_router.hpp>
#include <string>
#include <vector>

#include "model.hpp"

namespace olmoe {

// Each adds one subcommand of `olmoe`: its options, and a callback that runs it. A callback throws
// Error for a failure, std::invalid_argument for arguments that cannot be.
void add_generate(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_logits(CLI::App& app);
void add_verify(CLI::App& app);
void add_inspect(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_sweep(CLI::App& app);
void add_merge(CLI::App& app);

/// Adds `--threads N`, the number of OpenMP threads; without it OpenMP decides.
void add_threads_option(CLI::App& command);

/// Adds `--model DIR`.
void add_model_option(CLI::App& command, std::string& model);

/// The options that choose a routing policy.
struct RouteOptions {
  std::string policy;
  std::string nulls;

  /// Adds `--route POLICY` and `--nulls FILE`.
  void add_to(CLI::App& command);

  /// One router per layer of the model in `directory`. Without --nulls, the directory's
  /// nulls.safetensors serves if there is one. Throws as make_routers() and check_nulls_model() do.
  std::vector<fdroute::AnyRouter> routers(const std::string& directory, const Model& model) const;
};

}  // namespace olmoe
