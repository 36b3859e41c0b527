#include "library/parse_once.hpp"

template fdroute::AnyRouter fdroute::parse_router<fdroute::DefaultArch>(
    std::string_view, int, const fdroute::ParseOptions<fdroute::DefaultArch>&);
