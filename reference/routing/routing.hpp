#pragma once

#include <fdroute/any_router.hpp>
#include <fdroute/null/tabulated.hpp>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "forward/config.hpp"

namespace olmoe {

/// The policy that stands for what the model itself does: TopK of num_experts_per_tok, renormalised
/// if norm_topk_prob.
inline constexpr const char* native_policy = "native";

/// One router per layer for a policy string: `native` or what fdroute::parse_router accepts, with
/// temperature and renormalisation the model's own unless the string says otherwise. `nulls` is a
/// nulls file, or empty for none; if it holds selection biases, these serve `selection_bias=given`.
///
/// Any value may be a list, one per layer: "bh:alpha=0.1/0.08/0.05/0.07,max_k=16" for four layers.
/// In a list, - leaves a setting out: "bh:null=normal/logistic,sd=2/-" for two.
///
/// Throws std::invalid_argument for a policy string that cannot be (the caller's usage), Error for
/// a nulls file that cannot serve it.
std::vector<fdroute::AnyRouter> make_routers(const Config& config, const std::string& policy,
                                             const std::filesystem::path& nulls);

/// make_routers() with null distributions and selection biases in memory, not in a file: one per
/// layer, or none.
std::vector<fdroute::AnyRouter> make_routers(
    const Config& config, const std::string& policy, std::span<const fdroute::TabulatedNull> nulls,
    std::span<const std::vector<float>> selection_bias = {});

/// The policy of all layers with every setting written out, those that differ as lists:
/// make_routers() reads it back.
std::string policy_of(std::span<const fdroute::AnyRouter> routers);

}  // namespace olmoe
