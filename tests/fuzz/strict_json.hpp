#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A reader of JSON (RFC 8259) that shares nothing with the one under test: the oracle of its
/// verdicts.
namespace fuzz {

struct Value {
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string text{};  // of a string; of a number or a word as it is written
  std::vector<Value> elements{};
  std::vector<std::pair<std::string, Value>> members{};

  const Value* find(std::string_view key) const {
    for (const auto& [name, value] : members)
      if (name == key) return &value;
    return nullptr;
  }

  /// A number as a non-negative integer of 64 bits, if it is written as one.
  std::optional<std::uint64_t> integer() const {
    if (kind != Kind::number || text.find_first_not_of("0123456789") != text.npos) return {};
    std::uint64_t value = 0;
    for (const char c : text) {
      const auto digit = static_cast<std::uint64_t>(c - '0');
      if (value > (UINT64_MAX - digit) / 10) return {};
      value = value * 10 + digit;
    }
    return value;
  }
};

class StrictJson {
 public:
  /// The document, unless `text` is not JSON, nests deeper than `depth`, holds a NUL byte, a number
  /// beyond double, or an object that repeats a key. `repeats`: the outermost object may.
  static std::optional<Value> parse(std::string_view text, int depth, bool repeats = false) {
    StrictJson reader(text, depth, repeats);
    // A byte order mark may come first.
    if (text.substr(0, 3) == "\xEF\xBB\xBF") reader.at_ = 3;
    Value value;
    if (text.find('\0') != text.npos || !reader.read(value, 0)) return {};
    reader.skip_space();
    if (reader.at_ != text.size()) return {};
    return value;
  }

 private:
  StrictJson(std::string_view text, int depth, bool repeats)
      : text_(text), depth_(depth), repeats_(repeats) {}

  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }

  bool take(char c) {
    if (peek() != static_cast<unsigned char>(c)) return false;
    ++at_;
    return true;
  }

  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') ++at_;
  }

  bool read(Value& value, int depth) {
    skip_space();
    switch (peek()) {
      case '{':
      case '[':
        return depth < depth_ && (peek() == '{' ? object(value, depth) : array(value, depth));
      case '"':
        value.kind = Value::Kind::string;
        return string(value.text);
      case 't':
        return word(value, "true", Value::Kind::boolean);
      case 'f':
        return word(value, "false", Value::Kind::boolean);
      case 'n':
        return word(value, "null", Value::Kind::null);
      default:
        return number(value);
    }
  }

  bool word(Value& value, std::string_view expected, Value::Kind kind) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    value = {.kind = kind, .text = std::string(expected)};
    return true;
  }

  bool digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > begin;
  }

  bool number(Value& value) {
    const std::size_t begin = at_;
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!digits()) return false;
    }
    value = {.kind = Value::Kind::number, .text = std::string(text_.substr(begin, at_ - begin))};
    return std::isfinite(std::strtod(value.text.c_str(), nullptr));
  }

  bool hex(unsigned& code) {
    code = 0;
    for (int i = 0; i < 4; ++i) {
      const int c = peek();
      const bool digit = c >= '0' && c <= '9';
      const int letter = c | 0x20;
      if (!digit && !(letter >= 'a' && letter <= 'f')) return false;
      code = code * 16 + static_cast<unsigned>(digit ? c - '0' : letter - 'a' + 10);
      ++at_;
    }
    return true;
  }

  static void append(std::string& text, unsigned code) {
    const auto byte = [&](unsigned x) { text += static_cast<char>(x); };
    if (code < 0x80) return byte(code);
    if (code < 0x800) {
      byte(0xC0 | code >> 6);
    } else {
      if (code < 0x10000) {
        byte(0xE0 | code >> 12);
      } else {
        byte(0xF0 | code >> 18);
        byte(0x80 | (code >> 12 & 0x3F));
      }
      byte(0x80 | (code >> 6 & 0x3F));
    }
    byte(0x80 | (code & 0x3F));
  }

  bool escape(std::string& text) {
    const int c = peek();
    if (c < 0) return false;
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        text += static_cast<char>(c);
        return true;
      case 'b':
        text += '\b';
        return true;
      case 'f':
        text += '\f';
        return true;
      case 'n':
        text += '\n';
        return true;
      case 'r':
        text += '\r';
        return true;
      case 't':
        text += '\t';
        return true;
      case 'u':
        break;
      default:
        return false;
    }
    unsigned code;
    if (!hex(code) || (code >= 0xDC00 && code < 0xE000)) return false;
    if (code >= 0xD800 && code < 0xDC00) {
      unsigned low;
      if (!take('\\') || !take('u') || !hex(low) || low < 0xDC00 || low >= 0xE000) return false;
      code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    }
    append(text, code);
    return true;
  }

  // A character of more than one byte, by the table 3-7 of the Unicode Standard.
  bool wide_character(std::string& text) {
    const int lead = peek();
    const auto in = [](int x, int low, int high) { return x >= low && x <= high; };
    const int more = in(lead, 0xC2, 0xDF)   ? 1
                     : in(lead, 0xE0, 0xEF) ? 2
                     : in(lead, 0xF0, 0xF4) ? 3
                                            : 0;
    if (more == 0) return false;
    text += text_[at_++];
    for (int i = 0; i < more; ++i) {
      const int low = i > 0 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const int high = i > 0 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (!in(peek(), low, high)) return false;
      text += text_[at_++];
    }
    return true;
  }

  bool string(std::string& text) {
    if (!take('"')) return false;
    while (!take('"')) {
      if (peek() < 0x20) return false;  // the end of the text, too
      if (take('\\')) {
        if (!escape(text)) return false;
      } else if (peek() < 0x80) {
        text += text_[at_++];
      } else if (!wide_character(text)) {
        return false;
      }
    }
    return true;
  }

  bool array(Value& value, int depth) {
    value.kind = Value::Kind::array;
    take('[');
    skip_space();
    if (take(']')) return true;
    do {
      if (!read(value.elements.emplace_back(), depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(']');
  }

  bool object(Value& value, int depth) {
    value.kind = Value::Kind::object;
    take('{');
    skip_space();
    if (take('}')) return true;
    std::set<std::string> keys;
    do {
      skip_space();
      std::string key;
      if (!string(key)) return false;
      if (!keys.insert(key).second && !(repeats_ && depth == 0)) return false;
      skip_space();
      if (!take(':')) return false;
      if (!read(value.members.emplace_back(key, Value()).second, depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take('}');
  }

  std::string_view text_;
  int depth_;
  bool repeats_;
  std::size_t at_ = 0;
};

}  // namespace fuzz
