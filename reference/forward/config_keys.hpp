#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace olmoe {

/// Whether a key of config.json that nothing reads may change the model's numbers. Most keys of the
/// hubs' configs come from trainers and tools and do not, so the rule goes by words; what it cannot
/// know, it takes for a change.
bool may_change_numbers(const std::string& key, const nlohmann::json& value);

}  // namespace olmoe
