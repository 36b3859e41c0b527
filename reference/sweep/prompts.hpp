#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace olmoe {

/// A text to continue, and the class that results are grouped by; "" if none was given.
struct Prompt {
  std::string group;
  std::string text;
};

/// Twelve prompts, three in each of the classes simple, medium, complex and technical.
std::vector<Prompt> default_prompts();

/// Prompts from the contents of a file, `name` in messages: a JSON array of strings or of
/// {"class": ..., "text": ...}, of which the class may be left out, if it begins with [; otherwise
/// a prompt per line that is not empty. Throws Error if there is none, if one is empty, and for
/// anything else in the array.
std::vector<Prompt> parse_prompts(std::string_view content, const std::string& name);

/// A sweep's prompts: those of a file, each with a class. Throws Error, also as MappedFile does.
std::vector<Prompt> read_prompts(const std::filesystem::path& path);

}  // namespace olmoe
