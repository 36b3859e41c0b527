#include "commands.hpp"

#include <omp.h>

#include <filesystem>

#include "calibration.hpp"
#include "routing.hpp"

namespace olmoe {

void add_threads_option(CLI::App& command) {
  command
      .add_option_function<int>("--threads", omp_set_num_threads, "Number of threads; default: all")
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
}

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "Directory with a Hugging Face OLMoE checkpoint")
      ->required()
      ->type_name("DIR");
}

void RouteOptions::add_to(CLI::App& command) {
  policy = native_policy;
  command
      .add_option("--route", policy,
                  "Routing policy: native (the model's own top-k), topk:k=8, "
                  "bh:alpha=0.05,min_k=1,max_k=16 ...")
      ->capture_default_str()
      ->type_name("POLICY");
  command
      .add_option("--nulls", nulls,
                  "Null distributions, one per layer; default: nulls.safetensors in the model "
                  "directory, if there is one")
      ->type_name("FILE");
}

std::vector<fdroute::AnyRouter> RouteOptions::routers(const std::string& directory,
                                                      const Model& model) const {
  std::filesystem::path file = nulls;
  const std::filesystem::path beside = std::filesystem::path(directory) / "nulls.safetensors";
  if (file.empty() && policy != native_policy && std::filesystem::exists(beside)) file = beside;
  if (!file.empty()) check_nulls_model(file, model);
  return make_routers(model.config(), policy, file);
}

}  // namespace olmoe
