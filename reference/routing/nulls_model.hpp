#pragma once

#include <filesystem>
#include <string>

#include "forward/model.hpp"

/// Which model a nulls file was fitted on.
namespace olmoe {

/// SHA-256 of the router weights of all layers: what tells models apart as far as nulls go.
std::string router_sha256(const Model& model);

/// Throws Error if the nulls file says that it was fitted on a model with other routers. One that
/// says nothing of it passes.
void check_nulls_model(const std::filesystem::path& nulls, const Model& model);

}  // namespace olmoe
