#include "tokenizer/tokenizer.hpp"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>
#include <set>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "tokenizer/unicode.hpp"

namespace olmoe {
namespace {

using nlohmann::json;

// The vocabulary is text, so every byte has a printable stand-in: the printable characters of
// Latin-1 stand for themselves, those from U+0100 on for the other bytes in order.
constexpr auto byte_characters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = printable ? byte : next++;
  }
  return characters;
}();

// The bytes that the characters of a token stand for. A token that has any other character, as
// added ones may, stands for itself.
std::string bytes_of(const std::string& token) {
  static const auto byte_of = [] {
    std::unordered_map<char32_t, char> bytes;
    for (std::size_t i = 0; i < 256; ++i) bytes[byte_characters[i]] = static_cast<char>(i);
    return bytes;
  }();
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Unit unit = first_utf8_unit(rest);
    const auto found = byte_of.find(unit.code_point);
    if (found == byte_of.end()) return token;
    bytes += found->second;
    rest.remove_prefix(unit.length);
  }
  return bytes;
}

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

// A value within tokenizer.json that knows its place, so that refusals can name it.
class Node {
 public:
  Node(const json& value, const std::string& origin, std::string place = "")
      : value_(value), origin_(origin), place_(std::move(place)) {}

  [[noreturn]] void fail(const std::string& fact) const {
    throw Error(origin_ + ": " + (place_.empty() ? "" : place_ + ": ") + fact);
  }

  // A member; null if the object lacks it.
  Node operator[](const std::string& key) const {
    static const json null;
    const auto found = object().find(key);
    return {found == value_.end() ? null : *found, origin_,
            place_.empty() ? key : place_ + "." + key};
  }

  const json& value() const { return value_; }
  bool is_null() const { return value_.is_null(); }
  const json& object() const { return typed(value_.is_object(), "an object"); }
  const json& array() const { return typed(value_.is_array(), "an array"); }
  bool boolean() const { return typed(value_.is_boolean(), "true or false").get<bool>(); }
  const std::string& string() const {
    return typed(value_.is_string(), "a string").get_ref<const std::string&>();
  }
  std::int32_t id() const {
    constexpr std::uint64_t max = std::numeric_limits<std::int32_t>::max();
    return typed(value_.is_number_unsigned() && value_.get<std::uint64_t>() <= max,
                 "an id (an integer from 0 to 2147483647)")
        .get<std::int32_t>();
  }

  // visit(Node) for each element of an array.
  template <class Visitor>
  void for_each(Visitor visit) const {
    std::size_t index = 0;
    for (const json& element : array())
      visit(Node(element, origin_, place_ + "[" + std::to_string(index++) + "]"));
  }

  // visit(key, Node) for each member of an object whose keys are not ours to know.
  template <class Visitor>
  void for_each_member(Visitor visit) const {
    for (const auto& [key, element] : object().items())
      visit(key, Node(element, origin_, place_ + "[" + quote(key) + "]"));
  }

  // Refuses a value that is not among `supported`.
  void require(std::initializer_list<json> supported) const {
    if (std::ranges::find(supported, value_) == supported.end())
      fail(value_.is_null() ? "is missing" : show(value_) + " is not supported");
  }

  // Refuses keys of an object that are not among `known`.
  void require_keys(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : object().items())
      if (std::ranges::find(known, key) == known.end()) fail("unknown key " + quote(key));
  }

 private:
  const json& typed(bool matches, const std::string& expected) const {
    if (value_.is_null()) fail("is missing");
    if (!matches) fail("expected " + expected + ", got " + show(value_));
    return value_;
  }

  const json& value_;
  const std::string& origin_;
  std::string place_;
};

// Refuses what is not a ByteLevel object. Its trim_offsets concerns character offsets alone.
void require_byte_level(const Node& node) {
  node["type"].require({"ByteLevel"});
  node.require_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  node["add_prefix_space"].boolean();
  node["trim_offsets"].boolean();
  node["use_regex"].require({nullptr, false, true});
}

AddedToken added_token(const Node& node) {
  node.require_keys({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token{
      .id = node["id"].id(),
      .content = node["content"].string(),
      .single_word = node["single_word"].boolean(),
      .lstrip = node["lstrip"].boolean(),
      .rstrip = node["rstrip"].boolean(),
      .normalized = node["normalized"].boolean(),
      .special = node["special"].boolean(),
  };
  if (token.content.empty()) node.fail("empty content");
  return token;
}

// The two sides of a merge, written as "left right" or ["left", "right"].
std::pair<std::string, std::string> merge_sides(const Node& node) {
  const json& value = node.value();
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
    return {value[0].get<std::string>(), value[1].get<std::string>()};
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && space == text.rfind(' '))
      return {text.substr(0, space), text.substr(space + 1)};
  }
  node.fail("expected \"left right\" or [\"left\", \"right\"], got " + show(value));
}

}  // namespace

