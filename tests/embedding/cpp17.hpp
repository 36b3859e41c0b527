#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// The ids of the two largest logits, by engine17::Router.
std::vector<std::int32_t> best_two(const std::vector<float>& logits);

/// Why engine17::Router refuses a policy; "" if it does not.
std::string refusal(const std::string& policy);
