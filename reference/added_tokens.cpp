#include "added_tokens.hpp"

#include "unicode.hpp"

namespace olmoe {
namespace {

std::uint64_t edge(std::uint64_t node, char byte) {
  return node << 8 | static_cast<unsigned char>(byte);
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

void AddedTokenSet::add(std::string_view pattern, const AddedToken& token) {
  if (pattern.empty()) return;
  first_bytes_.set(static_cast<unsigned char>(pattern.front()));
  std::uint64_t node = 0;
  for (const char byte : pattern)
    node = edges_.try_emplace(edge(node, byte), edges_.size() + 1).first->second;
  tokens_.try_emplace(node, token);
}

std::optional<AddedTokenSet::Match> AddedTokenSet::longest_match(std::string_view text,
                                                                 std::size_t start) const {
  if (!first_bytes_.test(static_cast<unsigned char>(text[start]))) return std::nullopt;
  std::optional<Match> longest;
  std::uint64_t node = 0;
  for (std::size_t i = start; i < text.size(); ++i) {
    const auto found = edges_.find(edge(node, text[i]));
    if (found == edges_.end()) break;
    node = found->second;
    if (const auto token = tokens_.find(node); token != tokens_.end())
      longest = Match{i + 1, &token->second};
  }
  return longest;
}

std::vector<AddedTokenSet::Piece> AddedTokenSet::split(std::string_view text) const {
  std::vector<Piece> pieces;
  std::size_t done = 0;  // the end of the last token, with the white space it took
  const auto add_text_before = [&](std::size_t end) {
    if (done < end) pieces.push_back({text.substr(done, end - done), std::nullopt});
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto match = longest_match(text, i);
    if (!match) {
      ++i;
      continue;
    }
    std::size_t begin = i;
    std::size_t end = i = match->end;
    const AddedToken& token = *match->token;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token.lstrip)
      begin = done < begin ? begin - trailing_space(text.substr(done, begin - done)) : done;
    if (token.rstrip) end += leading_space(text.substr(end));
    add_text_before(begin);
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  add_text_before(text.size());
  return pieces;
}

}  // namespace olmoe
