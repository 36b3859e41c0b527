#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
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

  AddedTokenSet() = default;

  /// Each token is found where its pattern, valid UTF-8, stands. An empty pattern is never found;
  /// of equal patterns the first counts.
  explicit AddedTokenSet(std::span<const std::pair<std::string, AddedToken>> patterns);

  /// `text`, valid UTF-8, in pieces, none of them empty. As in Hugging Face's, a match that
  /// single_word refuses still hides those that overlap it, and white space that rstrip took can
  /// match again, unless by a token with lstrip. Takes time in proportion to the text.
  std::vector<Piece> split(std::string_view text) const;

 private:
  static constexpr std::uint32_t root = 0;
  static constexpr std::uint32_t none = 0xFFFFFFFF;

  // A place in the patterns read from their ends: the automaton of Aho and Corasick, which reads
  // the text from its end and so knows, at each byte, the patterns that begin there.
  struct Node {
    std::uint32_t depth = 0;       // bytes read
    std::uint32_t parent = root;   // before the last byte
    char byte = 0;                 // the last byte
    std::uint32_t shorter = root;  // the deepest other node whose bytes are the last read
    std::uint32_t longest = none;  // the deepest node that completes a pattern with the last read
    std::uint32_t token = none;    // in tokens_, of the pattern it completes
  };

  std::uint32_t child(std::uint32_t node, char byte) const;  // none if there is no such
  std::uint32_t next(std::uint32_t node, char byte) const;

  // The node that completes the longest pattern beginning at each byte; empty if none occurs.
  std::vector<std::uint32_t> longest_matches(std::string_view text) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // by node << 8 | byte
  std::vector<AddedToken> tokens_;
  std::bitset<256> last_bytes_;  // those of the patterns
};

}  // namespace olmoe
