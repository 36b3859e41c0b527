#pragma once

#include <fdroute/parse.hpp>
#include <string_view>

// What parse_router() instantiates takes long to compile: routing.cpp does it for all files that
// include this header.
extern template fdroute::AnyRouter fdroute::parse_router<fdroute::DefaultArch>(
    std::string_view, int, const fdroute::ParseOptions<fdroute::DefaultArch>&);
