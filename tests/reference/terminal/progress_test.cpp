#include "terminal/progress.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace {

using olmoe::Progress;
using olmoe::ProgressStream;

/// A stream of a file, with a clock that the test turns.
class Screen {
 public:
  explicit Screen(bool terminal, int columns = 80)
      : stream_{.file = file_.get(),
                .terminal = terminal,
                .columns = [this] { return columns_; },
                .clock = [this] { return now_; }},
        columns_(columns) {}

  const ProgressStream& stream() const { return stream_; }
  void wait(double seconds) { now_ += seconds; }
  void resize(int columns) { columns_ = columns; }

  std::string text() {
    std::rewind(file_.get());
    std::string all;
    for (int c = std::fgetc(file_.get()); c != EOF; c = std::fgetc(file_.get()))
      all += static_cast<char>(c);
    return all;
  }

  /// What each drawing showed, without what clears the line.
  std::vector<std::string> drawings() {
    const std::string clear = "\r\033[K";
    std::vector<std::string> all;
    std::string rest = text();
    for (std::size_t at = rest.find(clear); at != std::string::npos; at = rest.find(clear)) {
      rest = rest.substr(at + clear.size());
      all.push_back(rest.substr(0, rest.find('\r')));
    }
    return all;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::tmpfile(), std::fclose};
  ProgressStream stream_;
  int columns_;
  double now_ = 1000.0;
};

}  // namespace

TEST_CASE("Durations are for reading") {
  CHECK(olmoe::duration_text(41.6) == "42 s");
  CHECK(olmoe::duration_text(200.0) == "3 min 20 s");
  CHECK(olmoe::duration_text(7500.0) == "2 h 5 min");
}

TEST_CASE("Bytes are written in powers of ten") {
  CHECK(olmoe::bytes_text(999.0) == "999 B");
  CHECK(olmoe::bytes_text(13.84e9) == "13.84 GB");
  CHECK(olmoe::bytes_text(2e15) == "2000.00 TB");
}

TEST_CASE("The time left is by the share done, runs down between updates, and never grows") {
  olmoe::TimeLeft left;
  CHECK_FALSE(left.at(1.0));
  left.update(0.25, 10.0);
  CHECK(left.at(10.0) == doctest::Approx(30.0));
  CHECK(left.at(15.0) == doctest::Approx(25.0));
  left.update(0.25, 20.0);  // nothing is known anew
  CHECK(left.at(20.0) == doctest::Approx(20.0));
  left.update(0.5, 18.0);  // faster than thought
  CHECK(left.at(18.0) == doctest::Approx(18.0));
  left.update(0.6, 60.0);  // slower: 40 s by the share, and it was 0
  CHECK(left.at(60.0) == doctest::Approx(0.0));
}

TEST_CASE("The time left that is shown does not climb, whatever the pace") {
  olmoe::TimeLeft left;
  double seconds = 0.0;
  double shown = 1e9;
  for (int i = 1; i <= 100; ++i) {
    seconds += i % 7 == 0 ? 5.0 : 0.1 * i;
    left.update(0.01 * i, seconds);
    CHECK(left.at(seconds).value() <= shown);
    shown = left.at(seconds).value();
    CHECK(left.at(seconds + 0.5).value() <= shown);
  }
  CHECK(shown == doctest::Approx(0.0));
}

