#include "tokenizer/tokenizer_json.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "reference/tokenizer/tokenizer_source.hpp"

namespace {

using nlohmann::json;
using olmoe::Tokenizer;

}  // namespace

TEST_CASE("what a tokenizer.json says") {
  TokenizerSource source;
  const std::int32_t ab = source.merge("a", "b");
  const std::int32_t spaced = source.merge(" ", "ab", false);
  source.vocab()[stand_ins(" ab")] = spaced;
  const std::int32_t end = source.add("<end>", "special lstrip");
  const TempDir dir;
  const auto file = olmoe::read_tokenizer_json(dir.write("tokenizer.json", source.document.dump()));
  CHECK(file.nfc);
  CHECK(file.split_words);
  CHECK_FALSE(file.add_prefix_space);
  CHECK(file.vocabulary.size() == 258);
  CHECK(file.vocabulary.at("ab") == ab);
  CHECK(file.vocabulary.at(stand_ins(" ab")) == spaced);
  REQUIRE(file.merges.size() == 2);
  CHECK(file.merges[0].left == 'a');
  CHECK(file.merges[0].right == 'b');
  CHECK(file.merges[0].merged == ab);
  CHECK(file.merges[1].left == ' ');
  CHECK(file.merges[1].right == ab);
  CHECK(file.merges[1].merged == spaced);
  REQUIRE(file.added_tokens.size() == 1);
  CHECK(file.added_tokens[0].id == end);
  CHECK(file.added_tokens[0].content == "<end>");
  CHECK(file.added_tokens[0].special);
  CHECK(file.added_tokens[0].lstrip);
  CHECK_FALSE(file.added_tokens[0].normalized);
}

TEST_CASE("every byte has a character of its own, and characters give their bytes back") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = olmoe::character_of(static_cast<unsigned char>(byte));
    CHECK(character == stand_in(static_cast<unsigned char>(byte)));
    CHECK(olmoe::bytes_of(character) == std::string(1, static_cast<char>(byte)));
    all += character;
  }
  CHECK(olmoe::bytes_of(all).size() == 256);
  CHECK(olmoe::bytes_of("") == "");
  CHECK(olmoe::bytes_of("a b") == "a b");  // a space is no stand-in: the token is what it says
}

TEST_CASE("older files leave out what has a default") {
  TokenizerSource source;
  for (const char* key : {"type", "dropout", "unk_token", "continuing_subword_prefix",
                          "end_of_word_suffix", "fuse_unk", "byte_fallback"})
    source.document["model"].erase(key);
  source.document["pre_tokenizer"].erase("use_regex");
  source.document["post_processor"] = source.document["pre_tokenizer"];
  source.document["model"]["end_of_word_suffix"] = "";
  CHECK(source.encode("ab") == std::vector<std::int32_t>{'a', 'b'});
}

