#include "cli/commands.hpp"

#include <filesystem>

#include "measure/calibration.hpp"
#include "routing/routing.hpp"

namespace olmoe {

std::vector<fdroute::AnyRouter> RouteOptions::routers(const std::string& directory,
                                                      const Model& model) const {
  std::filesystem::path file = nulls;
  const std::filesystem::path beside = std::filesystem::path(directory) / "nulls.safetensors";
  if (file.empty() && policy != native_policy && std::filesystem::exists(beside)) file = beside;
  if (!file.empty()) check_nulls_model(file, model);
  return make_routers(model.config(), policy, file);
}

}  // namespace olmoe
