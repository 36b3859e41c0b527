#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

/// What a stream of the program is connected to, and text that fits it.
namespace olmoe {

/// Whether `stream` is a terminal that can rewrite a line: TERM=dumb cannot.
bool is_terminal(std::FILE* stream);

/// Columns of the terminal: what it says itself, else the environment's COLUMNS, else 80.
int terminal_columns(std::FILE* stream);

/// Whether to write in bold and colours: on a terminal, unless NO_COLOR is set to anything but
/// nothing (https://no-color.org).
bool wants_color(std::FILE* stream);

/// The number of characters of a UTF-8 text.
std::size_t characters(std::string_view text);

/// The text's first `most` characters; what was longer ends in "...", or is cut if `most` is less
/// than that.
std::string cut_to(std::string_view text, std::size_t most);

}  // namespace olmoe