TEST_CASE("On a terminal one line fits whatever the width, and is gone in the end") {
  for (const int columns : {1, 5, 20, 40, 80, 200}) {
    CAPTURE(columns);
    Screen screen(true, columns);
    {
      Progress progress({.what = "perplexity", .unit = "windows", .total = 40}, screen.stream());
      progress.start("a text with a rather long name, grüße.txt");
      for (int i = 1; i <= 40; ++i) {
        screen.wait(1.5);
        progress.update(i, [] { return std::string("perplexity 31.2345 +- 1.2345"); });
      }
    }
    const auto lines = screen.drawings();
    REQUIRE(lines.size() == 42);
    for (const std::string& line : lines) {
      CAPTURE(line);
      const auto shown = std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; });
      CHECK(shown < std::max(columns, 2));
      CHECK(line.find('\n') == std::string::npos);
    }
    CHECK(lines.back().empty());
    if (columns == 20) CHECK(lines[12] == "12/40 windows");
    if (columns == 40) CHECK(lines[12] == "12/40 windows, 40.0/min, 42 s left");
    if (columns == 80)
      CHECK(lines[12] ==
            "[###.........] 12/40 windows, 40.0/min, 42 s left, perplexity 31.2345 +- 1.2345");
    if (columns == 200)
      CHECK(lines[12] ==
            "[#########.....................] 12/40 windows, 40.0/min, 42 s left, perplexity "
            "31.2345 +- 1.2345, a text with a rather long name, grüße.txt");
  }
}

TEST_CASE("A window that shrinks gets a shorter line") {
  Screen screen(true, 80);
  Progress progress({.what = "x", .unit = "windows", .total = 10}, screen.stream());
  screen.wait(1);
  progress.update(1);
  screen.resize(12);
  screen.wait(1);
  progress.update(2);
  CHECK(screen.drawings().back() == "2/10 win...");
}

TEST_CASE("A terminal is drawn on at most 5 times a second, and the value is asked for as often") {
  Screen screen(true);
  int asked = 0;
  Progress progress({.what = "x", .unit = "windows", .total = 1000}, screen.stream());
  for (int i = 1; i <= 1000; ++i) {  // 10 seconds
    screen.wait(0.01);
    progress.update(i, [&] {
      ++asked;
      return std::string("v");
    });
  }
  CHECK(asked <= 50);
  CHECK(asked >= 45);
  CHECK(static_cast<int>(screen.drawings().size()) == asked);
}

TEST_CASE("Without a terminal there is a plain line every five seconds, none in a short run") {
  Screen screen(false);
  Progress progress({.what = "perplexity", .unit = "windows", .total = 40}, screen.stream());
  for (int i = 1; i <= 40; ++i) {
    screen.wait(0.3);
    progress.update(i, [] { return std::string("perplexity 31.2"); });
  }
  CHECK(screen.text() ==
        "perplexity: 17/40 windows, 3.3/s, 7 s left, perplexity 31.2\n"
        "perplexity: 34/40 windows, 3.3/s, 2 s left, perplexity 31.2\n");

  Screen other(false);
  Progress fast({.what = "perplexity", .unit = "windows", .total = 4}, other.stream());
  other.wait(4.9);
  fast.update(4);
  CHECK(other.text().empty());
}

TEST_CASE("Without a terminal a finished item is a line, its time left by weight") {
  Screen screen(false);
  Progress progress({.what = "sweep", .unit = "configurations", .total = 2, .weight = 4.0},
                    screen.stream());
  progress.start("first");
  screen.wait(3.0);
  progress.finish("perplexity 20", 3.0);
  progress.start("second");
  screen.wait(1.0);
  progress.finish("perplexity 21", 1.0);
  CHECK(screen.text() ==
        "[1/2] first: perplexity 20; 1 s left\n[2/2] second: perplexity 21; done in 4 s\n");
}

TEST_CASE("Bytes are counted as bytes") {
  Screen screen(true);
  Progress progress({.what = "weights", .unit = "B", .total = 4e9}, screen.stream());
  screen.wait(2.0);
  progress.update(1e9);
  CHECK(screen.drawings().back() ==
        "[#######.......................] 1.00 GB/4.00 GB, 500.00 MB/s, 6 s left");
}

TEST_CASE("What is not printable in a name does not reach the terminal") {
  Screen screen(true);
  Progress progress({.what = "x", .unit = "windows", .total = 2}, screen.stream());
  screen.wait(1.0);
  progress.start("a\x1b[2J\n\xff");
  CHECK(screen.drawings().back().find("a\\x1b[2J\\n\\xff") != std::string::npos);
}
