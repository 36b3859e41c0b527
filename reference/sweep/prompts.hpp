#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace olmoe {

/// A text to continue, and the class that results are grouped by.
struct Prompt {
  std::string group;
  std::string text;
};

/// Twelve prompts, three in each of the classes simple, medium, complex and technical.
std::vector<Prompt> default_prompts();

/// Prompts from a JSON array of {"class": ..., "text": ...}. Throws Error if the file holds
/// anything else or no prompt.
std::vector<Prompt> read_prompts(const std::filesystem::path& path);

}  // namespace olmoe
