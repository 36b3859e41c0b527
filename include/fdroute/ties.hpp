#pragma once

#include <cstdint>

namespace fdroute::inline v0 {

/// Which of two experts with equal keys ranks first.
enum class TieOrder : std::uint8_t {
  lowest_index,
  highest_index,
};

}  // namespace fdroute::inline v0
