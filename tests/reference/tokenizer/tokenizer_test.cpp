#include "tokenizer/tokenizer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/json.hpp"
#include "reference/error_of.hpp"
#include "reference/tokenizer/tokenizer_source.hpp"
#include "tokenizer/unicode.hpp"

namespace {

using nlohmann::json;
using olmoe::StreamDecoder;
using olmoe::Tokenizer;
using Source = TokenizerSource;
using Ids = std::vector<std::int32_t>;

// The ids of bytes that nothing merged.
Ids bytes(std::string_view text) {
  Ids ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

Ids operator+(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Whether ByteLevel leaves `text` in one piece: only then can merges make it one token.
bool is_one_word(std::string_view text) {
  Source source;
  for (std::size_t length = 1; length < text.size(); ++length)
    source.merge(text.substr(0, length), text.substr(length, 1));
  return source.encode(text).size() == 1;
}

std::string random_utf8(std::mt19937& random, std::size_t length) {
  constexpr std::pair<char32_t, char32_t> ranges[] = {
      {0x20, 0x20},     {0x00, 0x7F},     {0x61, 0x65},       {0x80, 0x24F},
      {0x300, 0x345},   {0x5B0, 0x5C7},   {0x900, 0xDFF},     {0x1100, 0x11FF},
      {0x1E00, 0x206F}, {0x3040, 0x30FF}, {0xAC00, 0xACFF},   {0xF900, 0xFB4F},
      {0x0, 0xD7FF},    {0xE000, 0xFFFF}, {0x1D100, 0x1D1FF}, {0x10000, 0x10FFFF},
  };
  std::string text;
  for (std::size_t i = 0; i < length; ++i) {
    const auto& [first, last] = ranges[random() % std::size(ranges)];
    olmoe::append_utf8(text, static_cast<char32_t>(first + random() % (last - first + 1)));
  }
  return text;
}

}  // namespace

TEST_CASE("merges in both forms of tokenizer.json") {
  for (const bool as_pair : {false, true}) {
    CAPTURE(as_pair);
    Source source;
    source.merge("h", "e", as_pair);
    source.merge("l", "l", as_pair);
    const auto hell = source.merge("he", "ll", as_pair);
    const auto hello = source.merge(" ", "hell", as_pair);
    const Tokenizer tokenizer = source.load();
    CHECK(tokenizer.encode("hello hell") == Ids{hell, 'o', hello});
    CHECK(tokenizer.vocab_size() == 260);
    CHECK(tokenizer.encode("").empty());
  }
}

TEST_CASE("the lowest rank merges first, then the leftmost") {
  Source source;
  const auto bc = source.merge("b", "c");
  const auto ab = source.merge("a", "b");
  const auto aa = source.merge("a", "a");
  const auto aaaa = source.merge("aa", "aa");
  CHECK(source.encode("abc") == Ids{'a', bc});
  CHECK(source.encode("abab") == Ids{ab, ab});
  CHECK(source.encode("aaa") == Ids{aa, 'a'});
  CHECK(source.encode("aaaaaaa") == Ids{aaaa, aa, 'a'});
}

TEST_CASE("ByteLevel's words") {
  for (const std::string word : {"abc",
                                 " abc",
                                 "123",
                                 " 123",
                                 "\u00bd\u0663\u2167",
                                 "?!",
                                 " ?!",
                                 "'s",
                                 "'t",
                                 "'re",
                                 "'ve",
                                 "'m",
                                 "'ll",
                                 "'d",
                                 " '",
                                 "''",
                                 "  ",
                                 " \t\n\r\v\f",
                                 "\u00a0\u1680\u2003\u2028\u202f\u205f\u3000\u0085",
                                 "\u751f\u6d3b",
                                 " \u0416\u00df\u02b0\u01c5",
                                 "\u200b\u2060\u180e",
                                 "\U0001f600\u20ac"}) {
    CAPTURE(word);
    CHECK(is_one_word(word));
  }
  for (const std::string words : {"a1", "a!", "1!", "a ", "\ta", "\u00a0a", "  a", "don't", "'sa",
                                  "'S", " 's", "x\u0301", "! ", "1 2", "a\u200db", "  !", "\n1"}) {
    CAPTURE(words);
    CHECK_FALSE(is_one_word(words));
  }

  Source source;
  const auto spaces = source.merge(" ", " ");
  const auto space_a = source.merge(" ", "a");
  CHECK(source.encode("   a") == Ids{spaces, space_a});
  CHECK(source.encode("a   ") == Ids{'a', spaces, ' '});
  const auto tab_a = source.merge("\t", "a");
  CHECK(source.encode("\ta") == bytes("\ta"));

  source.document["pre_tokenizer"]["use_regex"] = false;
  CHECK(source.encode("\ta") == Ids{tab_a});
}

TEST_CASE("add_prefix_space puts a space before each stretch between added tokens") {
  Source source;
  source.document["pre_tokenizer"]["add_prefix_space"] = true;
  const auto x = source.add("<x>");
  CHECK(source.encode("a<x>b<x> c") == bytes(" a") + Ids{x} + bytes(" b") + Ids{x} + bytes(" c"));
  CHECK(source.encode("\ta") == bytes(" \ta"));
  CHECK(source.encode("").empty());
}

TEST_CASE("NFC or no normalizer") {
  Source source;
  CHECK(source.encode("e\u0301") == bytes("\u00e9"));
  source.document["normalizer"] = nullptr;
  CHECK(source.encode("e\u0301") == bytes("e\u0301"));
}

TEST_CASE("added tokens") {
  Source source;

  SUBCASE("leftmost, then longest") {
    const auto ab = source.add("ab");
    const auto abcd = source.add("abcd");
    const auto bc = source.add("bc");
    CHECK(source.encode("abcabcdbcb") == Ids{ab, 'c', abcd, bc, 'b'});
  }
  SUBCASE("whatever the model would do") {
    source.merge("a", "<");
    const auto x = source.add("<x>", "special");
    CHECK(source.encode("a<x>b") == Ids{'a', x, 'b'});
  }
  SUBCASE("not normalized: as written, and before the others") {
    const auto composed = source.add("<\u00e9>");
    const auto decomposed = source.add("<e\u0301>");
    const auto normalized = source.add("x<", "normalized");
    CHECK(source.encode("<\u00e9><e\u0301>") == Ids{composed, decomposed});
    CHECK(source.encode("x<e\u0301>x<") == Ids{'x', decomposed, normalized});
  }
  SUBCASE("normalized: content and text both in NFC") {
    const auto accent = source.add("<e\u0301>", "normalized");
    CHECK(source.encode("<\u00e9><e\u0301>") == Ids{accent, accent});
  }
  SUBCASE("equal once normalized: a special one, then the first") {
    source.add("<e\u0301>", "normalized");
    const auto special = source.add("<\u00e9>", "normalized special");
    CHECK(source.encode("<\u00e9><e\u0301>") == Ids{special, special});
  }
  SUBCASE("single_word") {
    const auto xy = source.add("xy", "single_word");
    CHECK(source.encode("xy") == Ids{xy});
    CHECK(source.encode("-xy ") == Ids{'-', xy, ' '});
    CHECK(source.encode("xy\u00bd") == Ids{xy} + bytes("\u00bd"));
    for (const std::string text :
         {"axy", "xya", "1xy", "xy_", "xy\u00e9", "axy\u0301", "\u24b6xy", "xy\u200d", "xyxy"}) {
      CAPTURE(text);
      CHECK(source.encode(text) == bytes(olmoe::to_nfc(text)));
    }
  }
  SUBCASE("single_word refuses a match, yet hides those within") {
    source.add("xyz", "single_word");
    const auto yz = source.add("yz");
    CHECK(source.encode("axyzyz") == bytes("axyz") + Ids{yz});
  }
  SUBCASE("lstrip") {
    const auto x = source.add("<x>", "lstrip");
    CHECK(source.encode("a \t\u3000<x> b") == Ids{'a', x, ' ', 'b'});
    CHECK(source.encode("  <x>\n<x>") == Ids{x, x});
  }
  SUBCASE("rstrip") {
    const auto x = source.add("<x>", "rstrip");
    CHECK(source.encode("a <x>\u2003 \nb") == Ids{'a', ' ', x, 'b'});
    CHECK(source.encode("<x> <x>  ") == Ids{x, x});
  }
  SUBCASE("lstrip after rstrip takes only what is left") {
    const auto l = source.add("<l>", "lstrip");
    const auto r = source.add("<r>", "rstrip");
    CHECK(source.encode("<r>  <l>") == Ids{r, l});
    CHECK(source.encode("<l>  <r>") == Ids{l, ' ', ' ', r});
  }
  SUBCASE("white space that rstrip took can match again, unless with lstrip") {
    const auto x = source.add("<x>", "rstrip");
    const auto spaces = source.add("  ");
    const auto tab = source.add("\t", "lstrip");
    CHECK(source.encode("<x>   a") == Ids{x, spaces, ' ', 'a'});
    CHECK(source.encode("<x>\ta\t") == Ids{x, 'a', tab});
  }
  SUBCASE("already in the vocabulary") {
    const auto ab = source.merge("a", "b");
    source.document["added_tokens"] = {{{"id", ab},
                                        {"content", "ab"},
                                        {"single_word", false},
                                        {"lstrip", false},
                                        {"rstrip", false},
                                        {"normalized", false},
                                        {"special", false}}};
    CHECK(source.encode("xab") == Ids{'x', ab});
  }
  SUBCASE("none at all") {
    source.document.erase("added_tokens");
    CHECK(source.encode("ab") == bytes("ab"));
  }
}

TEST_CASE("hostile added tokens and texts take time in proportion") {
  constexpr std::size_t n = 200'000;
  Source source;
  const auto seconds = [&](const std::string& text, std::size_t ids) {
    const olmoe::Tokenizer tokenizer = source.load();
    const auto start = std::clock();
    CHECK(tokenizer.encode(text).size() == ids);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  // Each took minutes when it was quadratic, and takes less than half a second in the slowest
  // build.
  SUBCASE("a space that takes along all the spaces behind it") {
    source.add(" ", "rstrip");
    CHECK(seconds(std::string(n, ' '), n) < 5);
  }
  SUBCASE("one that takes along those before it") {
    source.add(" ", "lstrip");
    CHECK(seconds(std::string(n, ' '), n) < 5);
  }
  SUBCASE("a long token, and a text of its beginning") {
    source.add(std::string(n, 'x'));
    CHECK(seconds(std::string(n - 1, 'x'), n - 1) < 5);
  }
  SUBCASE("two long tokens, and a text of their ends") {
    source.add("a" + std::string(n, 'x'));
    source.add("b" + std::string(n, 'x') + "c");
    CHECK(seconds(std::string(n, 'x') + "c", n + 1) < 5);
  }
  SUBCASE("a long word") {
    source.merge("x", "x");
    CHECK(seconds(std::string(n, 'x'), n / 2) < 5);
  }
  SUBCASE("many marks") {
    std::string marks;
    for (std::size_t i = 0; i < n / 4; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
    CHECK(seconds("a" + marks, 1 + n / 2) < 5);
  }
}

// Against the definition: leftmost, then longest, tried at every place.
TEST_CASE("added tokens that overlap in every way are found as defined") {
  std::uint32_t state = 1;
  const auto random = [&](std::uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
  };
  const auto word = [&](std::uint32_t longest) {
    std::string text(1 + random(longest), 'a');
    for (char& c : text) c = static_cast<char>('a' + random(2));
    return text;
  };
  for (int round = 0; round < 50; ++round) {
    Source source;
    std::map<std::string, std::int32_t> tokens;
    for (int i = 0; i < 6; ++i) {
      const std::string token = word(6) + (i == 0 ? "a" : "b");
      if (!tokens.contains(token)) tokens[token] = source.add(token);
    }
    const olmoe::Tokenizer tokenizer = source.load();
    for (int i = 0; i < 20; ++i) {
      const std::string text = word(60);
      Ids expected;
      for (std::size_t at = 0; at < text.size();) {
        std::string_view best;
        for (const auto& [token, id] : tokens) {
          if (text.compare(at, token.size(), token) == 0 && token.size() > best.size())
            best = token;
        }
        expected.push_back(best.empty() ? text[at] : tokens[std::string(best)]);
        at += std::max<std::size_t>(best.size(), 1);
      }
      CAPTURE(text);
      CHECK(tokenizer.encode(text) == expected);
    }
  }
}

TEST_CASE("decode") {
  using namespace std::string_literals;
  Source source;
  source.merge("\xE2", "\x82");
  const auto euro = source.merge("\xE2\x82", "\xAC");
  const auto spaces = source.add("  ");
  const auto end = source.add("<|end|>", "special");
  // Like Hugging Face's decoder, takes any token whose characters are all stand-ins for bytes.
  const auto latin = source.add("\u00c3\u00a9");
  const auto raw = source.add("<\u0438\u0306>");
  const auto normalized = source.add("[\u0438\u0306]", "normalized");
  const Tokenizer tokenizer = source.load();

  CHECK(tokenizer.decode(Ids{}).empty());
  CHECK(tokenizer.decode(Ids{'a', spaces, euro, end, 0, ' '}) == "a  \u20ac<|end|>\0 "s);
  CHECK(tokenizer.decode(Ids{latin}) == "\u00e9");
  CHECK(tokenizer.decode(Ids{raw, normalized}) == "<\u0438\u0306>[\u0439]");
  CHECK(tokenizer.decode(Ids{0xE2, 0x82, 0xAC}) == "\u20ac");
  CHECK(tokenizer.decode(Ids{0xE2, 0x82, 'a', 0xFF}) == "\uFFFDa\uFFFD");
  CHECK(tokenizer.token_bytes(euro) == "\u20ac");
  CHECK(tokenizer.contains(end));
  CHECK_FALSE(tokenizer.contains(normalized + 1));
  CHECK_FALSE(tokenizer.contains(-1));
  for (const std::int32_t id : {-1, normalized + 1, 2147483647}) {
    const std::string message = error_of([&] { tokenizer.decode(Ids{'a', id}); });
    CHECK(message.find("tokenizer.json: no token has id " + std::to_string(id) +
                       " (the largest id is " + std::to_string(normalized) + ")") !=
          std::string::npos);
  }
}

TEST_CASE("StreamDecoder never splits a character and loses nothing") {
  Source source;
  source.merge("\x82", "\xAC");
  const Tokenizer tokenizer = source.load();

  StreamDecoder stream(tokenizer);
  CHECK(stream.push('a') == "a");
  CHECK(stream.push(0xE2).empty());
  CHECK(stream.push(256) == "\u20ac");
  CHECK(stream.push(0xF0).empty());
  CHECK(stream.push(100'000).empty());
  CHECK(stream.push('b') == "\uFFFDb");
  CHECK(stream.push(0xC3).empty());
  CHECK(stream.finish() == "\uFFFD");
  CHECK(stream.finish().empty());

  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    // Bytes that are likely to be near the beginning of some character.
    constexpr std::int32_t likely[] = {'a',  0x80, 0x90, 0xA0, 0xBF, 0xC2, 0xE0,
                                       0xED, 0xEF, 0xF0, 0xF4, 0xFF, 256};
    Ids ids;
    std::string streamed;
    for (int i = 0; i < 12; ++i) {
      ids.push_back(likely[random() % std::size(likely)]);
      const std::string text = stream.push(ids.back());
      olmoe::require_utf8(text, "pushed");
      streamed += text;
    }
    CHECK(streamed + stream.finish() == tokenizer.decode(ids));
  }
}

TEST_CASE("text that is not UTF-8 is refused with its offset") {
  const Tokenizer tokenizer = Source().load();
  CHECK(error_of([&] { tokenizer.encode("ab\xFF"); }) == "text: not valid UTF-8 at byte 2");
  CHECK(error_of([&] { tokenizer.encode("\u00e9\xC3", "f.txt"); }) ==
        "f.txt: not valid UTF-8 at byte 2");
}

TEST_CASE("a byte that the vocabulary lacks is refused") {
  Source source;
  source.vocab().erase("a");
  source.document["model"]["unk_token"] = "b";
  const Tokenizer tokenizer = source.load();
  CHECK(tokenizer.encode("b") == bytes("b"));
  CHECK(error_of([&] {
          tokenizer.encode("ba");
        }).ends_with("tokenizer.json: the vocabulary has no token for byte 97"));
}

TEST_CASE("ids and decoded text are those of Hugging Face tokenizers") {
  const std::string root = FDROUTE_SOURCE_DIR;
  const Tokenizer tokenizer = Tokenizer::load(root + "/reference/model/tokenizer.json");
  std::ifstream golden(root + "/tests/golden/tokenizer_nano.jsonl");
  int strings = 0;
  for (std::string line; std::getline(golden, line); ++strings) {
    const json expected = json::parse(line);
    const auto text = expected.at("text").get<std::string>();
    const auto ids = expected.at("ids").get<Ids>();
    CAPTURE(line);
    CHECK(tokenizer.encode(text) == ids);
    CHECK(tokenizer.decode(ids) == expected.at("decoded").get<std::string>());
  }
  CHECK(strings >= 300);
}

TEST_CASE("decode gives back the NFC of any text") {
  Source source;
  for (const char* pair : {"  ", "ab", "\u00e9", "\u0301", "\u00b7", "\u0416"})
    source.merge({pair, 1}, {pair + 1, 1});
  source.add("abc", "normalized");
  source.add("   ", "normalized");
  const Tokenizer tokenizer = source.load();
  std::mt19937 random(2);
  for (int round = 0; round < 5000; ++round) {
    const std::string text = random_utf8(random, random() % 20);
    const Ids ids = tokenizer.encode(text);
    CHECK(tokenizer.decode(ids) == olmoe::to_nfc(text));
    CHECK(tokenizer.encode(tokenizer.decode(ids)) == ids);
  }
}

// Each would take hours if it took quadratic time.
TEST_CASE("a megabyte without a word boundary") {
  Source source;
  std::string token = "a";
  std::int32_t id = 0;
  for (int doubling = 0; doubling < 10; ++doubling, token += token) id = source.merge(token, token);
  const Tokenizer tokenizer = source.load();
  const auto start = std::chrono::steady_clock::now();

  CHECK(tokenizer.encode(std::string(1 << 20, 'a')) == Ids(1 << 10, id));
  CHECK(tokenizer.encode(std::string(1 << 20, ' ')) == Ids(1 << 20, ' '));
  CHECK(tokenizer.encode(std::string(1 << 20, '!')) == Ids(1 << 20, '!'));
  std::string marks = "a";  // of two combining classes in turn
  for (int i = 0; i < 1 << 18; ++i) marks += "\u0301\u0323";
  CHECK(tokenizer.encode(marks).size() == marks.size());

  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}
