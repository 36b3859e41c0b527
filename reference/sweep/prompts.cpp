#include "sweep/prompts.hpp"

#include <algorithm>
#include <cstddef>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/mapped_file.hpp"

namespace olmoe {

std::vector<Prompt> default_prompts() {
  return {
      {"simple", "The sun rises in the"},
      {"simple", "A dog is an animal that"},
      {"simple", "And the king said unto"},
      {"medium", "The difference between a river and a lake is that"},
      {"medium", "When the people heard the sound of the trumpet, they"},
      {"medium", "A programmer who writes the same function twice should"},
      {"complex",
       "If every member of the council had voted against the law, and the law was nevertheless "
       "adopted, then"},
      {"complex",
       "Although the two words are often used for one another, the first means a place where goods "
       "are kept, while the second means"},
      {"complex",
       "He had promised his brother the field and his sister the house; but since the house stood "
       "on the field,"},
      {"technical", "SELECT name, count(*) FROM orders WHERE total > 100 GROUP BY"},
      {"technical", "def mean(values):\n    \"\"\"Return the arithmetic mean.\"\"\"\n    return"},
      {"technical",
       "A transaction that reads a row while another transaction is updating it must wait until"},
  };
}

std::vector<Prompt> parse_prompts(std::string_view content, const std::string& name) {
  std::vector<Prompt> prompts;
  const std::size_t begin = content.find_first_not_of(" \t\r\n");
  if (begin != content.npos && content[begin] == '[') {
    for (const nlohmann::json& item : parse_json(content, name)) {
      const bool has_class = item.is_object() && item.contains("class");
      const bool sound = item.is_object() && item.size() == (has_class ? 2 : 1) &&
                         (!has_class || item["class"].is_string()) && item.contains("text") &&
                         item["text"].is_string();
      if (!sound && !item.is_string())
        throw Error(name + ": a prompt is a string or {\"class\": ..., \"text\": ...}, got " +
                    show(item));
      prompts.push_back({has_class ? item["class"].get<std::string>() : "",
                         (sound ? item["text"] : item).get<std::string>()});
      if (prompts.back().text.empty())
        throw Error(name + ": prompt " + std::to_string(prompts.size()) + " is empty");
    }
  } else {
    while (!content.empty()) {
      std::string_view line = content.substr(0, content.find('\n'));
      content.remove_prefix(std::min(content.size(), line.size() + 1));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) prompts.push_back({"", std::string(line)});
    }
  }
  if (prompts.empty()) throw Error(name + ": holds no prompt");
  return prompts;
}

std::vector<Prompt> read_prompts(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  auto prompts =
      parse_prompts({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].group.empty())
      throw Error(path.string() + ": prompt " + std::to_string(i + 1) +
                  " has no class; a sweep takes [{\"class\": ..., \"text\": ...}, ...]");
  }
  return prompts;
}

}  // namespace olmoe
