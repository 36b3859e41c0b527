#pragma once

// Routing is about NaN, infinities and the order of numbers, and the same bits everywhere. A
// compiler that is told to assume that there are none, or that sums may be reordered, changes which
// experts are selected, without a word. Clang has no macro for -fassociative-math and its like
// alone.
#if !defined(FDROUTE_ALLOW_FAST_MATH)
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ == 1) || \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error \
    "fdroute selects other experts under -ffast-math, -ffinite-math-only, -fassociative-math or -freciprocal-math: compile without, or define FDROUTE_ALLOW_FAST_MATH"
#endif
#endif
