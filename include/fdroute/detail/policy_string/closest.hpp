#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/detail/number/to_text.hpp"

namespace fdroute::inline v0::detail {

/// How many letters must be added, left out or replaced to make b of a. ASCII letters that differ
/// in case are equal, and so are - and _.
[[gnu::cold]] inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  const auto folded = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c == '-' ? '_' : c;
  };
  std::vector<std::size_t> to_b(b.size() + 1);  // from the letters of a so far to those of b so far
  for (std::size_t j = 0; j <= b.size(); ++j) to_b[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = to_b[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (folded(a[i]) == folded(b[j]) ? 0U : 1U);
      diagonal = to_b[j + 1];
      to_b[j + 1] = std::min({replaced, diagonal + 1, to_b[j] + 1});
    }
  }
  return to_b.back();
}

/// " (did you mean 'alpha'?)" for the word among `accepted` that is closest to `word`, or nothing
/// if none is close: more than a third of its letters would have to change.
[[gnu::cold]] inline std::string did_you_mean(std::string_view word,
                                              std::span<const std::string_view> accepted) {
  std::string_view best;
  std::size_t fewest = 0;
  for (const std::string_view candidate : accepted) {
    if (word.size() > 2 * candidate.size()) continue;  // and so a long text costs nothing
    const std::size_t changes = edit_distance(word, candidate);
    if (3 * changes > candidate.size() + 1 || changes == candidate.size()) continue;
    if (!best.empty() && changes >= fewest) continue;
    best = candidate;
    fewest = changes;
  }
  return best.empty() ? "" : " (did you mean " + quote(best) + "?)";
}

}  // namespace fdroute::inline v0::detail
