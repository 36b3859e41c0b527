#pragma once

#include <fdroute/any_router.hpp>
#include <fdroute/completion.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_line.hpp"
#include "forward/model.hpp"
#include "routing/routing.hpp"

/// The options that several subcommands share.
namespace olmoe {

/// The options that choose a routing policy.
struct RouteOptions {
  std::string policy = native_policy;
  std::string nulls;

  /// `nulls`; without, nulls.safetensors in the model's directory if there is one, else nothing.
  std::filesystem::path nulls_file(const std::string& directory) const;

  /// One router per layer of the model in `directory`, with nulls_file(). Throws as make_routers()
  /// and check_nulls_model() do.
  std::vector<fdroute::AnyRouter> routers(const std::string& directory, const Model& model) const;
};

/// The options that complete a routing by experts that cost nothing more.
struct CompletionOptions {
  std::optional<int> window;
  std::optional<int> max_k;

  /// Nothing unless there is a window.
  std::optional<fdroute::Completion> completion() const;
};

/// --model
void add_model_option(const Command& command, std::string& model);

/// --route, --nulls
void add_route_options(const Command& command, RouteOptions& route);

/// --free-window, --max-k
void add_completion_options(const Command& command, CompletionOptions& completion);

/// --threads, which takes effect at once.
void add_threads_option(const Command& command);

/// --threads and --isa, which take effect at once.
void add_kernel_options(const Command& command);

/// --threads, --isa and --compute: for the commands that run a model.
void add_compute_options(const Command& command, Compute& compute);

/// --kv: for the commands that need not record it.
void add_kv_option(const Command& command, Storage& kv);

/// --quiet, which takes effect at once: for the commands that show progress.
void add_quiet_option(const Command& command);

/// --json
void add_json_option(const Command& command, bool& json);

/// OpenMP reads OMP_NUM_THREADS without a check. If it asks for more threads than --threads allows,
/// warns and uses one per processor.
void limit_threads();

}  // namespace olmoe
