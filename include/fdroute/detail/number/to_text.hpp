#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/detail/number/require_ieee.hpp"

namespace fdroute::inline v0::detail {

/// The shortest decimal text that reads back as the same number: "0.05", not "0.050000".
template <class Number>
std::string to_text(Number value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

/// Bytes of the character that `text`, which must not be empty, begins with; 0 if a message must
/// not show it: not UTF-8, a control character, or one that breaks or reorders the line.
[[gnu::cold]] inline std::size_t printable_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() < length) return 0;
  std::uint32_t c = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return 0;
    c = c << 6 | (byte(i) & 0x3fU);
  }
  const std::uint32_t smallest = length == 2 ? 0xa0 : length == 3 ? 0x800 : 0x10000;
  const bool surrogate = c >= 0xd800 && c <= 0xdfff;
  const bool line_or_direction = c == 0x61c || c == 0x200e || c == 0x200f || c == 0xfeff ||
                                 (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
  return c < smallest || c > 0x10ffff || surrogate || line_or_direction ? 0 : length;
}

/// `text` for people to read: one line of at most `limit` (>= 16) bytes. Bytes that must not be
/// shown become \n, \t, \r or \xNN, and "..." replaces the middle of what is too long.
[[gnu::cold]] inline std::string one_line(std::string_view text, std::size_t limit) {
  std::string ends;  // of a long text, which are all that can be shown
  if (text.size() > 2 * limit) {
    ends.append(text.substr(0, limit)).append(text.substr(text.size() - limit));
    text = ends;
  }
  std::string line;
  std::vector<std::size_t> starts{0};  // where a character or escape begins; then the end
  while (!text.empty()) {
    constexpr std::string_view digits = "0123456789abcdef";
    const std::size_t length = printable_length(text);
    const auto byte = static_cast<unsigned char>(text.front());
    if (length > 0) {
      line.append(text.substr(0, length));
    } else if (byte == '\n' || byte == '\t' || byte == '\r') {
      line.append(byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : "\\r");
    } else {
      line.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
    }
    starts.push_back(line.size());
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  if (line.size() <= limit) return line;
  constexpr std::string_view gap = "...";
  const std::size_t shown = limit - gap.size();
  const std::size_t head = *std::prev(std::ranges::upper_bound(starts, shown - shown / 2));
  const std::size_t tail = *std::ranges::lower_bound(starts, line.size() - shown / 2);
  return line.substr(0, head).append(gap).append(line, tail);
}

/// Text that came from outside, for a message: one_line() of at most 100 bytes, in single quotes.
[[gnu::cold]] inline std::string quote(std::string_view text) {
  // Not by +, of which g++ 12 warns at -O2 (GCC bug 105651).
  return std::string("'").append(one_line(text, 100)).append("'");
}

}  // namespace fdroute::inline v0::detail
