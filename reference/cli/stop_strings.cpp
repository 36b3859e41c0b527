#include "cli/stop_strings.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace olmoe {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  if (std::ranges::count(strings_, "") > 0)
    throw std::invalid_argument("--stop: an empty text would stop everything");
}

std::string StopStrings::push(const std::string& piece) {
  if (stopped_by_) return "";
  kept_ += piece;
  std::size_t end = kept_.size();         // of what is sure
  std::size_t whole = std::string::npos;  // where the string that stops it ends
  for (const std::string& stop : strings_) {
    const std::size_t at = kept_.find(stop);
    if (at == std::string::npos) continue;
    if (at + stop.size() > whole || (at + stop.size() == whole && at >= end)) continue;
    end = at;
    whole = at + stop.size();
    stopped_by_ = stop;
  }
  if (!stopped_by_) {
    for (const std::string& stop : strings_) {  // the longest end of the text that may begin one
      for (std::size_t n = std::min(stop.size() - 1, kept_.size()); n > 0; --n) {
        if (!std::string_view(kept_).ends_with(std::string_view(stop).substr(0, n))) continue;
        end = std::min(end, kept_.size() - n);
        break;
      }
    }
  }
  std::string sure = kept_.substr(0, end);
  kept_.erase(0, end);
  return sure;
}

std::string StopStrings::finish() {
  return stopped_by_ ? "" : std::exchange(kept_, "");
}

}  // namespace olmoe
