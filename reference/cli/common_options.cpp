#include "cli/common_options.hpp"

#include <omp.h>

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "kernels/isa.hpp"
#include "routing/nulls_model.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

/// More are slower on every machine, and their stacks may not fit its memory.
constexpr int most_threads = 1024;

}  // namespace

std::filesystem::path RouteOptions::nulls_file(const std::string& directory) const {
  if (!nulls.empty()) return nulls;
  const std::filesystem::path beside = std::filesystem::path(directory) / "nulls.safetensors";
  const bool serves = policy != native_policy && std::filesystem::exists(beside);
  return serves ? beside : std::filesystem::path();
}

std::vector<fdroute::AnyRouter> RouteOptions::routers(const std::string& directory,
                                                      const Model& model) const {
  const std::filesystem::path file = nulls_file(directory);
  if (!file.empty()) check_nulls_model(file, model);
  return make_routers(model.config(), policy, file);
}

void add_model_option(const Command& command, std::string& model) {
  command.option("-m,--model", model, "Directory with a Hugging Face OLMoE checkpoint")
      .required()
      .shown_as("DIR");
}

void add_route_options(const Command& command, RouteOptions& route) {
  const Command routing = command.under("Routing");
  routing
      .option("--route", route.policy,
              "Routing policy: native (the model's own top-k), topk:k=8, "
              "bh:alpha=0.05,min_k=1,max_k=16 ...; olmoe policies lists them")
      .shows_default()
      .shown_as("POLICY");
  routing
      .option("--nulls", route.nulls,
              "Null distributions, one per layer; default: nulls.safetensors in the model "
              "directory, if there is one")
      .shown_as("FILE");
}

std::optional<fdroute::Completion> CompletionOptions::completion() const {
  if (!window) return std::nullopt;
  return fdroute::Completion{.window = *window, .max_k = max_k.value_or(*window)};
}

void add_completion_options(const Command& command, CompletionOptions& completion) {
  constexpr int most = fdroute::max_experts;
  const Option window =
      command
          .option("--free-window", completion.window,
                  "Tokens also get those of their W best experts that are loaded anyway")
          .whole_number(1, most)
          .shown_as("W");
  command.option("--max-k", completion.max_k, "... until they have K experts; default: W")
      .whole_number(1, most)
      .shown_as("K")
      .needs(window);
}

void add_threads_option(const Command& command) {
  command.under("General")
      .option(
          "-t,--threads", [](const std::string& text) { omp_set_num_threads(std::stoi(text)); },
          "Number of threads; default: all")
      .whole_number(1, most_threads)
      .shown_as("N");
}

void add_kernel_options(const Command& command) {
  add_threads_option(command);
  command.under("General")
      .option(
          "--isa", [](const std::string& isa) { use_isa(std::string_view(isa)); },
          "Instruction set of the kernels: baseline, avx2, avx512 or amx; default: the processor's "
          "best")
      .shown_as("ISA");
}

void add_compute_options(const Command& command, Compute& compute) {
  add_kernel_options(command);
  command.under("General")
      .choice("--compute", compute, {{"f32", Compute::f32}, {"bf16", Compute::bf16}},
              "Arithmetic of products with weight matrices: f32, or bf16, which rounds activations "
              "to bfloat16 and needs AVX512_BF16 or AMX, and BF16 weights")
      .shows_default("f32");
}

void add_kv_option(const Command& command, Storage& kv) {
  command.under("General")
      .choice(
          "--kv", kv, {{"f32", Storage::f32}, {"f16", Storage::f16}, {"bf16", Storage::bf16}},
          "How attention keeps keys and values: f32, or rounded to f16 or bf16, which take half "
          "the memory")
      .shows_default("f32");
}

void add_quiet_option(const Command& command) {
  command.under("General").flag(
      "-q,--quiet", [] { Progress::silence(); }, "Show no progress on standard error");
}

void add_json_option(const Command& command, bool& json) {
  command.under("General").flag("--json", json,
                                "Print one JSON object instead (docs/command-line.md)");
}

void limit_threads() {
  if (omp_get_max_threads() <= most_threads) return;
  std::cerr << "olmoe: warning: OMP_NUM_THREADS asks for " << omp_get_max_threads()
            << " threads, more than " << most_threads << "; one thread per processor is used\n";
  omp_set_num_threads(std::min(omp_get_num_procs(), most_threads));
}

}  // namespace olmoe
