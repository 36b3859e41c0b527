#pragma once

#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fdroute/detail/number/to_text.hpp"

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

/// Text that came from outside, as a piece of a sentence: see quote().
struct Quoted {
  std::string_view text;
};

/// A piece of a sentence: text as it is, a number as to_text() writes it, or Quoted.
class Piece {
 public:
  Piece(const char* text) noexcept : Piece(std::string_view(text)) {}
  Piece(const std::string& text) noexcept : Piece(std::string_view(text)) {}
  Piece(std::string_view text) noexcept : kind_(Kind::text), text_(text) {}
  Piece(Quoted quoted) noexcept : kind_(Kind::quoted), text_(quoted.text) {}
  Piece(float number) noexcept : kind_(Kind::of_float), float_(number) {}
  Piece(double number) noexcept : kind_(Kind::of_double), double_(number) {}
  Piece(std::integral auto number) noexcept
      : kind_(Kind::integer), integer_(static_cast<long long>(number)) {}

  std::string text() const {
    switch (kind_) {
      case Kind::text:
        return std::string(text_);
      case Kind::quoted:
        return quote(text_);
      case Kind::integer:
        return to_text(integer_);
      case Kind::of_float:
        return to_text(float_);
      case Kind::of_double:
        break;
    }
    return to_text(double_);
  }

 private:
  enum class Kind { text, quoted, integer, of_float, of_double };

  Kind kind_;
  union {
    std::string_view text_;
    long long integer_;
    float float_;
    double double_;
  };
};

/// The sentence of these pieces. Never inlined: errors are rare, and their code is to be short.
[[gnu::cold, gnu::noinline]] inline std::string sentence_of(std::initializer_list<Piece> pieces) {
  std::string sentence;
  for (const Piece& piece : pieces) sentence.append(piece.text());
  return sentence;
}

#if defined(__cpp_exceptions)

template <class Error>
[[noreturn, gnu::cold, gnu::noinline]] void refuse_pieces(std::initializer_list<Piece> pieces) {
  throw Error(sentence_of(pieces));
}

#else

#if !defined(FDROUTE_ERROR_HANDLER)
[[noreturn]] inline void print_and_abort(const char* sentence) {
  std::fprintf(stderr, "fdroute: %s\n", sentence);
  std::abort();
}
#define FDROUTE_ERROR_HANDLER ::fdroute::detail::print_and_abort
#endif

template <class Error>
[[noreturn, gnu::cold, gnu::noinline]] void refuse_pieces(std::initializer_list<Piece> pieces) {
  FDROUTE_ERROR_HANDLER(sentence_of(pieces).c_str());
}

#endif

/// Throws an Error with the sentence of these pieces.
///
///     refuse("TopK: k must lie in [1, ", experts, "], got ", k);
template <class Error = std::invalid_argument, class... Pieces>
[[noreturn, gnu::always_inline]] inline void refuse(const Pieces&... pieces) {
  refuse_pieces<Error>({Piece(pieces)...});
}

}  // namespace fdroute::inline v0::detail
