#pragma once

// What is GNU's alone, and nowhere else: two attributes, an asm statement and a builtin. With
// another compiler than g++ and clang, or with FDROUTE_PORTABLE, standard C++ stands in their
// place: the routing has the same bits, more slowly.

#if defined(__GNUC__) && !defined(FDROUTE_PORTABLE)

// Kernels are short and their arguments are registers: a call would cost more than most of them.
// Without optimisation they are called: g++ 12 -O0 inlines into 7 times the code, in 3 times the
// time.
#if defined(__OPTIMIZE__)
#define FDROUTE_INLINE __attribute__((always_inline)) inline
#define FDROUTE_INLINED __attribute__((always_inline))  // of a lambda, before its body
#else
#define FDROUTE_INLINE inline
#define FDROUTE_INLINED
#endif

#define FDROUTE_PREFETCH(from) __builtin_prefetch(from)

// Hides from the optimiser what `x` is and keeps it in a register of the kind `where`.
#define FDROUTE_HIDE(where, x) asm("" : where(x))
#if defined(__x86_64__)
#define FDROUTE_FLOATS "+v"
#elif defined(__aarch64__)
#define FDROUTE_FLOATS "+w"
#endif

#else

#define FDROUTE_INLINE inline
#define FDROUTE_INLINED
#define FDROUTE_PREFETCH(from) static_cast<void>(from)
#define FDROUTE_HIDE(where, x) static_cast<void>(x)

#endif

// g++'s own AVX-512 intrinsics start from undefined values: GCC bug 105593. These lines stand
// around all that they are inlined in.
#if defined(__GNUC__) && !defined(__clang__)
#define FDROUTE_BEGIN_INTRINSICS                                                       \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wuninitialized\"") \
      _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")
#define FDROUTE_END_INTRINSICS _Pragma("GCC diagnostic pop")
#else
#define FDROUTE_BEGIN_INTRINSICS
#define FDROUTE_END_INTRINSICS
#endif
