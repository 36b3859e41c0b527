#pragma once

#include <fdroute/any_router.hpp>
#include <span>
#include <string_view>

// Run-time choice of the instruction set. docs/embedding.md explains it.
namespace engine {

/// make_router() as compiled for one instruction set: see isa_router.cpp.
struct Isa {
  const char* name;
  bool (*supported)();
  fdroute::AnyRouter (*make_router)(std::string_view policy, int experts);
};

/// All that this program was built for, the widest first; the last runs anywhere.
std::span<const Isa> isas();

/// parse_router() on the widest instruction set that this machine has.
fdroute::AnyRouter make_router(std::string_view policy, int experts);

}  // namespace engine
