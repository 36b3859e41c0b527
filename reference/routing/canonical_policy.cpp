#include "routing/canonical_policy.hpp"

#include <algorithm>

namespace olmoe {

CanonicalPolicy::CanonicalPolicy(std::string_view policy) {
  std::size_t end = std::min(policy.find(':'), policy.size());
  name = policy.substr(0, end);
  while (end < policy.size()) {
    const std::size_t begin = end + 1;
    end = std::min(policy.find(',', begin), policy.size());
    const std::string_view item = policy.substr(begin, end - begin);
    const std::size_t equals = item.find('=');
    arguments.emplace(item.substr(0, equals), item.substr(equals + 1));
  }
}

std::string CanonicalPolicy::text() const {
  std::string text = name;
  char separator = ':';
  for (const auto& [key, value] : arguments) {
    text.append(1, separator).append(key).append("=").append(value);
    separator = ',';
  }
  return text;
}

}  // namespace olmoe
