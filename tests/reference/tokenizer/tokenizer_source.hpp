#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reference/temp_dir.hpp"
#include "tokenizer/tokenizer.hpp"
#include "tokenizer/unicode.hpp"

/// The vocabulary's stand-in for each byte, as UTF-8.
inline std::string stand_in(unsigned char byte) {
  int others = 0;  // bytes up to this one that are not printable in Latin-1
  for (int b = 0; b <= byte; ++b) others += b < 33 || (b > 126 && b < 161) || b == 173;
  const bool printable = byte > 32 && (byte < 127 || byte > 160) && byte != 173;
  std::string text;
  olmoe::append_utf8(text, static_cast<char32_t>(printable ? byte : 255 + others));
  return text;
}

inline std::string stand_ins(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += stand_in(static_cast<unsigned char>(byte));
  return text;
}

/// A tokenizer.json whose token b is the byte b, for all 256; merges and added tokens come on top.
struct TokenizerSource {
  nlohmann::json document = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", nlohmann::json::array()},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "ByteLevel"},
        {"add_prefix_space", false},
        {"trim_offsets", true},
        {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"vocab", nlohmann::json::object()},
        {"merges", nlohmann::json::array()}}},
  };
  std::int32_t next_id = 256;

  TokenizerSource() {
    for (int byte = 0; byte < 256; ++byte)
      vocab()[stand_in(static_cast<unsigned char>(byte))] = byte;
  }

  nlohmann::json& vocab() { return document["model"]["vocab"]; }
  nlohmann::json& merges() { return document["model"]["merges"]; }

  /// Adds the merge of two tokens, given as bytes; the id of their union.
  std::int32_t merge(std::string_view left, std::string_view right, bool as_pair = true) {
    const std::string a = stand_ins(left);
    const std::string b = stand_ins(right);
    if (as_pair) {
      merges().push_back({a, b});
    } else {
      merges().push_back(a + " " + b);
    }
    if (!vocab().contains(a + b)) vocab()[a + b] = next_id++;
    return vocab()[a + b].get<std::int32_t>();
  }

  /// Adds an added token with only the flags named in `flags` set; its id.
  std::int32_t add(std::string_view content, std::string_view flags = "") {
    nlohmann::json token = {{"id", next_id}, {"content", content}};
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized", "special"})
      token[flag] = flags.find(flag) != std::string_view::npos;
    document["added_tokens"].push_back(token);
    return next_id++;
  }

  olmoe::Tokenizer load() const {
    const TempDir dir;
    return olmoe::Tokenizer::load(dir.write("tokenizer.json", document.dump()));
  }

  std::vector<std::int32_t> encode(std::string_view text) const { return load().encode(text); }
};
