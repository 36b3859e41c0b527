#include "tokenizer/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/error.hpp"
#include "tokenizer/unicode_9.hpp"

namespace olmoe {
namespace {

using Status = Utf8Unit::Status;

constexpr char32_t replacement = U'\uFFFD';

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

auto combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

bool is_in_unicode_9(char32_t code_point) {
  const auto end = std::ranges::upper_bound(unicode_9_boundaries, code_point);
  return (end - unicode_9_boundaries.begin()) % 2 == 1;
}

void decompose(char32_t code_point, std::vector<utf8proc_int32_t>& code_points) {
  std::array<utf8proc_int32_t, 4> decomposed{};  // no canonical decomposition is longer
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), decomposed.data(),
                              decomposed.size(), UTF8PROC_DECOMPOSE, nullptr);
  code_points.insert(code_points.end(), decomposed.begin(), decomposed.begin() + count);
}

// Appends what decomposed code points compose to, and clears them.
void compose(std::vector<utf8proc_int32_t>& code_points, std::string& text) {
  // Canonical order. utf8proc_decompose would do it too, in quadratic time of a run of marks.
  const auto is_starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
  const auto before = [](utf8proc_int32_t a, utf8proc_int32_t b) {
    return combining_class(a) < combining_class(b);
  };
  for (auto begin = code_points.begin(); begin != code_points.end();) {
    const auto end = std::find_if(begin, code_points.end(), is_starter);
    std::stable_sort(begin, end, before);
    begin = std::find_if_not(end, code_points.end(), is_starter);
  }
  const auto composed = utf8proc_normalize_utf32(
      code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()),
      static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  for (const auto c : std::span(code_points).first(static_cast<std::size_t>(composed)))
    append_utf8(text, static_cast<char32_t>(c));
  code_points.clear();
}

}  // namespace

Utf8Unit first_utf8_unit(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, Status::Valid};
  if (lead < 0xC2 || lead > 0xF4) return {replacement, 1, Status::Invalid};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // After these leads the second byte's range excludes overlong forms, surrogates and what lies
  // beyond U+10FFFF.
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code_point = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {replacement, i, Status::Truncated};
    if (byte(i) < low || byte(i) > high) return {replacement, i, Status::Invalid};
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {code_point, length, Status::Valid};
}

Utf8Unit last_utf8_unit(std::string_view utf8) {
  std::size_t start = utf8.size() - 1;
  while (start > 0 && is_continuation(utf8[start])) --start;
  return first_utf8_unit(utf8.substr(start));
}

std::size_t truncated_utf8_tail(std::string_view bytes) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, bytes.size()); ++length) {
    const Utf8Unit unit = first_utf8_unit(bytes.substr(bytes.size() - length));
    if (unit.status == Status::Truncated && unit.length == length) return length;
  }
  return 0;
}

void require_utf8(std::string_view text, std::string_view origin) {
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Unit unit = first_utf8_unit(text.substr(i));
    if (unit.status != Status::Valid)
      throw Error(std::string(origin) + ": not valid UTF-8 at byte " + std::to_string(i));
    i += unit.length;
  }
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Unit unit = first_utf8_unit(bytes);
    if (unit.status == Status::Valid) {
      text += bytes.substr(0, unit.length);
    } else {
      append_utf8(text, replacement);
    }
    bytes.remove_prefix(unit.length);
  }
  return text;
}

void append_utf8(std::string& text, char32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  text.append(bytes.begin(), bytes.begin() + length);
}

std::string to_nfc(std::string_view utf8) {
  // Lead bytes below 0xCC begin the code points below U+0300, and NFC changes none of these.
  if (std::ranges::all_of(utf8, [](unsigned char byte) { return byte < 0xCC; }))
    return std::string(utf8);

  std::string text;
  text.reserve(utf8.size());
  std::vector<utf8proc_int32_t> decomposed;
  for (std::string_view rest = utf8; !rest.empty();) {
    const Utf8Unit unit = first_utf8_unit(rest);
    if (is_in_unicode_9(unit.code_point)) {
      decompose(unit.code_point, decomposed);
    } else {  // nothing is ordered or composed across it
      compose(decomposed, text);
      text += rest.substr(0, unit.length);
    }
    rest.remove_prefix(unit.length);
  }
  compose(decomposed, text);
  return text;
}

CharacterClass character_class(char32_t code_point) {
  if ((code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x85)
    return CharacterClass::Space;
  switch (category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterClass::Letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterClass::Number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharacterClass::Space;
    default:
      return CharacterClass::Other;
  }
}

bool is_word_character(char32_t code_point) {
  switch (category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    case UTF8PROC_CATEGORY_SO:  // Alphabetic symbols: letters in circles and squares
      return (code_point >= 0x24B6 && code_point <= 0x24E9) ||
             (code_point >= 0x1F130 && code_point <= 0x1F149) ||
             (code_point >= 0x1F150 && code_point <= 0x1F169) ||
             (code_point >= 0x1F170 && code_point <= 0x1F189);
    case UTF8PROC_CATEGORY_CF:  // Join_Control
      return code_point == 0x200C || code_point == 0x200D;
    default:
      return false;
  }
}

}  // namespace olmoe
