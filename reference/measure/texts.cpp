#include "measure/texts.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "formats/error.hpp"
#include "formats/mapped_file.hpp"
#include "formats/sha256.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

std::vector<std::filesystem::path> text_files(const std::filesystem::path& path) {
  std::error_code none;
  if (!std::filesystem::is_directory(path, none)) return {path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  if (files.empty()) throw Error(path.string() + ": holds no .txt file");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<Text> load_texts(std::span<const std::string> paths, const Tokenizer& tokenizer) {
  std::vector<Text> texts;
  for (const std::string& path : paths) {
    for (const std::filesystem::path& file : text_files(path)) {
      const MappedFile mapped(file);
      constexpr std::size_t most_bytes = std::size_t{1} << 30;
      if (mapped.bytes().size() > most_bytes)
        throw Error(file.string() + ": has more than " + std::to_string(most_bytes) + " bytes");
      const std::string_view utf8(reinterpret_cast<const char*>(mapped.bytes().data()),
                                  mapped.bytes().size());
      Text text{.name = file.filename().string(), .ids = {}, .sha256 = sha256(mapped.bytes())};
      try {
        text.ids = tokenizer.encode(utf8);
      } catch (const Error& error) {
        throw Error(file.string() + ": " + error.what());
      }
      if (text.ids.empty()) throw Error(file.string() + ": is empty");
      for (const Text& other : texts) {
        if (other.name == text.name)
          throw Error(file.string() + ": a second text named " + quote(text.name));
      }
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

}  // namespace olmoe
