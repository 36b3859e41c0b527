#pragma once

#include <charconv>
#include <string>

#include "fdroute/detail/require_ieee.hpp"

namespace fdroute::inline v0::detail {

/// The shortest decimal text that reads back as the same number: "0.05", not "0.050000".
template <class Number>
std::string to_text(Number value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

}  // namespace fdroute::inline v0::detail
