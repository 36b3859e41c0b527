#include "forward/grouping.hpp"

#include <array>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "formats/error.hpp"

namespace olmoe {
namespace {

constexpr std::array grouping_names{
    std::pair(Grouping::Kind::batch, std::string_view("batch")),
    std::pair(Grouping::Kind::consecutive, std::string_view("consecutive")),
    std::pair(Grouping::Kind::cache, std::string_view("cache"))};

}  // namespace

Grouping parse_grouping(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = std::string_view(text).substr(0, colon);
  for (const auto& [kind, known] : grouping_names) {
    if (name != known || colon == std::string::npos) continue;
    Grouping grouping{kind, 0};
    const char* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + colon + 1, end, grouping.size);
    if (read.ec == std::errc{} && read.ptr == end && grouping.size >= 1) return grouping;
  }
  throw std::invalid_argument(
      "a group is batch:N, consecutive:N or cache:N, such as batch:16, got " + quote(text));
}

std::string to_text(const Grouping& grouping) {
  const auto& [kind, name] = grouping_names[static_cast<std::size_t>(grouping.kind)];
  return std::string(name) + ":" + std::to_string(grouping.size);
}

std::vector<std::size_t> groups_of(const Grouping& grouping, std::span<const Stretch> stretches) {
  if (grouping.kind == Grouping::Kind::cache)
    throw std::invalid_argument("groups_of: the tokens of a cache have an order");
  std::vector<std::size_t> groups;
  std::size_t used = 0;  // groups of the stretches before
  for (const Stretch& stretch : stretches) {
    const std::int64_t first = stretch.start / grouping.size;
    for (std::int64_t i = 0; i < stretch.tokens; ++i) {
      const bool is_batch = grouping.kind == Grouping::Kind::batch;
      const std::int64_t group = is_batch ? i : (stretch.start + i) / grouping.size - first;
      groups.push_back((is_batch ? 0 : used) + static_cast<std::size_t>(group));
    }
    if (stretch.tokens > 0) used = groups.back() + 1;
  }
  return groups;
}

}  // namespace olmoe
