#pragma once

#include <doctest/doctest.h>

#include <stdexcept>

#include "kernels/isa.hpp"

/// Calls check(isa) with the kernels of each instruction set in turn that this processor has.
template <class Check>
void each_isa(const Check& check) {
  const olmoe::Isa best = olmoe::kernels().isa;
  for (const olmoe::Isa isa : olmoe::usable_isas()) {
    CAPTURE(olmoe::name(isa));
    olmoe::use_isa(isa);
    check(isa);
  }
  olmoe::use_isa(best);
}

/// Whether products in bf16 can be tested here. Where not, says so, having checked that they are
/// refused.
inline bool bf16_here() {
  if (olmoe::bf16_dot() != nullptr) return true;
  MESSAGE("skipped: this processor has no AVX512_BF16");
  CHECK_THROWS_WITH_AS(
      olmoe::require_bf16_dot(),
      "compute 'bf16' needs the dot product of AVX512_BF16, which is not available: this processor "
      "or this build lacks it",
      std::invalid_argument);
  return false;
}

/// Calls check() with each instruction set in turn that has products in bf16: AVX512_BF16's dot
/// product, AMX's product of tiles. Where one cannot be tested here, says so.
template <class Check>
void each_bf16(const Check& check) {
  if (!bf16_here()) return;
  const olmoe::Isa best = olmoe::kernels().isa;
  olmoe::use_isa(olmoe::Isa::avx512);
  CAPTURE(olmoe::bf16_unit());
  check();
  if (best == olmoe::Isa::amx) {
    olmoe::use_isa(olmoe::Isa::amx);
    CAPTURE(olmoe::bf16_unit());
    check();
  } else {
    MESSAGE("skipped: no AMX, products in bf16 are by ", olmoe::bf16_unit());
  }
  olmoe::use_isa(best);
}
