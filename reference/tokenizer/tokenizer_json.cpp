#include "tokenizer/tokenizer_json.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <unordered_set>

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

/// Reads the parts of a tokenizer.json into `file`, each after those that it refers to.
class Reader {
 public:
  TokenizerJson file;

  void read(const Node& root) {
    root.require_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                       "pre_tokenizer", "post_processor", "decoder", "model"});
    root["version"].require({nullptr, "1.0"});
    root["truncation"].require({nullptr});
    root["padding"].require({nullptr});
    root["normalizer"].require({nullptr, json::object({{"type", "NFC"}})});
    file.nfc = !root["normalizer"].is_null();

    const Node pre_tokenizer = root["pre_tokenizer"];
    require_byte_level(pre_tokenizer);
    file.add_prefix_space = pre_tokenizer["add_prefix_space"].boolean();
    file.split_words = pre_tokenizer["use_regex"].value() != false;

    // As a post-processor, ByteLevel concerns character offsets alone.
    if (!root["post_processor"].is_null()) require_byte_level(root["post_processor"]);
    require_byte_level(root["decoder"]);
    read_model(root["model"]);
    if (!root["added_tokens"].is_null()) read_added_tokens(root["added_tokens"]);
  }

 private:
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
      if (taken_.contains(id)) node.fail("another token has id " + std::to_string(id));
      file.vocabulary.emplace(token, id);
      taken_.insert(id);
    });
    std::set<std::pair<std::int32_t, std::int32_t>> pairs;
    model["merges"].for_each([&](const Node& node) {
      const auto id_of = [&](const std::string& token) {
        const auto found = file.vocabulary.find(token);
        if (found == file.vocabulary.end()) node.fail(quote(token) + " is not in the vocabulary");
        return found->second;
      };
      const auto [left, right] = merge_sides(node);
      const TokenizerJson::Merge& merge = file.merges.emplace_back(
          TokenizerJson::Merge{id_of(left), id_of(right), id_of(left + right)});
      if (!pairs.emplace(merge.left, merge.right).second) node.fail("repeats an earlier merge");
    });
  }

  void read_added_tokens(const Node& array) {
    auto ids = file.vocabulary;  // and those of the tokens added so far
    std::set<std::int32_t> added;
    array.for_each([&](const Node& node) {
      const AddedToken& token = file.added_tokens.emplace_back(added_token(node));
      if (!added.insert(token.id).second) node.fail("repeats the id of another added token");
      const auto known = ids.find(token.content);
      if (known == ids.end() && taken_.contains(token.id))
        node.fail("id " + std::to_string(token.id) + " is another token's in the vocabulary");
      if (known != ids.end() && known->second != token.id) {
        node.fail("id " + std::to_string(token.id) + ", but " + quote(token.content) + " has id " +
                  std::to_string(known->second));
      }
      if (known == ids.end()) ids.emplace(token.content, token.id);
    });
  }

  std::unordered_set<std::int32_t> taken_;  // the ids of the vocabulary
};

}  // namespace

TokenizerJson read_tokenizer_json(const std::filesystem::path& path) {
  const json document = read_json(path);
  const std::string origin = path.string();
  Reader reader;
  reader.read(Node(document, origin));
  return std::move(reader.file);
}

std::string character_of(unsigned char byte) {
  std::string character;
  append_utf8(character, byte_characters[byte]);
  return character;
}

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

}  // namespace olmoe
