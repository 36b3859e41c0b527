#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/added_tokens.hpp"

namespace olmoe {

struct TokenizerJson;

/// The byte-level BPE tokenizer of a Hugging Face tokenizer.json: added tokens, NFC, ByteLevel's
/// split into words and bytes, merges by rank. encode and decode give what HF tokenizers give.
///
/// They can differ for characters that are younger than Unicode 15.0, by which utf8proc 2.8 tells
/// letters and numbers apart; HF tokenizers 0.23 do by 16.0.
class Tokenizer {
 public:
  /// Throws Error, naming the file and the place in it, if the file cannot be read, contradicts
  /// itself, or holds anything that is not implemented here.
  static Tokenizer load(const std::filesystem::path& tokenizer_json);

  /// The ids of a text. Throws Error if it is not UTF-8 (naming `origin` and the byte offset) or
  /// has a byte that the vocabulary lacks.
  std::vector<std::int32_t> encode(std::string_view utf8, std::string_view origin = "text") const;

  /// The text of the ids, special tokens included. Bytes that do not make up UTF-8 become U+FFFD.
  /// Throws Error for an id without a token.
  std::string decode(std::span<const std::int32_t> ids) const;

  /// Whether `id` has a token. Not every id below vocab_size() need have one.
  bool contains(std::int32_t id) const { return token_bytes_.contains(id); }

  /// The bytes that `id` stands for, perhaps only a part of a character. Throws Error for an id
  /// without a token.
  std::string_view token_bytes(std::int32_t id) const;

  /// The largest id + 1.
  std::size_t vocab_size() const { return vocab_size_; }

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t id;  // of the merged token
  };

  static constexpr std::int32_t no_id = -1;

  /// `origin`: the file, for messages.
  Tokenizer(const TokenizerJson& file, std::string origin);

  // Sets the bytes of a token, in place of those that it had.
  void add_token(std::int32_t id, const std::string& token);

  static std::uint64_t merge_key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }

  // The merge of two adjacent tokens; nullptr if there is none.
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;

  std::string normalize(std::string_view utf8) const;

  // These append the ids of a normalized text without added tokens, and of one of its words.
  void encode_words(std::string_view text, std::vector<std::int32_t>& ids) const;
  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const;

  std::string origin_;  // the file, for messages
  std::size_t vocab_size_ = 0;
  std::unordered_map<std::int32_t, std::string> token_bytes_;
  std::array<std::int32_t, 256> byte_ids_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by merge_key
  AddedTokenSet raw_added_tokens_;                   // sought in the text as it is
  AddedTokenSet normalized_added_tokens_;            // sought in the normalized rest
  bool nfc_;
  bool add_prefix_space_;
  bool split_words_;
};

/// Turns ids that come one by one into text, a whole character at a time: the pieces together are
/// the Tokenizer's decode() of all ids. An id without a token adds nothing: models pad their
/// vocabularies.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive this.
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The text that `id` completes.
  std::string push(std::int32_t id);

  /// U+FFFD if the last id left a character unfinished. The next push() starts anew.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // the beginning of a character
};

}  // namespace olmoe
