#include "cli/input.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <system_error>
#include <utility>

#include "formats/error.hpp"
#include "sweep/prompts.hpp"

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
  std::vector<InputText> texts;
  for (Prompt& prompt : parse_prompts(input.read_all(), name))
    texts.push_back(
        {std::move(prompt.text), name + ": prompt " + std::to_string(texts.size() + 1)});
  return texts;
}

}  // namespace olmoe
