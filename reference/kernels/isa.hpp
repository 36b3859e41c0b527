#pragma once

#include <string_view>
#include <vector>

#include "kernels/kernels.hpp"

namespace olmoe {

/// "baseline", "avx2", "avx512" or "amx".
std::string_view name(Isa isa);

/// The instruction sets that this program has kernels for and this processor has, ascending.
std::vector<Isa> usable_isas();

/// The kernels in use: those of the largest usable instruction set, unless use_isa() chose others.
const Kernels& kernels();

/// From now on, kernels() is of `isa`. Not while a model is running. Throws std::invalid_argument
/// if `isa` is not usable.
void use_isa(Isa isa);

/// use_isa() by name. Throws std::invalid_argument also for a name that is none.
void use_isa(std::string_view name);

/// Whether weights that are read once are better asked for a page ahead. Measured on random weights
/// of OLMoE-1B-7B's shape: decoding gains 45 % from it on a Xeon, and loses 7 % on a Zen 4, whose
/// own prefetch does best alone.
bool reads_ahead();

/// The products in bfloat16: amx_products if the kernels in use are of Isa::amx; else
/// bf16_products, or null where this program or this processor (AVX512_BF16) has none.
const Products* bf16_dot();

/// By what bf16_dot() multiplies: "AMX", "AVX512_BF16", the same with the remark that the system
/// refuses the processor's AMX, or "not present".
std::string_view bf16_unit();

/// Throws std::invalid_argument, saying why, unless there is a bf16_dot() and the kernels in use
/// are of an instruction set that has one, AVX-512 or AMX.
void require_bf16_dot();

}  // namespace olmoe
