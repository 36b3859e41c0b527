#pragma once

#include <doctest/doctest.h>

#include "isa.hpp"

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
