#include "formats/json.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "formats/error.hpp"
#include "formats/limits.hpp"
#include "formats/mapped_file.hpp"

namespace olmoe {
namespace {

using nlohmann::json;

constexpr std::size_t max_depth = Limits::json_depth;

// Builds a document from the parser's events, in linear time. Given a visitor, it hands over each
// member of the outermost object as soon as it is complete, and keeps none.
class Builder : public nlohmann::json_sax<json> {
 public:
  using Visitor = std::function<void(const std::string&, json)>;

  Builder(std::string origin, bool one_line, const Visitor* visit)
      : origin_(std::move(origin)), one_line_(one_line), visit_(visit) {}

  json take() { return std::move(root_); }

  bool null() override { return value(nullptr); }
  bool boolean(bool x) override { return value(x); }
  bool number_integer(std::int64_t x) override { return value(x); }
  bool number_unsigned(std::uint64_t x) override { return value(x); }
  bool number_float(double x, const std::string&) override { return value(x); }
  bool string(std::string& x) override { return value(x); }  // the parser's buffer is larger
  bool binary(json::binary_t&) override { fail("binary data"); }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    if (visit_ != nullptr && open_.size() == 1) {
      key_ = std::move(name);
      member_ = &slot_;
      return true;
    }
    auto& object = open_.back()->get_ref<json::object_t&>();
    const auto [place, fresh] = object.try_emplace(std::move(name), nullptr);
    if (!fresh) fail("repeated key " + quote(place->first));
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    const std::string_view what = error.what();  // "[json.exception.KIND.ID] FACT"
    std::string fact(what.substr(what.find("] ") + 2));
    // A text of one line may be a line of a file, whose number the origin has.
    constexpr std::string_view first = "line 1, ";
    if (const std::size_t place = fact.find(first); one_line_ && place != fact.npos)
      fact.erase(place, first.size());
    fail("bad JSON: " + fact);
  }

 private:
  [[noreturn]] void fail(const std::string& fact) const { throw Error(origin_ + ": " + fact); }

  // Where the value goes that comes now: it has no place yet, is an array's next, or a member.
  json& put(json x) {
    if (open_.empty()) return root_ = std::move(x);
    json& parent = *open_.back();
    if (!parent.is_array()) return *member_ = std::move(x);
    auto& elements = parent.get_ref<json::array_t&>();
    elements.push_back(std::move(x));
    return elements.back();
  }

  bool value(json x) {
    put(std::move(x));
    complete();
    return true;
  }

  bool open(json x) {
    if (open_.size() == max_depth)
      fail("JSON nested deeper than " + std::to_string(max_depth) + " levels");
    json& container = put(std::move(x));
    open_.push_back(&container);
    return true;
  }

  bool close() {
    open_.pop_back();
    complete();
    return true;
  }

  // Called behind a value: is it a member of the outermost object, or that object itself?
  void complete() {
    if (visit_ == nullptr) return;
    if (open_.size() == 1 && root_.is_object()) (*visit_)(key_, std::exchange(slot_, nullptr));
    if (open_.empty() && !root_.is_object()) fail("no JSON object");
  }

  std::string origin_;
  bool one_line_;
  const Visitor* visit_;
  json root_;
  json slot_;                // the value of key_, with a visitor
  std::string key_;          // of the outermost object, with a visitor
  json* member_ = nullptr;   // the value of the last key
  std::vector<json*> open_;  // objects and arrays, the innermost last
};

void check_encoding(std::string_view text, const std::string& origin) {
  using namespace std::string_view_literals;
  if (text.starts_with("\xff\xfe\0\0"sv) || text.starts_with("\0\0\xfe\xff"sv))
    throw Error(origin + ": is UTF-32, and JSON must be UTF-8");
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw Error(origin + ": is UTF-16, and JSON must be UTF-8");
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    throw Error(origin + ": bad JSON: byte " + std::to_string(nul) + " is NUL");
}

json parse(std::string_view text, const std::string& origin, const Builder::Visitor* visit) {
  check_encoding(text, origin);
  Builder builder(origin, text.find('\n') == std::string_view::npos, visit);
  json::sax_parse(text, &builder);
  return builder.take();
}

/// Where the string, number or word that begins at `begin` ends.
std::size_t end_of_token(std::string_view text, std::size_t begin) {
  std::size_t end = begin + 1;
  if (text[begin] == '"') {
    while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
    return std::min(end + 1, text.size());
  }
  constexpr std::string_view ends = " \t\r\n\",:[]{}";
  while (end < text.size() && ends.find(text[end]) == std::string_view::npos) ++end;
  return end;
}

}  // namespace

std::string show(const json& value) {
  return one_line(value.dump(-1, ' ', false, json::error_handler_t::replace), 100);
}

json parse_json(std::string_view text, const std::string& origin) {
  return parse(text, origin, nullptr);
}

void for_each_member(std::string_view text, const std::string& origin,
                     const std::function<void(const std::string&, json)>& visit) {
  parse(text, origin, &visit);
}

void check_json_shape(std::string_view text, const JsonLimits& limits, const std::string& origin) {
  struct Open {
    bool object;
    std::size_t commas;
  };
  std::vector<Open> open;
  std::string_view member;  // the last string between the outermost braces, as it is written
  const auto refuse = [&](const std::string& what, std::size_t limit, const std::string& unit) {
    std::string where = origin + ": ";
    if (open.size() > 1 && member.size() > 2)
      where += quote(std::string(member.substr(1, member.size() - 2))) + ": ";
    throw Error(where + what + std::to_string(limit) + " " + unit);
  };
  check_encoding(text, origin);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i++;
    switch (text[begin]) {
      case '{':
      case '[':
        open.push_back({text[begin] == '{', 0});
        if (open.size() > max_depth) refuse("JSON nested deeper than ", max_depth, "levels");
        break;
      case '}':
      case ']':
        if (!open.empty()) open.pop_back();
        break;
      case ',': {
        if (open.empty()) break;
        const bool object = open.back().object;
        const std::size_t limit = !object            ? limits.elements
                                  : open.size() == 1 ? limits.outer_members
                                                     : limits.members;
        if (++open.back().commas < limit) break;
        if (object) refuse("an object of more than ", limit, "members");
        refuse("an array of more than ", limit, "elements");
        break;
      }
      case ':':
      case ' ':
      case '\t':
      case '\r':
      case '\n':
        break;
      default:
        i = end_of_token(text, begin);
        if (open.size() == 1 && text[begin] == '"') member = text.substr(begin, i - begin);
        if (i - begin > limits.token_bytes)
          refuse("a string or number of more than ", limits.token_bytes, "bytes");
    }
  }
}

json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace olmoe