TEST_CASE("every flaw of a tokenizer.json is named") {
  const TempDir dir;
  const auto refusal = [&](const std::string& text) {
    const auto file = dir.write("tokenizer.json", text);
    const std::string message = error_of([&] { Tokenizer::load(file); });
    CHECK(message.find('\n') == std::string::npos);
    const std::string prefix = file.string() + ": ";
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  };

  const std::string missing = (dir.path() / "none.json").string();
  CHECK(error_of([&] { Tokenizer::load(missing); }) == missing + ": No such file or directory");
  CHECK(refusal("").starts_with("bad JSON: parse error at column 1"));
  CHECK(
      refusal("{\n  \"version\": 1.0.0").starts_with("bad JSON: parse error at line 2, column 17"));
  CHECK(refusal("[1]") == "expected an object, got [1]");
  CHECK(refusal("{}") == "pre_tokenizer: is missing");

  struct Flaw {
    const char* message;
    std::function<void(json&)> make;
  };
  const std::vector<Flaw> flaws = {
      {"unknown key 'extra'", [](json& d) { d["extra"] = 1; }},
      {"version: \"2.0\" is not supported", [](json& d) { d["version"] = "2.0"; }},
      {"truncation: {\"max_length\":512} is not supported",
       [](json& d) {
         d["truncation"] = {{"max_length", 512}};
       }},
      {"padding: {} is not supported", [](json& d) { d["padding"] = json::object(); }},
      {"normalizer: {\"type\":\"NFKC\"} is not supported",
       [](json& d) { d["normalizer"]["type"] = "NFKC"; }},
      {"normalizer: \"NFC\" is not supported", [](json& d) { d["normalizer"] = "NFC"; }},
      {"pre_tokenizer.type: \"Whitespace\" is not supported",
       [](json& d) {
         d["pre_tokenizer"] = {{"type", "Whitespace"}};
       }},
      {"pre_tokenizer: is missing", [](json& d) { d["pre_tokenizer"] = nullptr; }},
      {"pre_tokenizer.add_prefix_space: is missing",
       [](json& d) { d["pre_tokenizer"].erase("add_prefix_space"); }},
      {"pre_tokenizer.add_prefix_space: expected true or false, got 1",
       [](json& d) { d["pre_tokenizer"]["add_prefix_space"] = 1; }},
      {"pre_tokenizer.use_regex: \"yes\" is not supported",
       [](json& d) { d["pre_tokenizer"]["use_regex"] = "yes"; }},
      {"pre_tokenizer: unknown key 'pattern'",
       [](json& d) { d["pre_tokenizer"]["pattern"] = "x"; }},
      {"post_processor.type: \"TemplateProcessing\" is not supported",
       [](json& d) {
         d["post_processor"] = {{"type", "TemplateProcessing"}};
       }},
      {"decoder.type: \"BPEDecoder\" is not supported",
       [](json& d) {
         d["decoder"] = {{"type", "BPEDecoder"}};
       }},
      {"decoder: is missing", [](json& d) { d.erase("decoder"); }},
      {"model: is missing", [](json& d) { d.erase("model"); }},
      {"model: expected an object, got 3", [](json& d) { d["model"] = 3; }},
      {"model.type: \"Unigram\" is not supported",
       [](json& d) {
         d["model"] = {{"type", "Unigram"}};
       }},
      {"model: unknown key 'extra'", [](json& d) { d["model"]["extra"] = 1; }},
      {"model.dropout: 0.1 is not supported", [](json& d) { d["model"]["dropout"] = 0.1; }},
      {"model.unk_token: expected a string, got 1", [](json& d) { d["model"]["unk_token"] = 1; }},
      {"model.continuing_subword_prefix: \"##\" is not supported",
       [](json& d) { d["model"]["continuing_subword_prefix"] = "##"; }},
      {"model.end_of_word_suffix: \"</w>\" is not supported",
       [](json& d) { d["model"]["end_of_word_suffix"] = "</w>"; }},
      {"model.byte_fallback: true is not supported",
       [](json& d) { d["model"]["byte_fallback"] = true; }},
      {"model.ignore_merges: true is not supported",
       [](json& d) { d["model"]["ignore_merges"] = true; }},
      {"model.vocab: is missing", [](json& d) { d["model"].erase("vocab"); }},
      {"model.vocab: expected an object, got []",
       [](json& d) { d["model"]["vocab"] = json::array(); }},
      {"model.vocab['b']: another token has id 97", [](json& d) { d["model"]["vocab"]["b"] = 97; }},
      {"model.vocab['a']: expected an id (an integer from 0 to 2147483647), got -1",
       [](json& d) { d["model"]["vocab"]["a"] = -1; }},
      {"model.vocab['a']: expected an id (an integer from 0 to 2147483647), got 2147483648",
       [](json& d) { d["model"]["vocab"]["a"] = 2147483648; }},
      {"model.vocab['a']: expected an id (an integer from 0 to 2147483647), got 1.0",
       [](json& d) { d["model"]["vocab"]["a"] = 1.0; }},
      {"model.vocab['a']: is missing", [](json& d) { d["model"]["vocab"]["a"] = nullptr; }},
      {"model.merges: is missing", [](json& d) { d["model"].erase("merges"); }},
      {"model.merges: expected an array, got \"a b\"",
       [](json& d) { d["model"]["merges"] = "a b"; }},
      {"model.merges[1]: 'ax' is not in the vocabulary",
       [](json& d) { d["model"]["merges"].push_back("ax b"); }},
      {"model.merges[1]: 'bx' is not in the vocabulary",
       [](json& d) {
         d["model"]["merges"].push_back({"a", "bx"});
       }},
      {"model.merges[1]: 'ba' is not in the vocabulary",
       [](json& d) { d["model"]["merges"].push_back("b a"); }},
      {"model.merges[1]: repeats an earlier merge",
       [](json& d) { d["model"]["merges"].push_back("a b"); }},
      {"model.merges[1]: expected \"left right\" or [\"left\", \"right\"], got \"ab\"",
       [](json& d) { d["model"]["merges"].push_back("ab"); }},
      {"model.merges[1]: expected \"left right\" or [\"left\", \"right\"], got \"a b c\"",
       [](json& d) { d["model"]["merges"].push_back("a b c"); }},
      {"model.merges[1]: expected \"left right\" or [\"left\", \"right\"], got [\"a\"]",
       [](json& d) { d["model"]["merges"].push_back(json::array({"a"})); }},
      {"model.merges[1]: expected \"left right\" or [\"left\", \"right\"], got [\"a\",1]",
       [](json& d) {
         d["model"]["merges"].push_back({"a", 1});
       }},
      {"added_tokens: expected an array, got {}",
       [](json& d) { d["added_tokens"] = json::object(); }},
      {"added_tokens[0]: expected an object, got \"x\"",
       [](json& d) { d["added_tokens"][0] = "x"; }},
      {"added_tokens[0]: empty content", [](json& d) { d["added_tokens"][0]["content"] = ""; }},
      {"added_tokens[0].content: expected a string, got 7",
       [](json& d) { d["added_tokens"][0]["content"] = 7; }},
      {"added_tokens[0].lstrip: is missing", [](json& d) { d["added_tokens"][0].erase("lstrip"); }},
      {"added_tokens[0].special: expected true or false, got \"no\"",
       [](json& d) { d["added_tokens"][0]["special"] = "no"; }},
      {"added_tokens[0]: unknown key 'extra'", [](json& d) { d["added_tokens"][0]["extra"] = 1; }},
      {"added_tokens[0].id: expected an id (an integer from 0 to 2147483647), got -257",
       [](json& d) { d["added_tokens"][0]["id"] = -257; }},
      {"added_tokens[0]: id 97 is another token's in the vocabulary",
       [](json& d) { d["added_tokens"][0]["id"] = 97; }},
      {"added_tokens[0]: id 257, but 'ab' has id 256",
       [](json& d) { d["added_tokens"][0]["content"] = "ab"; }},
      {"added_tokens[1]: repeats the id of another added token",
       [](json& d) { d["added_tokens"].push_back(d["added_tokens"][0]); }},
  };
  for (const Flaw& flaw : flaws) {
    TokenizerSource source;
    source.merge("a", "b", false);
    source.add("<x>");
    flaw.make(source.document);
    CHECK(refusal(source.document.dump()) == flaw.message);
  }

  const std::string sound = TokenizerSource().document.dump();
  std::string doubled = sound;
  doubled.insert(doubled.find("\"vocab\":{") + 9, "\"a\":97,");
  CHECK(refusal(doubled) == "repeated key 'a'");
  for (std::size_t length = 0; length < sound.size(); length += 7)
    CHECK(refusal(sound.substr(0, length)).starts_with("bad JSON: parse error at column "));
}

// What Hugging Face tokenizers made of hundreds of difficult strings with the bundled tokenizer.
