#include "fdroute/detail/number/to_text.hpp"

#include <doctest/doctest.h>

#include <string>

#include "fdroute/compile_once.hpp"
#include "library/support.hpp"

using fdroute::detail::one_line;
using fdroute::detail::quote;

TEST_CASE("a message shows printable UTF-8 as it is") {
  CHECK(quote("") == "''");
  CHECK(quote("bh:alpha=0.05") == "'bh:alpha=0.05'");
  CHECK(quote("a b\\'~") == "'a b\\'~'");
  CHECK(quote("\u00e9\u4e2d\U0001F600\u00a0") == "'\u00e9\u4e2d\U0001F600\u00a0'");
}

TEST_CASE("what would break or reorder the line is escaped") {
  using namespace std::string_literals;
  CHECK(quote("a\nb\tc\rd") == "'a\\nb\\tc\\rd'");
  CHECK(quote("\0\x1b[31m\x7f"s) == "'\\x00\\x1b[31m\\x7f'");
  CHECK(quote("\u0085\u2028\u202e\u2066\ufeff") ==
        "'\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xef\\xbb\\xbf'");
  for (const char* hidden :
       {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202b", "\u202c", "\u202d",
        "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", "\ufeff"})
    CHECK(quote(hidden).starts_with("'\\x"));
  CHECK(quote("\u200d\u202f\u206a") == "'\u200d\u202f\u206a'");
  // Not UTF-8: a lone lead, a lone continuation, overlong, a surrogate, beyond U+10FFFF, cut.
  CHECK(quote("\xff") == "'\\xff'");
  CHECK(quote("\x80z") == "'\\x80z'");
  CHECK(quote("\xc0\x80") == "'\\xc0\\x80'");
  CHECK(quote("\xe0\x80\x80") == "'\\xe0\\x80\\x80'");
  CHECK(quote("\xed\xa0\x80") == "'\\xed\\xa0\\x80'");
  CHECK(quote("\xf4\x90\x80\x80") == "'\\xf4\\x90\\x80\\x80'");
  CHECK(quote("\xe2\x82") == "'\\xe2\\x82'");
}

TEST_CASE("what is too long loses its middle, not a part of a character or escape") {
  CHECK(one_line("0123456789abcdefg", 17) == "0123456789abcdefg");
  CHECK(one_line("0123456789abcdefgh", 17) == "0123456...bcdefgh");
  for (const std::string unit : {"a", "\u00e9", "\u4e2d", "\U0001F600", "\n", "\xff"}) {
    const std::string shown = one_line(unit, 16);
    for (std::size_t n = 1; n < 300; ++n) {
      std::string text;
      std::string whole;
      for (std::size_t i = 0; i < n; ++i) text += unit, whole += shown;
      for (const std::size_t limit : {std::size_t{16}, std::size_t{17}, std::size_t{100}}) {
        const std::string line = one_line(text, limit);
        CAPTURE(line);
        if (whole.size() <= limit) {
          CHECK(line == whole);
          continue;
        }
        CHECK(line.size() <= limit);
        CHECK(line.size() + 2 * shown.size() > limit);
        const std::size_t gap = line.find("...");
        REQUIRE(gap != std::string::npos);
        CHECK(gap % shown.size() == 0);
        CHECK((line.size() - gap - 3) % shown.size() == 0);
      }
    }
  }
}

TEST_CASE("no policy string, however long or strange, is echoed whole") {
  const std::string long_text(100'000, 'x');
  for (const std::string& policy :
       {long_text, "topk:" + long_text, "topk:k=" + long_text, "topk:" + long_text + "=1",
        "bh:null=" + long_text, "bh:score=" + long_text, "topk:k=8,k=" + long_text,
        "bh:alpha=2,null=normal,score=" + std::string(100'000, '\n')}) {
    const std::string message = test::rejection_of([&] { fdroute::parse_router(policy, 64); });
    CAPTURE(message);
    CHECK(message.starts_with("policy '"));
    CHECK(message.size() < 600);
  }
  CHECK(test::rejection_of([] { fdroute::parse_router("topk:\x1b[2J\n", 64); }) ==
        "policy 'topk:\\x1b[2J\\n', position 6: key=value expected, got '\\x1b[2J\\n'");
}
