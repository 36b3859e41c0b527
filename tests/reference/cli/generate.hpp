#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// The arguments of `olmoe generate`: prompt "x" and more.
inline std::vector<std::string> generate(const std::filesystem::path& model,
                                         std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{"generate", "--model", model.string(), "--prompt", "x"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}
