#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "tokenizer/added_tokens.hpp"

namespace olmoe {

/// What a Hugging Face tokenizer.json of a byte-level BPE tokenizer says.
struct TokenizerJson {
  /// Two adjacent tokens that become one.
  struct Merge {
    std::int32_t left;
    std::int32_t right;
    std::int32_t merged;
  };

  /// The ids of tokens as they are written: bytes_of() says for which bytes.
  std::unordered_map<std::string, std::int32_t> vocabulary;
  std::vector<Merge> merges;             ///< by rank: the first is made first
  std::vector<AddedToken> added_tokens;  ///< in the order of the file, some in the vocabulary, too
  bool nfc = false;                      ///< texts are normalized to NFC
  bool add_prefix_space = false;         ///< before a text that begins without one
  bool split_words = false;              ///< merges stay within words; if not, a text is one word
};

/// Throws Error, naming the file and the place in it, if the file cannot be read, contradicts
/// itself, or holds anything that Tokenizer does not implement.
TokenizerJson read_tokenizer_json(const std::filesystem::path& path);

/// The printable character that stands for a byte in the vocabulary, in UTF-8.
std::string character_of(unsigned char byte);

/// The bytes that the characters of a token stand for. A token that has any other character, as
/// added ones may, stands for itself.
std::string bytes_of(const std::string& token);

}  // namespace olmoe
