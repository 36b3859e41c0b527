#pragma once

#include <string_view>

#include "fdroute/parse.hpp"

// What parse_router() instantiates takes long to compile: parse_once.cpp does it for all files of a
// test program that include this header.
extern template fdroute::AnyRouter fdroute::parse_router<fdroute::DefaultArch>(
    std::string_view, int, const fdroute::ParseOptions<fdroute::DefaultArch>&);
