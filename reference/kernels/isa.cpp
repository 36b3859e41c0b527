#include "kernels/isa.hpp"
#include "formats/error.hpp"

#ifdef FDROUTE_X86_KERNELS
#include <cpuid.h>
#endif
#ifdef FDROUTE_AMX_KERNELS
#include <sys/syscall.h>
#include <unistd.h>
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
                           std::pair{Isa::avx512, std::string_view("avx512")},
                           std::pair{Isa::amx, std::string_view("amx")}};

#ifdef FDROUTE_X86_KERNELS
/// clang 14's __builtin_cpu_supports does not know this one.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_bf16_dot() {
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
}
#endif

enum class Amx { none, refused, usable };

/// Whether the processor has AMX's tiles and its products of bfloat16, and whether Linux lets this
/// process use them. It must be asked, once for all threads, since a thread that has tiles needs
/// more memory for its state (arch_prctl(2); Linux's Documentation/arch/x86/xstate.rst).
Amx amx() {
#ifdef FDROUTE_AMX_KERNELS
  static const Amx answer = [] {
    constexpr unsigned bf16_and_tiles = 1U << 22 | 1U << 24;  // of EDX
    constexpr unsigned osxsave = 1U << 27;                    // of ECX
    constexpr unsigned tile_state = 3U << 17;                 // of XCR0: configuration and data
    constexpr long request_permission = 0x1023;
    constexpr long tile_data = 18;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__builtin_cpu_supports("avx512bw") || !has_bf16_dot()) return Amx::none;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & bf16_and_tiles) != bf16_and_tiles)
      return Amx::none;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & osxsave) == 0) return Amx::none;
    unsigned xcr0 = 0, high = 0;
    asm volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 & tile_state) != tile_state) return Amx::refused;
    return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0 ? Amx::usable
                                                                         : Amx::refused;
  }();
  return answer;
#else
  return Amx::none;
#endif
}

const Kernels* kernels_of(Isa isa) {
#ifdef FDROUTE_AMX_KERNELS
  if (isa == Isa::amx) {
    // AMX has no products of floats.
    static const Kernels kernels = [] {
      Kernels result = kernels_avx512;
      result.isa = Isa::amx;
      return result;
    }();
    return kernels_of(Isa::avx512) != nullptr && amx() == Amx::usable ? &kernels : nullptr;
  }
#endif
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
                                "; known are baseline, avx2, avx512 and amx");
  }
  use_isa(found->first);
}

const Products* bf16_dot() {
#ifdef FDROUTE_AMX_KERNELS
  if (kernels().isa == Isa::amx) return &amx_products;
#endif
#ifdef FDROUTE_X86_KERNELS
  if (has_bf16_dot() && kernels_of(Isa::avx512) != nullptr) return &bf16_products;
#endif
  return nullptr;
}

std::string_view bf16_unit() {
  if (bf16_dot() == nullptr) return "not present";
  if (kernels().isa == Isa::amx) return "AMX";
  return amx() == Amx::refused ? "AVX512_BF16, since the system refuses AMX" : "AVX512_BF16";
}

void require_bf16_dot() {
  if (bf16_dot() == nullptr) {
    throw std::invalid_argument(
        "compute 'bf16' needs the dot product of AVX512_BF16, which is not available: this "
        "processor or this build lacks it");
  }
  if (kernels().isa != Isa::avx512 && kernels().isa != Isa::amx) {
    throw std::invalid_argument(
        "compute 'bf16' needs instruction set 'avx512' or 'amx', in use is '" +
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