struct Tokenizer::Loader {
  Tokenizer& tokenizer;
  std::unordered_map<std::string, std::int32_t> ids;  // of all tokens

  void read(const Node& root) {
    root.require_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                       "pre_tokenizer", "post_processor", "decoder", "model"});
    root["version"].require({nullptr, "1.0"});
    root["truncation"].require({nullptr});
    root["padding"].require({nullptr});
    root["normalizer"].require({nullptr, json::object({{"type", "NFC"}})});
    tokenizer.nfc_ = !root["normalizer"].is_null();

    const Node pre_tokenizer = root["pre_tokenizer"];
    require_byte_level(pre_tokenizer);
    tokenizer.add_prefix_space_ = pre_tokenizer["add_prefix_space"].boolean();
    tokenizer.split_words_ = pre_tokenizer["use_regex"].value() != false;

    // As a post-processor, ByteLevel concerns character offsets alone.
    if (!root["post_processor"].is_null()) require_byte_level(root["post_processor"]);
    require_byte_level(root["decoder"]);
    read_model(root["model"]);
    if (!root["added_tokens"].is_null()) read_added_tokens(root["added_tokens"]);
  }

  void read_model(const Node& model) {
    model["type"].require({nullptr, "BPE"});  // older files leave it out
    model.require_keys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                        "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                        "merges"});
    model["dropout"].require({nullptr});
    model["continuing_subword_prefix"].require({nullptr, ""});
    model["end_of_word_suffix"].require({nullptr, ""});
    model["byte_fallback"].require({nullptr, false});
    model["ignore_merges"].require({nullptr, false});
    // These would act on a byte that the vocabulary lacks: for encode() that is an error.
    if (!model["unk_token"].is_null()) model["unk_token"].string();
    model["fuse_unk"].require({nullptr, false, true});

    model["vocab"].for_each_member([&](const std::string& token, const Node& node) {
      const std::int32_t id = node.id();
      if (tokenizer.contains(id)) node.fail("another token has id " + std::to_string(id));
      add_token(token, id);
    });
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::string character;
      append_utf8(character, byte_characters[byte]);
      if (const auto found = ids.find(character); found != ids.end())
        tokenizer.byte_ids_[byte] = found->second;
    }

    std::int32_t rank = 0;
    model["merges"].for_each([&](const Node& node) {
      const auto id_of = [&](const std::string& token) {
        const auto found = ids.find(token);
        if (found == ids.end()) node.fail(quote(token) + " is not in the vocabulary");
        return found->second;
      };
      const auto [left, right] = merge_sides(node);
      const auto key = merge_key(id_of(left), id_of(right));
      if (!tokenizer.merges_.try_emplace(key, Merge{rank++, id_of(left + right)}).second)
        node.fail("repeats an earlier merge");
    });
  }

  void read_added_tokens(const Node& array) {
    std::vector<AddedToken> tokens;
    std::set<std::int32_t> added;
    array.for_each([&](const Node& node) {
      const AddedToken& token = tokens.emplace_back(added_token(node));
      if (!added.insert(token.id).second) node.fail("repeats the id of another added token");
      const auto known = ids.find(token.content);
      if (known == ids.end() && tokenizer.contains(token.id))
        node.fail("id " + std::to_string(token.id) + " is another token's in the vocabulary");
      if (known != ids.end() && known->second != token.id) {
        node.fail("id " + std::to_string(token.id) + ", but " + quote(token.content) + " has id " +
                  std::to_string(known->second));
      }
      if (known == ids.end()) add_token(token.content, token.id);
    });
    // Normalization can make two of them equal: then a special one counts.
    std::stable_partition(tokens.begin(), tokens.end(),
                          [](const AddedToken& token) { return token.special; });
    std::vector<std::pair<std::string, AddedToken>> raw;
    std::vector<std::pair<std::string, AddedToken>> normalized;
    for (const AddedToken& token : tokens) {
      const std::string pattern =
          token.normalized ? tokenizer.normalize(token.content) : token.content;
      tokenizer.token_bytes_[token.id] = bytes_of(pattern);
      (token.normalized ? normalized : raw).emplace_back(pattern, token);
    }
    tokenizer.raw_added_tokens_ = AddedTokenSet(raw);
    tokenizer.normalized_added_tokens_ = AddedTokenSet(normalized);
  }

  void add_token(const std::string& token, std::int32_t id) {
    ids.emplace(token, id);
    tokenizer.token_bytes_.emplace(id, bytes_of(token));
    tokenizer.vocab_size_ = std::max(tokenizer.vocab_size_, static_cast<std::size_t>(id) + 1);
  }
};

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  Tokenizer tokenizer;
  tokenizer.origin_ = tokenizer_json.string();
  const json document = read_json(tokenizer_json);
  Loader{tokenizer, {}}.read(Node(document, tokenizer.origin_));
  return tokenizer;
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
