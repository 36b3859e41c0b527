#pragma once

#include <string>
#include <vector>

#include "sweep/sweep_results.hpp"

namespace olmoe {

/// The probability that a sweep makes any false claim is at most this.
inline constexpr double claim_level = 0.05;

/// A configuration as a hypothesis: "it costs the margin or more".
struct TestedRow {
  const SweepRow* row;
  double p;              ///< p_not_below() of its nll difference
  bool claimed = false;  ///< rejected: it is non-inferior
};

/// The adaptive configurations of one family in their fixed order, from the most experts to the
/// fewest, and how far the claims reach.
struct TestedFamily {
  std::string name;
  std::vector<TestedRow> rows;

  /// The claimed row with the largest reduction; null if none is claimed.
  const SweepRow* largest_saving() const;
};

/// Tests all families of a sweep together at claim_level, by test_in_sequence(). `margin` is in
/// nats per token. Fixed counts, and rows that are another row again, are no hypotheses.
std::vector<TestedFamily> test_families(const std::vector<SweepRow>& rows, double margin);

}  // namespace olmoe
