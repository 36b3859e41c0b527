// Compiled once per instruction set, with its flags and its name in ENGINE_ISA. Whatever fdroute
// computes with vectors here is a template of DefaultArch, the instruction set of these flags, and
// so has a name of its own in every object file.

#include <fdroute/parse.hpp>

namespace engine::ENGINE_ISA {

fdroute::AnyRouter make_router(std::string_view policy, int experts);

fdroute::AnyRouter make_router(std::string_view policy, int experts) {
  return fdroute::parse_router(policy, experts);
}

}  // namespace engine::ENGINE_ISA
