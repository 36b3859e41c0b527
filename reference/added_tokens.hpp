#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace olmoe {

/// A token that is cut out of the text before byte-pair encoding, as tokenizer.json describes it.
struct AddedToken {
  std::int32_t id;
  std::string content;
  bool single_word;  ///< no match between word characters
  bool lstrip;       ///< takes the white space before it along
  bool rstrip;       ///< takes the white space after it along
  bool normalized;   ///< sought in the normalized text, and its content normalized too
  bool special;
};

/// Finds added tokens in a text: leftmost first, the longest of those that start together.
class AddedTokenSet {
 public:
  struct Piece {
    std::string_view text;
    std::optional<std::int32_t> id;  ///< none: text between the added tokens
  };

  /// Adds a token that is found where `pattern`, valid UTF-8, stands. An empty pattern is never
  /// found; of equal patterns the first counts.
  void add(std::string_view pattern, const AddedToken& token);

  /// `text`, valid UTF-8, in pieces, none of them empty. As in Hugging Face's, a match that
  /// single_word refuses still hides those that overlap it, and white space that rstrip took can
  /// match again, unless by a token with lstrip.
  std::vector<Piece> split(std::string_view text) const;

 private:
  struct Match {
    std::size_t end;
    const AddedToken* token;
  };

  std::optional<Match> longest_match(std::string_view text, std::size_t start) const;

  // A trie over the patterns' bytes: node 0 is the root, an edge leads from (node, byte) to a node.
  std::unordered_map<std::uint64_t, std::uint64_t> edges_;
  std::unordered_map<std::uint64_t, AddedToken> tokens_;  // by the node that a pattern ends in
  std::bitset<256> first_bytes_;
};

}  // namespace olmoe
