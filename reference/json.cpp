#include "json.hpp"

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>
#include <vector>

#include "error.hpp"
#include "mapped_file.hpp"

namespace olmoe {
namespace {

// One printable line of at most about 100 bytes, whatever a file put into `text`.
std::string one_line(std::string_view text) {
  constexpr std::size_t limit = 100;
  std::size_t end = std::min(text.size(), limit);
  // Not within a UTF-8 sequence.
  while (end < text.size() && end > 0 && (text[end] & 0xc0) == 0x80) --end;
  std::string line(text.substr(0, end));
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return end < text.size() ? line + "..." : line;
}

}  // namespace

std::string quote(std::string_view text) {
  return "'" + one_line(text) + "'";
}

std::string show(const nlohmann::json& value) {
  return one_line(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

nlohmann::json parse_json(std::string_view text, const std::string& origin) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Event event, nlohmann::json& parsed) {
    if (depth > 64) throw Error(origin + ": JSON nested deeper than 64 levels");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) throw Error(origin + ": repeated key " + quote(key));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    const std::string_view what = error.what();  // "[json.exception.KIND.ID] FACT"
    throw Error(origin + ": bad JSON: " + one_line(what.substr(what.find("] ") + 2)));
  }
}

void check_json_shape(std::string_view text, std::size_t most_members, const std::string& origin) {
  constexpr std::size_t deepest = 64;
  struct Open {
    bool object;
    std::size_t commas;
  };
  std::vector<Open> open;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '\0') throw Error(origin + ": bad JSON: a NUL byte");
    if (c == '{' || c == '[') open.push_back({c == '{', 0});
    if ((c == '}' || c == ']') && !open.empty()) open.pop_back();
    if (open.size() > deepest)
      throw Error(origin + ": JSON nested deeper than " + std::to_string(deepest) + " levels");
    if (c != ',' || open.empty() || !open.back().object) continue;
    if (++open.back().commas >= most_members)
      throw Error(origin + ": an object of more than " + std::to_string(most_members) + " members");
  }
}

nlohmann::json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace olmoe
