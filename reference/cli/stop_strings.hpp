#pragma once

#include <optional>
#include <string>
#include <vector>

namespace olmoe {

/// Ends a text that comes in pieces before one of several strings: the one that is whole first, of
/// those that end together the longest. The pieces do not matter.
class StopStrings {
 public:
  /// None may be empty: std::invalid_argument.
  explicit StopStrings(std::vector<std::string> strings);

  /// What is now sure to stand before any of the strings. What may be the beginning of one is kept
  /// back. After a stop, nothing.
  std::string push(const std::string& piece);

  /// What was kept back, once the text has ended.
  std::string finish();

  /// The string that ended the text.
  const std::optional<std::string>& stopped_by() const { return stopped_by_; }

 private:
  std::vector<std::string> strings_;
  std::string kept_;
  std::optional<std::string> stopped_by_;
};

}  // namespace olmoe
