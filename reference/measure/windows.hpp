#pragma once

#include <cstdint>
#include <vector>

#include "forward/config.hpp"

/// How a text is cut into sequences for the model.
namespace olmoe {

/// Inputs first .. first + length - 1 of a text, run as one sequence. Row i of it predicts token
/// first + i + 1; rows from `scored` on are scored, those before are context.
struct Window {
  std::int64_t first;
  std::int64_t length;
  std::int64_t scored;

  friend bool operator==(const Window&, const Window&) = default;
};

/// The windows over a text of `tokens` tokens: of `window` inputs each, `stride` apart, the last
/// one moved back to end with the text. Every token but the first is scored in exactly one of them.
/// Needs 1 <= stride <= window < tokens; throws std::invalid_argument otherwise.
std::vector<Window> sliding_windows(std::int64_t tokens, std::int64_t window, std::int64_t stride);

/// The longest sequence the model was made for, at most 1024.
std::int64_t default_window(const Config& config);

}  // namespace olmoe
