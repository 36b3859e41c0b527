#include "isa.hpp"

#include <array>

namespace engine {
namespace avx512 {
fdroute::AnyRouter make_router(std::string_view policy, int experts);
}
namespace avx2 {
fdroute::AnyRouter make_router(std::string_view policy, int experts);
}
namespace baseline {
fdroute::AnyRouter make_router(std::string_view policy, int experts);
}

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

constexpr std::array<Isa, 3> all{{
    {"avx512", has_avx512, avx512::make_router},
    {"avx2", has_avx2, avx2::make_router},
    {"baseline", [] { return true; }, baseline::make_router},
}};

}  // namespace

std::span<const Isa> isas() {
  return all;
}

fdroute::AnyRouter make_router(std::string_view policy, int experts) {
  const Isa* isa = all.data();
  while (!isa->supported()) ++isa;
  return isa->make_router(policy, experts);
}

}  // namespace engine
