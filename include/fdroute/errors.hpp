#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

/// What becomes of a wrong argument of a constructor or of a function that says that it throws.
///
/// With exceptions: std::invalid_argument, or the class derived from it that is named there.
///
/// Without (`-fno-exceptions`): the sentence that the exception would hold goes to the function
/// that the macro FDROUTE_ERROR_HANDLER names. The program defines that function, at global scope:
///
///     [[noreturn]] void engine_error(const char* sentence);   //
///     -DFDROUTE_ERROR_HANDLER=engine_error
///
/// Where the macro is not defined, the sentence is printed to stderr, and the program aborts.
///
/// All translation units of a program that include fdroute are compiled alike in this, for they
/// share its inline functions: all with exceptions, or all without and with one handler.

#if !defined(__cpp_exceptions) && defined(FDROUTE_ERROR_HANDLER)
[[noreturn]] void FDROUTE_ERROR_HANDLER(const char* sentence);
#endif

namespace fdroute::inline v0::detail {

#if defined(__cpp_exceptions)

template <class Error = std::invalid_argument>
[[noreturn]] void refuse(const std::string& sentence) {
  throw Error(sentence);
}

#else

#if !defined(FDROUTE_ERROR_HANDLER)
[[noreturn]] inline void print_and_abort(const char* sentence) {
  std::fprintf(stderr, "fdroute: %s\n", sentence);
  std::abort();
}
#define FDROUTE_ERROR_HANDLER ::fdroute::detail::print_and_abort
#endif

template <class Error = std::invalid_argument>
[[noreturn]] void refuse(const std::string& sentence) {
  FDROUTE_ERROR_HANDLER(sentence.c_str());
}

#endif

}  // namespace fdroute::inline v0::detail
