#pragma once

#include <map>
#include <string>
#include <string_view>

namespace olmoe {

/// A policy string taken apart: what AnyRouter::policy() writes, where every argument is named.
struct CanonicalPolicy {
  explicit CanonicalPolicy(std::string_view policy);

  /// Put together again; parse_router() reads it. Arguments come in alphabetical order.
  std::string text() const;

  std::string name;
  std::map<std::string, std::string> arguments;
};

}  // namespace olmoe
