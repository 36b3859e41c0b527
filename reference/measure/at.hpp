#pragma once

#include <cstddef>
#include <cstdint>

namespace olmoe {

/// A count of tokens, rows or layers as an index.
constexpr std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace olmoe
