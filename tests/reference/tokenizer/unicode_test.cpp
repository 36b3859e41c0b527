#include "tokenizer/unicode.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iomanip>
#include <span>
#include <sstream>
#include <string>
#include <utility>

#include "formats/sha256.hpp"
#include "reference/error_of.hpp"
#include "sanitizers.hpp"

using olmoe::CharacterClass;

TEST_CASE("every code point survives UTF-8") {
  int wrong = 0;
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    olmoe::append_utf8(text, code_point);
    for (const auto& unit :
         {olmoe::first_utf8_unit(text + "a"), olmoe::last_utf8_unit("\U0001F600" + text)}) {
      wrong += unit.status != olmoe::Utf8Unit::Status::Valid || unit.code_point != code_point ||
               unit.length != text.size();
    }
  }
  CHECK(wrong == 0);
}

// The examples of the Unicode Standard 15.0, section 3.9, tables 3-8 to 3-11, and the same at the
// text's end.
TEST_CASE("ill-formed UTF-8 becomes U+FFFD, one per maximal subpart") {
  const auto repaired = [](const char* bytes) { return olmoe::replace_invalid_utf8(bytes); };
  const std::string r = "\uFFFD";
  CHECK(repaired("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(repaired("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(repaired("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == r + r + r + r + r + "A" + r + r + "B");
  CHECK(repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == r + r + r + r + "A");
  CHECK(repaired("a\xF0\x9F\x98") == "a" + r);
  CHECK(repaired("a\xE2\x82") == "a" + r);
  CHECK(repaired("a\xC3") == "a" + r);
  CHECK(repaired("\u00e9\u20ac\U0001F600") == "\u00e9\u20ac\U0001F600");
}

TEST_CASE("the offset of the first bad byte") {
  CHECK(error_of([] { olmoe::require_utf8("\u00e9\u20ac", "x"); }) == "no error");
  CHECK(error_of([] { olmoe::require_utf8("", "x"); }) == "no error");
  CHECK(error_of([] { olmoe::require_utf8("ab\xC3", "x"); }) == "x: not valid UTF-8 at byte 2");
  CHECK(error_of([] { olmoe::require_utf8("\u20ac\xED\xA0\x80", "x"); }) ==
        "x: not valid UTF-8 at byte 3");
}

TEST_CASE("the unfinished sequence at the end") {
  CHECK(olmoe::truncated_utf8_tail("") == 0);
  CHECK(olmoe::truncated_utf8_tail("a") == 0);
  CHECK(olmoe::truncated_utf8_tail("\U0001F600") == 0);
  CHECK(olmoe::truncated_utf8_tail("a\xF0\x9F\x98") == 3);
  CHECK(olmoe::truncated_utf8_tail("\u00e9\xE2\x82") == 2);
  CHECK(olmoe::truncated_utf8_tail("\xC3\xC3") == 1);
  CHECK(olmoe::truncated_utf8_tail("\xE2\x82\x41") == 0);
  CHECK(olmoe::truncated_utf8_tail("\xED\xA0") == 0);
  CHECK(olmoe::truncated_utf8_tail("\x80\x80") == 0);
}

// From the examples of Unicode Standard Annex 15 and the kinds of case in NormalizationTest.txt.
TEST_CASE("NFC") {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"plain", "plain"},
      {"e\u0301", "\u00e9"},
      {"\u212B", "\u00C5"},  // singleton
      {"\u2126", "\u03A9"},
      {"s\u0323\u0307", "\u1E69"},       // two marks
      {"s\u0307\u0323", "\u1E69"},       // in the other order
      {"\u1E0B\u0323", "\u1E0D\u0307"},  // a composite, taken apart again
      {"a\u0315\u0300\u05AE\u0300\u0062", "\u00E0\u05AE\u0300\u0315\u0062"},  // canonical order
      {"a\u0301\u0301", "\u00E1\u0301"},
      {"a\u0332\u0301", "\u00E1\u0332"},  // not blocked
      {"a\u0338\u0338", "a\u0338\u0338"},
      {"\u0344", "\u0308\u0301"},  // composition exclusions
      {"\u0958", "\u0915\u093C"},
      {"\uFB1D", "\u05D9\u05B4"},
      {"\u2ADC", "\u2ADD\u0338"},
      {"\U0001D15E", "\U0001D157\U0001D165"},
      {"\u1100\u1161", "\uAC00"},  // Hangul
      {"\u1100\u1161\u11A8", "\uAC01"},
      {"\uAC00\u11A8", "\uAC01"},
      {"\uAC01\u11A8", "\uAC01\u11A8"},
      {"\u1100\u1100\u1161", "\u1100\uAC00"},
      {"\U000110A5\U000110BA", "\U000110AB"},  // beyond the basic plane
      {"\u1F82", "\u1F82"},                    // decomposes to four
      {"\u03B1\u0345\u0313\u0300", "\u1F82"},
      {"\uF900", "\u8C48"},
      {"\uFB01", "\uFB01"},  // only compatible
      {"\u0301", "\u0301"},
      // Younger than Unicode 9.0: a mark of class 220, two that compose since 13.0, and since 16.0.
      {"x\u07fd\u0334", "x\u07fd\u0334"},
      {"x\u0301\u07fd\u0323", "x\u0301\u07fd\u0323"},
      {"\U00011935\U00011930", "\U00011935\U00011930"},
      {"\U00011938", "\U00011938"},
      {"\U000105d2\u0307", "\U000105d2\u0307"},
      {"e\u0301\u07fde\u0301", "\u00e9\u07fd\u00e9"},
  };
  for (const auto& pair : cases) {
    const auto& [text, expected] = pair;
    CAPTURE(pair.first);
    CHECK(olmoe::to_nfc(text) == expected);
    CHECK(olmoe::to_nfc(expected) == expected);
  }
}

// tests/golden/nfc.sha256 by reference/hf/make_nfc_golden.js.
TEST_CASE("NFC of every code point, alone and among marks, is Hugging Face's") {
  std::ifstream golden(FDROUTE_SOURCE_DIR "/tests/golden/nfc.sha256");
  for (char32_t first = 0; first < 0x110000; first += 0x10000) {
    std::string expected;
    REQUIRE(std::getline(golden, expected));
    if (first / 0x10000 % test::stride_of_cases != 0) continue;
    std::string forms;
    for (char32_t code_point = first; code_point < first + 0x10000; ++code_point) {
      if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
      std::string c;
      olmoe::append_utf8(c, code_point);
      for (const std::string& text :
           {c, "x" + c + "\u0334", "x\u0345" + c, "x" + c + "\u0323\u0301"})
        forms.append(olmoe::to_nfc(text)).append("\n");
    }
    std::ostringstream line;
    line << std::hex << std::setfill('0') << std::setw(6) << std::uint32_t{first} << ' '
         << olmoe::sha256(std::as_bytes(std::span(forms)));
    CHECK(line.str() == expected);
  }
}

TEST_CASE("character classes") {
  for (const char32_t c : U"aZ\u00aa\u01c5\u02b0\u05d0\u4e00\uac00\U00020000")
    if (c != 0) CHECK(olmoe::character_class(c) == CharacterClass::Letter);
  for (const char32_t c : U"09\u00b2\u00bd\u0663\u2167\u3007\U0001d7d8")
    if (c != 0) CHECK(olmoe::character_class(c) == CharacterClass::Number);
  for (const char32_t c : U"\u0301\u0903\u200b\u2060\u180e\ufeff_-\x1c\x7f\u20ac\U0001f600\uffff\0")
    CHECK(olmoe::character_class(c) == CharacterClass::Other);

  int spaces = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c)
    spaces += olmoe::character_class(c) == CharacterClass::Space;
  CHECK(spaces == 25);  // the number of White_Space in PropList.txt
  for (const char32_t c :
       U"\t\n\v\f\r \u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000")
    if (c != 0) CHECK(olmoe::character_class(c) == CharacterClass::Space);

  for (const char32_t c : U"a1_\u00e9\u0301\u0903\u20dd\u2167\u203f\u200c\u200d\u24b6\U0001f130")
    if (c != 0) CHECK(olmoe::is_word_character(c));
  for (const char32_t c : U" -\u00b2\u00bd\u200b\u24ea\U0001f12f\U0001f600")
    CHECK_FALSE(olmoe::is_word_character(c));
}
