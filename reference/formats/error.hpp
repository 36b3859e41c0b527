#pragma once

#include <fdroute/detail/number/to_text.hpp>
#include <stdexcept>
#include <string>

namespace olmoe {

using fdroute::detail::one_line;
using fdroute::detail::quote;

/// Bytes of the longest message.
constexpr std::size_t message_limit = 500;

/// Something outside the program (a file, its contents, an argument) is not as it must be. what()
/// is one printable line of at most message_limit bytes that names the file and the fact: bytes of
/// file names and contents that are not printable are escaped.
struct Error : std::runtime_error {
  explicit Error(const std::string& message)
      : std::runtime_error(one_line(message, message_limit)) {}
};

}  // namespace olmoe
