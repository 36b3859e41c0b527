#include "json.hpp"

#include <algorithm>
#include <cstddef>
#include <set>
#include <span>
#include <vector>

#include "error.hpp"
#include "mapped_file.hpp"

namespace olmoe {
std::string show(const nlohmann::json& value) {
  return one_line(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 100);
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
    throw Error(origin + ": bad JSON: " + std::string(what.substr(what.find("] ") + 2)));
  }
}

nlohmann::json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace olmoe
