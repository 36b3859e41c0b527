#pragma once

#include <type_traits>
#include <xsimd/xsimd.hpp>

#if XSIMD_VERSION_MAJOR < 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR < 1)
#error "fdroute needs xsimd 8.1 or newer"
#endif

namespace fdroute::inline v0 {

/// An Arch is a vector instruction set that kernels are compiled for: an xsimd architecture
/// (xsimd::sse2, xsimd::fma3<xsimd::avx2>, xsimd::avx512bw, xsimd::neon64 ...) or ScalarArch. It
/// changes how fast a routing is computed, not one bit of it.

/// The Arch without vector registers: the same kernels, one number at a time.
struct ScalarArch {};

/// What a translation unit is compiled for. It is a template argument of everything that depends on
/// it, so that translation units with different flags can be linked.
using DefaultArch = std::conditional_t<std::is_same_v<xsimd::default_arch, xsimd::unavailable>,
                                       ScalarArch, xsimd::default_arch>;

}  // namespace fdroute::inline v0
