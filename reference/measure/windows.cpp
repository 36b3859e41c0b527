#include "measure/windows.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace olmoe {

std::vector<Window> sliding_windows(std::int64_t tokens, std::int64_t window, std::int64_t stride) {
  if (window < 1 || stride < 1 || stride > window || window >= tokens)
    throw std::invalid_argument("sliding_windows: 1 <= stride <= window < tokens must hold, got " +
                                std::to_string(stride) + ", " + std::to_string(window) + ", " +
                                std::to_string(tokens));
  const std::int64_t last = tokens - 1 - window;  // where the last window begins
  std::vector<Window> windows;
  std::int64_t scored = 0;  // inputs whose next token has been predicted
  for (std::int64_t first = 0; scored < tokens - 1; first += stride) {
    first = std::min(first, last);
    windows.push_back({first, window, scored - first});
    scored = first + window;
  }
  return windows;
}

std::int64_t default_window(const Config& config) {
  return std::min(config.max_position_embeddings, 1024);
}

}  // namespace olmoe
