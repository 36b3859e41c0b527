#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// What a group of experts is ranked by: its largest key, or the sum in float of its two largest.
enum class GroupScore : std::uint8_t { max, sum_of_top2 };

/// GroupLimited: experts lie in `groups` groups of equal size and consecutive index; only those of
/// the `kept` best groups may be selected.
///
///     key_j = the inner ranking's key_j   if j's group is among the `kept` of largest score
///             masked                      otherwise
///
/// Logits and keys have shape (experts). Group g holds experts g n .. (g + 1) n - 1, with
/// n = experts / groups. A group's score is that of GroupScore over its usable experts.
///
/// * An expert whose inner key is NaN or -inf is not usable. It takes no part in its group's score,
///   and its key is NaN: it ranks behind all usable experts, those of other groups too.
/// * A group with one usable expert has that expert's key as its sum of two. A group without any
///   ranks behind all others.
/// * A sum of finite keys stays finite: beyond the largest float it is that float.
/// * Groups of equal score: the lower index ranks first, or the higher with
///   TieOrder::highest_index. `ties` is the inner ranking's unless it is set.
///
/// `masked` is -inf, or the finite value that another implementation fills in. `groups` divides the
/// number of experts, 1 <= kept <= groups, and sum_of_top2 needs groups of two experts or more. A
/// Router throws std::invalid_argument otherwise.
///
/// DeepSeek-AI, DeepSeek-V2 (2024), section 2.2.2, arXiv:2405.04434
template <class Inner = ByLogit>
struct GroupLimited {
  Inner ranking{};
  int groups = 1;  ///< number of groups
  int kept = 1;    ///< number of groups whose experts may be selected
  GroupScore score = GroupScore::max;
  float masked = -std::numeric_limits<float>::infinity();
  TieOrder ties = ranking.ties;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    ranking(logits, keys);
    const auto n = static_cast<std::size_t>(groups);
    const std::size_t size = keys.size() / n;
    std::array<float, max_experts> scores;
    for (float& key : keys) {
      if (!usable(key)) key = std::numeric_limits<float>::quiet_NaN();
    }
    for (std::size_t g = 0; g < n; ++g) scores[g] = score_of(keys.subspan(g * size, size));
    for (std::size_t g = 0; g < n; ++g) {
      int better = 0;
      for (std::size_t h = 0; h < n; ++h) better += static_cast<int>(ranks_before(scores, h, g));
      if (better < kept) continue;
      for (float& key : keys.subspan(g * size, size)) key = usable(key) ? masked : key;
    }
  }

  /// How kernels make these keys (Kernel::key_recipe). Valid as long as the inner ranking.
  detail::KeyRecipe recipe() const noexcept requires(kernel_of<Inner> == Kernel::key_recipe) {
    detail::KeyRecipe keys = ranking.recipe();
    // Of groups within groups, and of a mask above all numbers, kernels know nothing.
    if (keys.limited || !(masked <= std::numeric_limits<float>::max())) return {.groups = 0};
    keys.limited = true;
    keys.groups = groups;
    keys.kept = kept;
    keys.sum_of_top2 = score == GroupScore::sum_of_top2;
    keys.masked = masked;
    return keys;
  }

  void validate(int experts) const {
    if (groups < 1 || experts % groups != 0) {
      detail::refuse("GroupLimited: groups must divide the ", experts, " experts, got ", groups);
    }
    if (kept < 1 || kept > groups) {
      detail::refuse("GroupLimited: kept must lie in [1, ", groups, "], the number of groups, got ",
                     kept);
    }
    if (score == GroupScore::sum_of_top2 && groups == experts)
      detail::refuse("GroupLimited: a group of one expert has no two largest keys");
    detail::validate_policy(ranking, experts);
  }

 private:
  static bool usable(float key) noexcept {
    return key > -std::numeric_limits<float>::infinity();  // which NaN is not
  }

  float score_of(std::span<const float> keys) const noexcept {
    constexpr float none = -std::numeric_limits<float>::infinity();
    float first = none;
    float second = none;
    for (const float key : keys) {
      if (!usable(key)) continue;
      second = std::max(second, std::min(first, key));
      first = std::max(first, key);
    }
    if (score == GroupScore::max || second == none || std::isinf(first)) return first;
    constexpr float most = std::numeric_limits<float>::max();
    return std::clamp(first + second, -most, most);
  }

  bool ranks_before(const std::array<float, max_experts>& scores, std::size_t a,
                    std::size_t b) const noexcept {
    if (scores[a] > scores[b]) return true;
    if (scores[a] < scores[b]) return false;
    return ties == TieOrder::lowest_index ? a < b : a > b;
  }
};

template <class Inner>
inline constexpr Kernel kernel_of<GroupLimited<Inner>> =
    kernel_of<Inner> == Kernel::key_recipe ? Kernel::key_recipe : Kernel::none;

}  // namespace fdroute::inline v0
