// tokenizer/tokenizer and tokenizer/unicode, with the bundled model's tokenizer: any bytes.

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "tokenizer/tokenizer.hpp"
#include "tokenizer/unicode.hpp"
#include "tokenizer/unicode_9.hpp"

namespace encode_target {

/// utf8proc's NFC. It takes quadratic time of a run of combining marks.
std::string nfc_of_utf8proc(const std::string& text) {
  utf8proc_uint8_t* const result =
      utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str()));
  fuzz::require(result != nullptr, "utf8proc normalizes valid UTF-8");
  std::string nfc(reinterpret_cast<const char*>(result));
  std::free(result);
  return nfc;
}

bool is_in_unicode_9(char32_t c) {
  for (std::size_t i = 0; i + 1 < olmoe::unicode_9_boundaries.size(); i += 2) {
    if (c >= olmoe::unicode_9_boundaries[i] && c < olmoe::unicode_9_boundaries[i + 1]) return true;
  }
  return olmoe::unicode_9_boundaries.size() % 2 == 1 && c >= olmoe::unicode_9_boundaries.back();
}

/// Goes through any bytes from both ends.
void check_units(std::string_view bytes) {
  std::string replaced;
  bool valid = true;
  bool of_unicode_9 = true;
  for (std::string_view rest = bytes; !rest.empty();) {
    const olmoe::Utf8Unit unit = olmoe::first_utf8_unit(rest);
    fuzz::require(unit.length >= 1 && unit.length <= std::min<std::size_t>(4, rest.size()),
                  "a unit has 1 to 4 bytes");
    const bool sound = unit.status == olmoe::Utf8Unit::Status::Valid;
    valid = valid && sound;
    of_unicode_9 = of_unicode_9 && sound && is_in_unicode_9(unit.code_point);
    olmoe::append_utf8(replaced, unit.code_point);
    if (sound)
      fuzz::require(replaced.ends_with(rest.substr(0, unit.length)), "append_utf8 inverts");
    olmoe::character_class(unit.code_point);
    olmoe::is_word_character(unit.code_point);
    rest.remove_prefix(unit.length);
  }
  fuzz::require(olmoe::replace_invalid_utf8(bytes) == replaced, "each bad unit becomes U+FFFD");
  const std::size_t tail = olmoe::truncated_utf8_tail(bytes);
  fuzz::require(tail <= 3 && tail <= bytes.size(), "an unfinished character has at most 3 bytes");
  fuzz::require(valid == fuzz::accepted([&] { olmoe::require_utf8(bytes, "ORIGIN"); }, "ORIGIN"),
                "require_utf8 refuses what has a bad unit");
  const std::string nfc = olmoe::to_nfc(replaced);
  fuzz::require(olmoe::to_nfc(nfc) == nfc, "NFC of NFC is NFC");
  if (!of_unicode_9 || bytes.find('\0') != bytes.npos) return;
  fuzz::require(nfc == nfc_of_utf8proc(replaced), "NFC is utf8proc's where the tables agree");
}

}  // namespace encode_target

FUZZ_TARGET(encode) {
  static const olmoe::Tokenizer tokenizer =
      olmoe::Tokenizer::load(FDROUTE_SOURCE_DIR "/reference/model/tokenizer.json");
  encode_target::check_units(input);
  std::vector<std::int32_t> ids;
  if (!fuzz::accepted([&] { ids = tokenizer.encode(input, "ORIGIN"); }, "ORIGIN")) return;
  std::string streamed;
  olmoe::StreamDecoder decoder(tokenizer);
  for (const std::int32_t id : ids) {
    fuzz::require(tokenizer.contains(id), "an id is known");
    streamed += decoder.push(id);
  }
  streamed += decoder.finish();
  const std::string decoded = tokenizer.decode(ids);
  fuzz::require(streamed == decoded, "pieces together are the whole");
  // The special tokens are cut out first, and what is between them is normalized piece by piece.
  if (input.find("<|") == input.npos)
    fuzz::require(decoded == olmoe::to_nfc(input), "decode(encode(x)) is NFC(x)");
}
