#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/safetensors.hpp"

inline const std::filesystem::path source_dir = FDROUTE_SOURCE_DIR;

/// The checkpoints with a capture.safetensors of what transformers computes: the bundled model and
/// the tiny ones.
inline std::vector<std::filesystem::path> captured_models() {
  std::vector<std::filesystem::path> models{source_dir / "reference/model"};
  for (const auto& entry : std::filesystem::directory_iterator(source_dir / "tests/data/tiny"))
    models.push_back(entry.path());
  std::sort(models.begin(), models.end());
  return models;
}

/// The largest |difference|; infinite if some difference is no number.
inline double distance(const std::vector<float>& actual, const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double d = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    if (!(d <= largest)) largest = std::isnan(d) ? HUGE_VAL : d;
  }
  return largest;
}

inline std::vector<std::int64_t> widen(const std::vector<std::int32_t>& values) {
  return {values.begin(), values.end()};
}

/// The capture's metadata `key`, which must be there.
inline std::string metadata(const olmoe::SafetensorsFile& capture, const std::string& key) {
  const auto found = capture.metadata().find(key);
  REQUIRE(found != capture.metadata().end());
  return found->second;
}
