#ifdef FDROUTE_FAIL
// As if xsimd 8.0 stood here: its guard and its version.
#define XSIMD_HPP
#define XSIMD_VERSION_MAJOR 8
#define XSIMD_VERSION_MINOR 0
#endif

#include "fdroute/arch.hpp"

int main() {}
