#include "measure/texts.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "formats/error.hpp"
#include "formats/limits.hpp"
#include "formats/mapped_file.hpp"
#include "formats/regular_file.hpp"
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

/// A document as NAME.documents says it.
struct Extent {
  std::string name;
  std::size_t bytes;
};

/// The documents of a text file of `bytes` bytes; none if there is no file beside it.
std::vector<Extent> read_extents(std::filesystem::path path, std::size_t bytes) {
  path.replace_extension(".documents");
  std::vector<Extent> extents;
  if (!std::filesystem::exists(path)) return extents;
  std::istringstream file(read_file(path, Limits::documents_bytes));
  std::size_t sum = 0;
  std::string line;
  while (std::getline(file, line)) {
    std::size_t size = 0;
    const char* const end = line.data() + line.size();
    const auto [rest, error] = std::from_chars(line.data(), end, size);
    if (error != std::errc{} || size == 0 || end - rest < 2 || *rest != ' ')
      throw Error(path.string() + ": line " + std::to_string(extents.size() + 1) +
                  " is not \"BYTES NAME\": " + quote(line));
    if (size > bytes - sum)
      throw Error(path.string() + ": has documents of more than the text's " +
                  std::to_string(bytes) + " bytes");
    sum += size;
    extents.push_back({std::string(rest + 1, end), size});
  }
  if (sum != bytes)
    throw Error(path.string() + ": has documents of " + std::to_string(sum) +
                " bytes, the text has " + std::to_string(bytes));
  return extents;
}

/// Fills in ids and documents of a text.
void encode(std::string_view utf8, const std::vector<Extent>& extents, const Tokenizer& tokenizer,
            Text& text) {
  if (extents.empty()) text.ids = tokenizer.encode(utf8);
  std::size_t first = 0;
  for (const Extent& extent : extents) {
    const auto ids = tokenizer.encode(utf8.substr(first, extent.bytes));
    if (ids.empty()) throw Error("document " + quote(extent.name) + " has no token");
    first += extent.bytes;
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
    text.documents.push_back({extent.name, static_cast<std::int64_t>(ids.size())});
  }
}

}  // namespace

std::vector<Document> Text::all_documents() const {
  if (!documents.empty()) return documents;
  return {{name, static_cast<std::int64_t>(ids.size())}};
}

std::vector<Text> load_texts(std::span<const std::string> paths, const Tokenizer& tokenizer) {
  std::vector<Text> texts;
  std::set<std::string> names;
  for (const std::string& path : paths) {
    for (const std::filesystem::path& file : text_files(path)) {
      const MappedFile mapped(file);
      if (mapped.bytes().size() > Limits::text_bytes) {
        throw Error(file.string() + ": has more than " + std::to_string(Limits::text_bytes) +
                    " bytes");
      }
      const std::string_view utf8(reinterpret_cast<const char*>(mapped.bytes().data()),
                                  mapped.bytes().size());
      const std::vector<Extent> extents = read_extents(file, utf8.size());
      Text text{.name = file.filename().string(), .ids = {}, .sha256 = sha256(mapped.bytes())};
      try {
        encode(utf8, extents, tokenizer, text);
      } catch (const Error& error) {
        throw Error(file.string() + ": " + error.what());
      }
      if (text.ids.empty()) throw Error(file.string() + ": is empty");
      if (!names.insert(text.name).second)
        throw Error(file.string() + ": a second text named " + quote(text.name));
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

Text first_tokens(Text text, std::int64_t tokens) {
  if (static_cast<std::int64_t>(text.ids.size()) <= tokens) return text;
  std::vector<Document> kept;
  std::int64_t sum = 0;
  for (const Document& document : text.documents) {
    const std::int64_t left = std::min(document.tokens, tokens - sum);
    if (left < 2) break;
    kept.push_back({document.name, left});
    sum += left;
  }
  text.ids.resize(static_cast<std::size_t>(text.documents.empty() ? tokens : sum));
  text.documents = std::move(kept);
  return text;
}

Text split_off_quarter(Text& text) {
  const auto quarter = static_cast<std::int64_t>(text.ids.size() / 4);
  std::int64_t cut = 0;
  std::size_t documents = 0;
  while (documents + 1 < text.documents.size() && cut < quarter)
    cut += text.documents[documents++].tokens;
  if (documents == 0) cut = quarter;
  Text first = text;
  first.ids.resize(static_cast<std::size_t>(cut));
  const auto place = static_cast<std::ptrdiff_t>(documents);
  first.documents.assign(text.documents.begin(), text.documents.begin() + place);
  first.documents = first.all_documents();
  text.documents.erase(text.documents.begin(), text.documents.begin() + place);
  text.ids.erase(text.ids.begin(), text.ids.begin() + cut);
  return first;
}

}  // namespace olmoe
