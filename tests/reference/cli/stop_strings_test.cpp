#include "cli/stop_strings.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

TEST_CASE("Whatever the pieces, the text ends before the stop string that is whole first") {
  std::mt19937 random(3);
  const auto below = [&](std::size_t n) { return random() % n; };
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (std::size_t i = 0; i < 12; ++i) text += "ab"[below(2)];
    std::vector<std::string> stops;
    for (std::size_t i = below(3); i-- > 0;) {
      std::string stop;
      for (std::size_t j = 0; j < 1 + below(5); ++j) stop += "ab"[below(2)];
      stops.push_back(stop);
    }
    // The first end of a string decides, then its length.
    std::size_t end = text.size();
    for (std::size_t n = 1; n <= text.size() && end == text.size(); ++n) {
      for (const std::string& stop : stops) {
        if (text.substr(0, n).ends_with(stop)) end = std::min(end, n - stop.size());
      }
    }

    olmoe::StopStrings splitter(stops);
    std::string out;
    std::string seen;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + below(4);
      seen += text.substr(at, n);
      out += splitter.push(text.substr(at, n));
      at += n;
      CAPTURE(text);
      CAPTURE(seen);
      // As soon as a string is whole, it stops.
      const bool whole = std::ranges::any_of(
          stops, [&](const std::string& s) { return seen.find(s) != std::string::npos; });
      CHECK(splitter.stopped_by().has_value() == whole);
      CHECK(text.substr(0, end).starts_with(out));
    }
    out += splitter.finish();
    CHECK(out == text.substr(0, end));
  }
}

TEST_CASE("Only what may begin a stop string is kept back") {
  olmoe::StopStrings stop({"\n\n", "END"});
  CHECK(stop.push("one\n") == "one");
  CHECK(stop.push("two E") == "\ntwo ");
  CHECK(stop.push("N") == "");
  CHECK(stop.push("d.") == "ENd.");
  CHECK_FALSE(stop.stopped_by());
  CHECK(stop.push("xENDy") == "x");
  CHECK(stop.stopped_by() == "END");
  CHECK(stop.push("more") == "");
  CHECK(stop.finish() == "");
  CHECK_THROWS_AS(olmoe::StopStrings({"a", ""}), std::invalid_argument);
}
