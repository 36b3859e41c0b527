#pragma once

#include <fdroute/any_router.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace olmoe {

/// What a config.json says of a model's router.
struct ConfiguredRouter {
  std::string policy;        ///< as fdroute::parse_router reads it, every setting written out
  int experts;               ///< that are routed to, zero experts included
  int zero_experts;          ///< the last ones of them: their output is their input
  std::string bias;          ///< name of the tensor of selection biases, or empty for none
  std::string expert_scale;  ///< name of the tensor of the experts' own factors, or empty for none
};

/// The router of layer `layer` of any model in fdroute/model_table.hpp, from the JSON of its
/// config.json; `origin` names it in messages. A key that is missing has transformers' default.
/// A list of values has one per layer. Keys that the model's router does not read are ignored.
///
/// Throws Error, which names the key: no model type, or one that the table lacks; a key that is
/// missing and has no default; a value of the wrong type; a layer that routes by a table of tokens
/// (fdroute::TokenTable). Numbers that make no router are for parse_router() to refuse.
ConfiguredRouter configured_router(const nlohmann::json& config, int layer,
                                   const std::string& origin);

/// The router itself. `bias` and `expert_scale` have shape (experts), or are empty if the model has
/// none. Throws Error also for numbers that make no router, and for a tensor that is missing.
fdroute::AnyRouter router_from_config(const std::filesystem::path& config, int layer,
                                      std::span<const float> bias = {},
                                      std::span<const float> expert_scale = {});

}  // namespace olmoe
