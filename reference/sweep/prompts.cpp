#include "sweep/prompts.hpp"

#include "formats/error.hpp"
#include "formats/json.hpp"

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

std::vector<Prompt> read_prompts(const std::filesystem::path& path) {
  const nlohmann::json list = read_json(path);
  if (!list.is_array() || list.empty())
    throw Error(path.string() + ": an array of prompts is expected, got " + show(list));
  std::vector<Prompt> prompts;
  for (const nlohmann::json& item : list) {
    const bool complete = item.is_object() && item.size() == 2 && item.contains("class") &&
                          item["class"].is_string() && item.contains("text") &&
                          item["text"].is_string();
    if (!complete)
      throw Error(path.string() + ": a prompt is {\"class\": \"...\", \"text\": \"...\"}, got " +
                  show(item));
    prompts.push_back({item["class"].get<std::string>(), item["text"].get<std::string>()});
    if (prompts.back().text.empty())
      throw Error(path.string() + ": prompt " + std::to_string(prompts.size()) + " is empty");
  }
  return prompts;
}

}  // namespace olmoe
