#pragma once

/// FDROUTE_ADDRESS_SANITIZER: defined under AddressSanitizer, which keeps freed memory and pads
/// frames; FDROUTE_THREAD_SANITIZER: under ThreadSanitizer. g++ has macros of its own for them,
/// clang features.
#if defined(__SANITIZE_ADDRESS__)
#define FDROUTE_ADDRESS_SANITIZER
#elif defined(__SANITIZE_THREAD__)
#define FDROUTE_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FDROUTE_ADDRESS_SANITIZER
#elif __has_feature(thread_sanitizer)
#define FDROUTE_THREAD_SANITIZER
#endif
#endif

namespace test {

/// Long loops over sizes and policies take every 7th under a sanitizer, which makes a program 10 to
/// 50 times as slow, and every one otherwise. From 1 on, 7 leads to 8, 64 and 127.
#if defined(FDROUTE_ADDRESS_SANITIZER) || defined(FDROUTE_THREAD_SANITIZER)
inline constexpr int stride_of_cases = 7;
#else
inline constexpr int stride_of_cases = 1;
#endif

}  // namespace test
