#pragma once

/// FDROUTE_ADDRESS_SANITIZER: defined under AddressSanitizer, which keeps freed memory and pads
/// frames. g++ has a macro of its own for it, clang a feature.
#if defined(__SANITIZE_ADDRESS__)
#define FDROUTE_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FDROUTE_ADDRESS_SANITIZER
#endif
#endif
