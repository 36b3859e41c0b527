#include "tokenizer/tokenizer.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "formats/error.hpp"
#include "tokenizer/tokenizer_json.hpp"
#include "tokenizer/unicode.hpp"

namespace olmoe {
namespace {

// The length of the first word of `text`, which must not be empty, by ByteLevel's expression
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t first_word_length(std::string_view text) {
  using namespace std::string_view_literals;
  for (const auto suffix : {"'s"sv, "'t"sv, "'re"sv, "'ve"sv, "'m"sv, "'ll"sv, "'d"sv})
    if (text.starts_with(suffix)) return suffix.size();

  const std::size_t first = text.size() > 1 && text.front() == ' ' ? 1 : 0;
  std::size_t last = first;  // where the run's last character begins
  std::size_t end = first;
  const auto run = character_class(first_utf8_unit(text.substr(first)).code_point);
  while (end < text.size()) {
    const Utf8Unit unit = first_utf8_unit(text.substr(end));
    if (character_class(unit.code_point) != run) break;
    last = end;
    end += unit.length;
  }
  // White space leaves its last character to the word behind it, unless that is all there is.
  return run == CharacterClass::Space && end < text.size() && last > 0 ? last : end;
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  return {read_tokenizer_json(tokenizer_json), tokenizer_json.string()};
}

Tokenizer::Tokenizer(const TokenizerJson& file, std::string origin)
    : origin_(std::move(origin)),
      nfc_(file.nfc),
      add_prefix_space_(file.add_prefix_space),
      split_words_(file.split_words) {
  for (const auto& [token, id] : file.vocabulary) add_token(id, token);
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto found = file.vocabulary.find(character_of(static_cast<unsigned char>(byte)));
    byte_ids_[byte] = found == file.vocabulary.end() ? no_id : found->second;
  }
  for (const auto& [left, right, merged] : file.merges) {
    const auto rank = static_cast<std::int32_t>(merges_.size());
    merges_.emplace(merge_key(left, right), Merge{rank, merged});
  }

  // Normalization can make two added tokens equal: then a special one counts.
  std::vector<AddedToken> tokens = file.added_tokens;
  std::stable_partition(tokens.begin(), tokens.end(),
                        [](const AddedToken& token) { return token.special; });
  std::vector<std::pair<std::string, AddedToken>> raw;
  std::vector<std::pair<std::string, AddedToken>> normalized;
  for (const AddedToken& token : tokens) {
    const std::string pattern = token.normalized ? normalize(token.content) : token.content;
    add_token(token.id, pattern);
    (token.normalized ? normalized : raw).emplace_back(pattern, token);
  }
  raw_added_tokens_ = AddedTokenSet(raw);
  normalized_added_tokens_ = AddedTokenSet(normalized);
}

void Tokenizer::add_token(std::int32_t id, const std::string& token) {
  token_bytes_[id] = bytes_of(token);
  vocab_size_ = std::max(vocab_size_, static_cast<std::size_t>(id) + 1);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view utf8, std::string_view origin) const {
  require_utf8(utf8, origin);
  std::vector<std::int32_t> ids;
  for (const auto& raw : raw_added_tokens_.split(utf8)) {
    if (raw.id) {
      ids.push_back(*raw.id);
      continue;
    }
    const std::string normalized = normalize(raw.text);
    for (const auto& piece : normalized_added_tokens_.split(normalized)) {
      if (piece.id) {
        ids.push_back(*piece.id);
      } else {
        encode_words(piece.text, ids);
      }
    }
  }
  return ids;
}

std::string Tokenizer::normalize(std::string_view utf8) const {
  return nfc_ ? to_nfc(utf8) : std::string(utf8);
}

void Tokenizer::encode_words(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::string prefixed;
  if (add_prefix_space_ && !text.starts_with(' ')) text = prefixed = " " + std::string(text);
  while (!text.empty()) {
    const std::size_t length = split_words_ ? first_word_length(text) : text.size();
    encode_word(text.substr(0, length), ids);
    text.remove_prefix(length);
  }
}

// Merges the adjacent pair of lowest rank, the leftmost of equals, until no pair merges.
void Tokenizer::encode_word(std::string_view word, std::vector<std::int32_t>& ids) const {
  constexpr std::size_t none = std::string_view::npos;
  struct Symbol {
    std::int32_t id;  // no_id once it is merged into the symbol before it
    std::size_t previous;
    std::size_t next;
  };
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    const std::int32_t id = byte_ids_[byte];
    if (id == no_id)
      throw Error(origin_ + ": the vocabulary has no token for byte " + std::to_string(byte));
    symbols.push_back({id, i == 0 ? none : i - 1, i + 1 == word.size() ? none : i + 1});
  }

  using Candidate = std::pair<std::int32_t, std::size_t>;  // rank, position of the left symbol
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto merge_at = [&](std::size_t left) -> const Merge* {
    const std::size_t right = left == none ? none : symbols[left].next;
    return right == none ? nullptr : find_merge(symbols[left].id, symbols[right].id);
  };
  const auto consider = [&](std::size_t left) {
    if (const Merge* merge = merge_at(left)) candidates.emplace(merge->rank, left);
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(i);
  while (!candidates.empty()) {
    const auto [rank, left] = candidates.top();
    candidates.pop();
    // Either symbol may have merged since, so that another pair stands here, or none.
    const Merge* merge = merge_at(left);
    if (merge == nullptr || merge->rank != rank) continue;
    Symbol& symbol = symbols[left];
    Symbol& merged = symbols[symbol.next];
    symbol.id = merge->id;
    symbol.next = merged.next;
    merged.id = no_id;
    if (symbol.next != none) symbols[symbol.next].previous = left;
    consider(symbol.previous);
    consider(left);
  }
  for (std::size_t i = 0; i != none; i = symbols[i].next) ids.push_back(symbols[i].id);
}

const Tokenizer::Merge* Tokenizer::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(merge_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string bytes;
  for (const std::int32_t id : ids) bytes += token_bytes(id);
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  const auto found = token_bytes_.find(id);
  if (found == token_bytes_.end()) {
    throw Error(origin_ + ": no token has id " + std::to_string(id) + " (the largest id is " +
                std::to_string(static_cast<std::int64_t>(vocab_size_) - 1) + ")");
  }
  return found->second;
}

std::string StreamDecoder::push(std::int32_t id) {
  if (!tokenizer_.contains(id)) return {};
  pending_ += tokenizer_.token_bytes(id);
  const std::size_t complete = pending_.size() - truncated_utf8_tail(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace olmoe
