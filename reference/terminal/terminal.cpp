#include "terminal/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace olmoe {
namespace {

/// The variable's text, empty if it is not set.
std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  return ::isatty(::fileno(stream)) == 1 && environment("TERM") != "dumb";
}

int terminal_columns(std::FILE* stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  constexpr int usual = 80;
  const std::string_view text = environment("COLUMNS");
  int columns = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), columns);
  return error == std::errc{} && end == text.data() + text.size() && columns > 0 ? columns : usual;
}

bool wants_color(std::FILE* stream) {
  return is_terminal(stream) && environment("NO_COLOR").empty();
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, begins_character));
}

std::string cut_to(std::string_view text, std::size_t most) {
  if (characters(text) <= most) return std::string(text);
  constexpr std::string_view gap = "...";
  const std::size_t kept = most < gap.size() ? most : most - gap.size();
  std::size_t bytes = 0;
  for (std::size_t n = 0; bytes < text.size(); ++bytes) {
    if (begins_character(text[bytes]) && n++ == kept) break;
  }
  return std::string(text.substr(0, bytes)).append(most < gap.size() ? "" : gap);
}

}  // namespace olmoe
