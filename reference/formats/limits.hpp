#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/error.hpp"        // message_limit
#include "formats/safetensors.hpp"  // SafetensorsLimits

namespace olmoe {

/// What files may ask for, beside SafetensorsLimits: more is an Error. docs/reliability.md has the
/// table of all limits. None of them is near to what a model or a sweep has.
struct Limits {
  static constexpr std::size_t json_depth = 64;  ///< levels of objects and arrays

  /// Of a config.json. Any two sizes times the experts stay below 2^58.
  static constexpr int size = 1 << 24;  ///< hidden, intermediate, vocabulary, layers, positions ...
  static constexpr int experts = 1024;

  /// Of texts.
  static constexpr std::uint64_t text_bytes = std::uint64_t{1} << 30;
  static constexpr std::uint64_t documents_bytes = std::uint64_t{1} << 26;  ///< NAME.documents

  /// Of a sweep.
  static constexpr std::uint64_t grid_bytes = std::uint64_t{1} << 20;
  static constexpr std::uint64_t sweep_file_bytes = std::uint64_t{64} << 20;
  static constexpr std::size_t sweep_members = 256;  ///< of an object in its files
  static constexpr std::size_t configurations = 10'000;
  static constexpr std::int64_t sweep_layers = 100'000;
  static constexpr std::size_t label_bytes = 255;
  static constexpr std::size_t name_bytes = 128;
};

}  // namespace olmoe
