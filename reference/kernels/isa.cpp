#include "kernels/isa.hpp"
#include "formats/error.hpp"

#ifdef FDROUTE_X86_KERNELS
#include <cpuid.h>
#endif

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

namespace olmoe {
namespace {

constexpr std::array names{std::pair{Isa::baseline, std::string_view("baseline")},
                           std::pair{Isa::avx2, std::string_view("avx2")},
                           std::pair{Isa::avx512, std::string_view("avx512")}};

#ifdef FDROUTE_X86_KERNELS
/// clang 14's __builtin_cpu_supports does not know this one.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

const Kernels* kernels_of(Isa isa) {
#ifdef FDROUTE_X86_KERNELS
  if (isa == Isa::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? &kernels_avx512
               : nullptr;
  }
  if (isa == Isa::avx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()
               ? &kernels_avx2
               : nullptr;
  }
#endif
  return isa == Isa::baseline ? &kernels_baseline : nullptr;
}

const Kernels*& chosen() {
  static const Kernels* kernels = kernels_of(usable_isas().back());
  return kernels;
}

}  // namespace

std::string_view name(Isa isa) {
  return names[static_cast<std::size_t>(isa)].second;
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> usable;
  for (const auto& [isa, text] : names) {
    if (kernels_of(isa) != nullptr) usable.push_back(isa);
  }
  return usable;
}

const Kernels& kernels() {
  return *chosen();
}

void use_isa(Isa isa) {
  const Kernels* kernels = kernels_of(isa);
  if (kernels == nullptr) {
    throw std::invalid_argument("instruction set '" + std::string(name(isa)) +
                                "' is not available: this processor or this build lacks it");
  }
  chosen() = kernels;
}

void use_isa(std::string_view name) {
  const auto* found = std::find_if(names.begin(), names.end(),
                                   [&](const auto& known) { return known.second == name; });
  if (found == names.end()) {
    throw std::invalid_argument("unknown instruction set " + quote(name) +
                                "; known are baseline, avx2 and avx512");
  }
  use_isa(found->first);
}

const Products* bf16_dot() {
#ifdef FDROUTE_X86_KERNELS
  static const bool usable =
      kernels_of(Isa::avx512) != nullptr && __builtin_cpu_supports("avx512bf16");
  if (usable) return &bf16_products;
#endif
  return nullptr;
}

void require_bf16_dot() {
  if (bf16_dot() == nullptr) {
    throw std::invalid_argument(
        "compute 'bf16' needs the dot product of AVX512_BF16, which is not available: this "
        "processor or this build lacks it");
  }
  if (kernels().isa != Isa::avx512) {
    throw std::invalid_argument("compute 'bf16' needs instruction set 'avx512', in use is '" +
                                std::string(name(kernels().isa)) + "'");
  }
}

bool reads_ahead() {
#ifdef FDROUTE_X86_KERNELS
  static const bool intel = __builtin_cpu_is("intel") != 0;
  return intel;
#else
  return true;
#endif
}

}  // namespace olmoe
