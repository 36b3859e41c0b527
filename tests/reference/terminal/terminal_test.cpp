#include "terminal/terminal.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

namespace {

/// A variable of the environment, for the life of this.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    if (value == nullptr) {
      ::unsetenv(name);
    } else {
      ::setenv(name, value, 1);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() {
    if (before_.empty()) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, before_.c_str(), 1);
    }
  }

 private:
  const char* name_;
  std::string before_;
};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// A terminal of the system's: its other end is kept open.
struct PseudoTerminal {
  PseudoTerminal() {
    const int fd = ::fileno(master.get());
    REQUIRE(::grantpt(fd) == 0);
    REQUIRE(::unlockpt(fd) == 0);
    stream.reset(std::fopen(::ptsname(fd), "r+"));
    REQUIRE(stream != nullptr);
  }
  File master{std::fopen("/dev/ptmx", "r+"), std::fclose};
  File stream{nullptr, std::fclose};
};

}  // namespace

TEST_CASE("The width is COLUMNS where a stream has none, 80 where that is no number") {
  const File file{std::tmpfile(), std::fclose};
  for (const auto& columns :
       {std::pair{"132", 132}, {"0", 80}, {"-3", 80}, {"wide", 80}, {"12x", 80}, {"", 80}}) {
    const Variable variable("COLUMNS", columns.first);
    CAPTURE(columns.first);
    CHECK(olmoe::terminal_columns(file.get()) == columns.second);
  }
  const Variable none("COLUMNS", nullptr);
  CHECK(olmoe::terminal_columns(file.get()) == 80);
  CHECK_FALSE(olmoe::is_terminal(file.get()));
  CHECK_FALSE(olmoe::wants_color(file.get()));
}

TEST_CASE("A terminal is one unless it is dumb, and has colours unless NO_COLOR says no") {
  const PseudoTerminal terminal;
  const Variable term("TERM", "xterm");
  const Variable none("NO_COLOR", nullptr);
  CHECK(olmoe::is_terminal(terminal.stream.get()));
  CHECK(olmoe::wants_color(terminal.stream.get()));
  {
    const Variable no_color("NO_COLOR", "1");
    CHECK_FALSE(olmoe::wants_color(terminal.stream.get()));
    CHECK(olmoe::is_terminal(terminal.stream.get()));
  }
  const Variable dumb("TERM", "dumb");
  CHECK_FALSE(olmoe::is_terminal(terminal.stream.get()));
}

TEST_CASE("A text is cut by characters, never within one") {
  CHECK(olmoe::characters("grüße") == 5);
  CHECK(olmoe::cut_to("grüße", 5) == "grüße");
  CHECK(olmoe::cut_to("grüße!", 5) == "gr...");
  CHECK(olmoe::cut_to("üüüüüü", 5) == "üü...");
  CHECK(olmoe::cut_to("abcdef", 2) == "ab");
  CHECK(olmoe::cut_to("abcdef", 0).empty());
}
