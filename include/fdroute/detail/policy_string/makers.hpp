#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "fdroute/any_router.hpp"

namespace fdroute::inline v0 {

template <class Arch>
class PolicySettings;
template <class Arch>
struct PolicyMaker;

namespace detail {

/// A maker of the library's own.
template <class Arch>
struct LibraryMaker {
  std::string_view name;
  AnyRouter (*make)(PolicySettings<Arch>&);
};

/// The makers that a name can be of: the library's, then those of ParseOptions.
template <class Arch>
struct MakerList {
  std::array<std::span<const LibraryMaker<Arch>>, 2> library;
  std::span<const PolicyMaker<Arch>> own;

  [[gnu::cold]] void append_names(std::vector<std::string_view>& names) const {
    for (const auto& makers : library) {
      for (const auto& maker : makers) names.push_back(maker.name);
    }
    for (const auto& maker : own) names.push_back(maker.name);
  }

  /// By the first maker of this name, which there must be.
  [[gnu::cold]] AnyRouter make(std::string_view name, PolicySettings<Arch>& settings) const {
    for (const auto& makers : library) {
      for (const auto& maker : makers) {
        if (maker.name == name) return maker.make(settings);
      }
    }
    return std::ranges::find(own, name, &PolicyMaker<Arch>::name)->make(settings);
  }
};

}  // namespace detail
}  // namespace fdroute::inline v0
