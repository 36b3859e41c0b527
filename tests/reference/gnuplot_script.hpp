#pragma once

#include <array>
#include <string>
#include <string_view>

/// What is wrong with a gnuplot script that was made from foreign text: empty if all such text
/// stands in quoted strings, each of which ends with its line, and nothing outside of them is a
/// command of a shell.
inline std::string fault_of_script(const std::string& script) {
  std::string outside = "\n";
  bool quoted = false;
  bool double_quoted = false;
  for (const char c : script) {
    if (c == '\n') {
      if (quoted || double_quoted) return "a string does not end with its line";
      outside += c;
    } else if (c == '\'' && !double_quoted) {
      quoted = !quoted;
    } else if (c == '"' && !quoted) {
      double_quoted = !double_quoted;
    } else if (double_quoted && c == '`') {
      return "a command in a double-quoted string";
    } else if (!quoted && !double_quoted) {
      outside += c;
    }
  }
  constexpr std::array<std::string_view, 9> commands{"`",    "|",   "system", "eval", "load",
                                                     "call", "\n!", "\nexit", "shell"};
  for (const std::string_view command : commands)
    if (outside.find(command) != outside.npos) return "outside of strings: " + std::string(command);
  return {};
}
