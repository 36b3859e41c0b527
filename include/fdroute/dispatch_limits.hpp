#pragma once

#include <cstdint>
#include <limits>

namespace fdroute::inline v0 {

/// Which assignments an expert drops that has more than its capacity.
enum class Drop : std::uint8_t {
  last,           ///< those of the highest tokens: an expert takes the first that come
  lowest_weight,  ///< those of the smallest weights, NaN first; of equal ones, the higher token
};

/// What a plan takes of a routing.
struct DispatchLimits {
  /// Experts [first, end), a rank's own: assignments of others are left out. `end` may be more than
  /// there are.
  int first = 0;
  int end = std::numeric_limits<int>::max();
  /// The most tokens that an expert takes, at least 0. The others are dropped.
  std::int64_t capacity = std::numeric_limits<std::int64_t>::max();
  Drop drop = Drop::last;
};

/// How DispatchPlan::build_reserved() ended.
enum class DispatchStatus : std::uint8_t {
  ok,
  bad_count,   ///< a padded count is outside [0, capacity], or CSR offsets decrease
  bad_id,      ///< an id is outside [0, experts)
  bad_extent,  ///< tokens outside [0, 2^31], experts below 1, or limits that are none
  no_room,     ///< reserve() was not given this much
};

}  // namespace fdroute::inline v0
