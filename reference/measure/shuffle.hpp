#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace olmoe {

/// Puts vectors in random order, by the seed alone: the standard's shuffle differs between
/// libraries.
class Shuffle {
 public:
  explicit Shuffle(std::uint64_t seed) : random_(seed) {}

  /// The remainder's bias is below size / 2^64.
  template <class T>
  void operator()(std::vector<T>& values) {
    for (std::size_t left = values.size(); left > 1; --left)
      std::swap(values[left - 1], values[static_cast<std::size_t>(random_() % left)]);
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace olmoe
