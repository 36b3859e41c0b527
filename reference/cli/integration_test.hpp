#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace olmoe {

/// transformers' own test of allenai/OLMoE-1B-7B-0924 (test_modeling_olmoe.py,
/// test_model_7b_logits): on these tokens, the mean of each position's logits.
struct IntegrationTest {
  static constexpr std::array<std::int32_t, 8> ids{1, 306, 4658, 278, 6593, 310, 2834, 338};
  static constexpr std::array<double, ids.size()> means{-1.3814, -3.4450, -2.2990, -1.9542,
                                                        -2.4387, -2.7941, -2.9312, -2.8309};
  static constexpr double tolerance = 1e-2;  ///< absolute, and again relative, as torch has it

  /// The mean of each row of logits (tokens, vocabulary).
  static std::vector<double> row_means(std::span<const float> logits, std::size_t vocabulary);

  /// Whether `actual` is within tolerance of `expected`; not if it is NaN.
  static bool agrees(double actual, double expected);
};

}  // namespace olmoe
