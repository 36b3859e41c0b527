#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace olmoe {

class Tokenizer;

/// A text as token ids: one domain of an evaluation.
struct Text {
  std::string name;               ///< the file's name without its directory
  std::vector<std::int32_t> ids;  ///< (tokens)
  std::string sha256;             ///< of the file; empty if it came from none
};

/// Reads UTF-8 text files. A directory stands for its *.txt files, by name. Throws Error, naming
/// the file, if one cannot be read or holds no token, if a directory holds no .txt file, and if two
/// texts would have the same name.
std::vector<Text> load_texts(std::span<const std::string> paths, const Tokenizer& tokenizer);

}  // namespace olmoe
