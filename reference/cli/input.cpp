#include "cli/input.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"

namespace olmoe {

Input::Input(const std::string& path) : name_(path == "-" ? "standard input" : path) {
  if (path == "-") return;
  // To open a named pipe would wait for whoever writes to it, and a device may never end.
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw Error(path + ": not a regular file; - is standard input");
  file_.open(path, std::ios::binary);
  if (!file_) fail();
}

std::string Input::read_all() {
  std::string content;
  std::array<char, 1 << 16> block;
  while (stream().read(block.data(), block.size()) || stream().gcount() > 0)
    content.append(block.data(), static_cast<std::size_t>(stream().gcount()));
  if (stream().bad()) fail();
  return content;
}

bool Input::read_line(std::string& line) {
  if (std::getline(stream(), line)) return true;
  if (stream().bad()) fail();
  return false;
}

std::istream& Input::stream() {
  if (file_.is_open()) return file_;
  return std::cin;
}

void Input::fail() const {
  throw Error(name_ + ": " + std::generic_category().message(errno));
}

std::vector<InputText> read_prompt_list(const std::string& path) {
  Input input(path);
  const std::string& name = input.name();
  const std::string content = input.read_all();
  std::vector<InputText> prompts;
  const auto add = [&](std::string text) {
    prompts.push_back({std::move(text), name + ": prompt " + std::to_string(prompts.size() + 1)});
  };
  if (const std::size_t begin = content.find_first_not_of(" \t\r\n");
      begin != std::string::npos && content[begin] == '[') {
    for (const nlohmann::json& item : parse_json(content, name)) {
      const bool is_object = item.is_object() && item.contains("text") && item["text"].is_string();
      if (!item.is_string() && !is_object)
        throw Error(name + ": a prompt is a string or {\"class\": ..., \"text\": ...}, got " +
                    show(item));
      add(is_object ? item["text"].get<std::string>() : item.get<std::string>());
    }
  } else {
    std::istringstream lines(content);
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) add(line);
    }
  }
  if (prompts.empty()) throw Error(name + ": holds no prompt");
  return prompts;
}

}  // namespace olmoe
