// parse_router() for one more vector instruction set, that of this file's flags, under the name
// FUZZ_MAKE_ROUTER: for routing_target.cpp.

#include <string_view>

#include "fdroute/parse.hpp"

namespace fuzz {

fdroute::AnyRouter FUZZ_MAKE_ROUTER(std::string_view policy, int experts,
                                    const fdroute::TabulatedNull& null);

fdroute::AnyRouter FUZZ_MAKE_ROUTER(std::string_view policy, int experts,
                                    const fdroute::TabulatedNull& null) {
  return fdroute::parse_router(policy, experts, null);
}

}  // namespace fuzz
