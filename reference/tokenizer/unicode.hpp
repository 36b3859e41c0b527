#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace olmoe {

/// What stands at one end of some bytes that are meant to be UTF-8.
struct Utf8Unit {
  enum class Status {
    Valid,
    Truncated,  ///< the bytes end within a sequence that more bytes could complete
    Invalid,
  };

  char32_t code_point;  ///< U+FFFD unless Valid
  std::size_t length;   ///< in bytes; if not Valid, those that one U+FFFD replaces (Unicode 3.9)
  Status status;
};

/// The first unit of `bytes`, which must not be empty.
Utf8Unit first_utf8_unit(std::string_view bytes);

/// The last code point of `utf8`, which must be valid and not empty.
Utf8Unit last_utf8_unit(std::string_view utf8);

/// The length of the Truncated unit that `bytes` end in; 0 if there is none.
std::size_t truncated_utf8_tail(std::string_view bytes);

/// Throws Error, naming `origin` and the offset of the first bad byte, unless `text` is UTF-8.
void require_utf8(std::string_view text, std::string_view origin);

/// `bytes` with U+FFFD for each unit that is not Valid.
std::string replace_invalid_utf8(std::string_view bytes);

/// Appends the UTF-8 of a code point that is not a surrogate.
void append_utf8(std::string& text, char32_t code_point);

/// Normalization form C of valid UTF-8 by the tables of Unicode 9.0, as Hugging Face's tokenizers
/// have it: to these, younger code points are unassigned, so that they stay as and where they are.
std::string to_nfc(std::string_view utf8);

/// The classes that ByteLevel's regular expression tells apart.
enum class CharacterClass {
  Letter,  ///< \p{L}
  Number,  ///< \p{N}
  Space,   ///< \s: White_Space
  Other,
};

CharacterClass character_class(char32_t code_point);

/// \w (Unicode Technical Standard 18, annex C): Alphabetic, Mark, Decimal_Number,
/// Connector_Punctuation or Join_Control.
bool is_word_character(char32_t code_point);

}  // namespace olmoe
