#pragma once

#include <fdroute/any_router.hpp>
#include <string_view>

/// The number of experts selected from 8 logits.
int own_policies(const float* logits);

/// A router over 8 experts, by a policy of the library or of one's own.
fdroute::AnyRouter parse_own(std::string_view policy);
