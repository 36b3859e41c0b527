#include "tokenizer/added_tokens.hpp"

#include <algorithm>
#include <numeric>

#include "tokenizer/unicode.hpp"

namespace olmoe {
namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
  return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
}

bool is_space(const Utf8Unit& unit) {
  return character_class(unit.code_point) == CharacterClass::Space;
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_character(first_utf8_unit(text).code_point);
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_character(last_utf8_unit(text).code_point);
}

std::size_t leading_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const Utf8Unit unit = first_utf8_unit(text.substr(length));
    if (!is_space(unit)) break;
    length += unit.length;
  }
  return length;
}

std::size_t trailing_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const Utf8Unit unit = last_utf8_unit(text.substr(0, text.size() - length));
    if (!is_space(unit)) break;
    length += unit.length;
  }
  return length;
}

}  // namespace

AddedTokenSet::AddedTokenSet(std::span<const std::pair<std::string, AddedToken>> patterns) {
  for (const auto& [pattern, token] : patterns) {
    if (pattern.empty()) continue;
    last_bytes_.set(static_cast<unsigned char>(pattern.back()));
    std::uint32_t node = root;
    for (auto place = pattern.rbegin(); place != pattern.rend(); ++place) {
      const char byte = *place;
      const auto fresh = static_cast<std::uint32_t>(nodes_.size());
      const auto [found, is_new] = children_.try_emplace(edge(node, byte), fresh);
      if (is_new) nodes_.push_back({.depth = nodes_[node].depth + 1, .parent = node, .byte = byte});
      node = found->second;
    }
    if (nodes_[node].token != none) continue;
    nodes_[node].token = static_cast<std::uint32_t>(tokens_.size());
    tokens_.push_back(token);
  }

  // From the root outwards, as a node's links lead to nodes that are less deep.
  std::vector<std::uint32_t> order(nodes_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, {}, [&](std::uint32_t node) { return nodes_[node].depth; });
  for (const std::uint32_t i : order) {
    Node& node = nodes_[i];
    if (node.depth > 1) node.shorter = next(nodes_[node.parent].shorter, node.byte);
    node.longest = node.token != none ? i : i == root ? none : nodes_[node.shorter].longest;
  }
}

std::uint32_t AddedTokenSet::child(std::uint32_t node, char byte) const {
  if (node == root && !last_bytes_.test(static_cast<unsigned char>(byte))) return none;
  const auto found = children_.find(edge(node, byte));
  return found == children_.end() ? none : found->second;
}

std::uint32_t AddedTokenSet::next(std::uint32_t node, char byte) const {
  while (true) {
    if (const std::uint32_t deeper = child(node, byte); deeper != none) return deeper;
    if (node == root) return root;
    node = nodes_[node].shorter;
  }
}

std::vector<std::uint32_t> AddedTokenSet::longest_matches(std::string_view text) const {
  std::vector<std::uint32_t> matches;
  std::uint32_t node = root;
  for (std::size_t i = text.size(); i-- > 0;) {
    node = next(node, text[i]);
    if (nodes_[node].longest == none) continue;
    if (matches.empty()) matches.resize(text.size(), none);
    matches[i] = nodes_[node].longest;
  }
  return matches;
}

std::vector<AddedTokenSet::Piece> AddedTokenSet::split(std::string_view text) const {
  std::vector<Piece> pieces;
  std::size_t done = 0;  // the end of the last token, with the white space it took
  const auto add_text_before = [&](std::size_t end) {
    if (done < end) pieces.push_back({text.substr(done, end - done), std::nullopt});
  };
  // A run of white space is gone through once, however many tokens end in it.
  std::size_t space_begin = 0;
  std::size_t space_end = 0;
  const auto end_of_space = [&](std::size_t begin) {
    if (begin < space_begin || begin > space_end) {
      space_begin = begin;
      space_end = begin + leading_space(text.substr(begin));
    }
    return space_end;
  };
  const auto matches = longest_matches(text);
  for (std::size_t i = 0; i < matches.size();) {
    if (matches[i] == none) {
      ++i;
      continue;
    }
    const Node& match = nodes_[matches[i]];
    const AddedToken& token = tokens_[match.token];
    std::size_t begin = i;
    std::size_t end = i += match.depth;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token.lstrip)
      begin = done < begin ? begin - trailing_space(text.substr(done, begin - done)) : done;
    if (token.rstrip) end = end_of_space(end);
    add_text_before(begin);
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  add_text_before(text.size());
  return pieces;
}

}  // namespace olmoe
