#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/bounds.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/sets.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/limits.hpp"

// One token, from logits to weights, in one kernel without a block: with nothing to do while a step
// waits for the last, every store that is read back and every call would be waited for, too.

namespace fdroute::inline v0::detail {

/// A routed token.
struct OneToken {
  static constexpr int most_few = 16;  // experts of a row that is one vector

  int count;                                                          // of the selected experts
  alignas(64) std::array<std::int32_t, TokenBlock::most_listed> ids;  // by rank; the first the best
  alignas(64) std::array<float, TokenBlock::most_listed> weights;  // 0 after the last selected one
};

/// Whether a set is listed in registers.
template <class Arch>
inline constexpr bool lists_in_registers = requires(const Lanes<std::int32_t, Arch, 64>& x) {
  compress(std::uint64_t{}, x.part, Arch{});
};

/// Writes the ids of a set of at most 16 experts, in order; those after them are some of the row.
template <class Arch>
FDROUTE_INLINE void list_set(const std::uint64_t* set, int words,
                             std::array<std::int32_t, 16>& ids) noexcept {
  if constexpr (lists_in_registers<Arch>) {
    const auto numbers = Lanes<std::int32_t, Arch, 64>::load(lane_numbers.data());
    auto listed = compress(set[0], numbers.part, Arch{});
    int n = std::popcount(set[0]);
    for (int i = 1; i < words; ++i) {
      const auto next = compress(set[i], numbers.part, Arch{});
      listed = append(listed, n, next + RegisterOf<std::int32_t, Arch>(64 * i), Arch{});
      n += std::popcount(set[i]);
    }
    store_aligned(listed, ids.data());
  } else {
    // Eight at a time: without a branch for each.
    std::array<std::int32_t, 16 + 8> all{};
    std::size_t n = 0;
    for (int i = 0; i < words; ++i) {
      constexpr std::uint64_t last = std::uint64_t{1} << 63;
      std::uint64_t bits = set[i];
      const std::size_t end = n + static_cast<std::size_t>(std::popcount(bits));
      for (; n < end; n += 8) {
        unrolled<8>([&](std::size_t j) FDROUTE_INLINED {
          all[n + j] = 64 * i + std::countr_zero(bits | last);
          bits &= bits - 1;
        });
      }
      n = end;
    }
    std::copy_n(all.begin(), ids.size(), ids.begin());
  }
}

/// row[id] of 16 ids.
template <class Arch>
FDROUTE_INLINE Floats<Arch> pick_of_row(const float* row, int stride,
                                        const std::array<std::int32_t, 16>& ids) noexcept {
  if constexpr (!lists_in_registers<Arch>) {
    alignas(64) std::array<float, 16> picked;
    unrolled<16>([&](std::size_t i) FDROUTE_INLINED { picked[i] = row[ids[i]]; });
    return Floats<Arch>::load(picked.data());
  } else {
    const auto id = Ints<Arch>::load(ids.data());
    if (stride > 128) return gather(row, id);
    if (stride == 64) return pick(row, id);
    return Floats<Arch>::generate([&](std::size_t)
                                      FDROUTE_INLINED { return pick_of_128(row, id.part[0]); });
  }
}

/// Routes one token. The rows of keys and of logits, which may be one, are -inf after their end, up
/// to a multiple of 64; or they are one of at most OneToken::most_few experts, and there are no
/// critical scores.
template <class Arch>
class OneRouter {
  using Lane = Floats<Arch>;
  using Int = Ints<Arch>;
  using Exp = ExpOfDifference<Arch>;
  using Of = WeightRecipe::Of;
  static constexpr float inf = std::numeric_limits<float>::infinity();

 public:
  FDROUTE_INLINE OneRouter(const ErasedRouter& router, const float* keys, const float* logits,
                           OneToken& to) noexcept
      : router_(router),
        keys_(keys),
        logits_(logits),
        stride_(padded_to(64, router.experts)),
        few_(router.experts <= OneToken::most_few && router.critical == nullptr),
        to_(to) {}

  /// Returns false if the general kernels must do it.
  FDROUTE_INLINE bool route() noexcept {
    Lane most;
    if (!scan(keys_, most)) return false;
    best_ = largest(most);
    if (best_ == -inf || !list(most) || !take_numerators()) return false;
    if (candidates_ == 1) {
      Int(ids_[static_cast<std::size_t>(only_)]).store(to_.ids.data());
      Lane(numerators_[static_cast<std::size_t>(only_)]).store(to_.weights.data());
    } else if (candidates_ <= 8) {
      rank<8>();
    } else {
      rank<16>();
    }
    return select();
  }

 private:
  /// Finds the largest number lane by lane; returns whether all are below +inf, which NaN is not.
  FDROUTE_INLINE bool scan(const float* row, Lane& most) const noexcept {
    if (few_) {
      most = Lane::load_first(row, router_.experts, -inf);
      return (Lane(inf) > most).all();
    }
    using Lane64 = Floats<Arch, 64>;
    const auto max = [](const auto& a, const auto& b) FDROUTE_INLINED { return larger(a, b); };
    most = Lane(-inf);
    bool below_inf = true;
    for (int i = 0; i < stride_; i += 64) {
      const Lane64 x = Lane64::load_anywhere(row + i);
      below_inf &= (Lane64(inf) > x).all();
      most = larger(most, fold(fold(x, max), max));
    }
    return below_inf;
  }

  static FDROUTE_INLINE float kth_of_lanes(const Lane& most, int k) noexcept {
    alignas(64) std::array<float, 16> lanes;
    most.store(lanes.data());
    return kth_largest<Arch>(lanes, k);
  }

  /// Lists candidates, among which are the selected ones, with their keys.
  ///
  /// By a rule that selects k experts, they are those that reach the k-th largest of the lanes'
  /// largest keys, since k lanes do; by critical scores, those that reach t_m, which are all that
  /// such a rule can count. So no step of a count waits for the last.
  FDROUTE_INLINE bool list(const Lane& most) noexcept {
    std::array<std::uint64_t, max_experts / 64> set;
    const int k = router_.capacity;
    if (router_.critical != nullptr) {
      find_map();
      const auto scores = score(Floats<Arch, 64>::load_anywhere(keys_), map_, router_.map_kind);
      set[0] = (scores >= Floats<Arch, 64>(router_.critical[router_.experts])).bits();
      candidates_ = std::popcount(set[0]);
    } else if (few_) {
      set[0] = (most >= Lane(k == 1 ? best_ : std::numeric_limits<float>::lowest())).bits();
      candidates_ = std::popcount(set[0]);
      if (candidates_ < k) return false;
      only_ = std::countr_zero(set[0]);
      if (candidates_ > 1) candidates_ = router_.experts;
      most.store(x_.data());
      Int::load(lane_numbers.data()).store(ids_.data());
      return true;
    } else {
      const float reached = k == 1 ? best_ : kth_of_lanes(most, k);
      if (reached == -inf) return false;
      candidates_ = at_least<Arch>(keys_, stride_, reached, set.data());
    }
    if (candidates_ == 0 || candidates_ > TokenBlock::most_listed) return false;
    if (candidates_ == 1) {
      int id = std::countr_zero(set[0]);
      for (int i = 1; i < stride_ / 64; ++i) {
        const std::uint64_t bits = set[static_cast<std::size_t>(i)];
        if (bits != 0) id = 64 * i + std::countr_zero(bits);
      }
      Int(id).store(ids_.data());
      Lane(best_).store(x_.data());
      return true;
    }
    list_set<Arch>(set.data(), stride_ / 64, ids_);
    pick_of_row<Arch>(keys_, stride_, ids_).store(x_.data());
    return true;
  }

  /// Not by a member's memory: members are to stay in registers.
  FDROUTE_INLINE double sum_of_exps(const float* row) const noexcept {
    alignas(64) std::array<float, max_experts> exps;
    return exp_sum<Arch>(row, padded_to(16, router_.experts), best_, exps.data());
  }

  /// Fills in the keys' map to scores.
  FDROUTE_INLINE void find_map() noexcept {
    if (router_.map_kind == MapKind::shift) {
      exp_sum_ = sum_of_exps(keys_);
      has_exp_sum_ = true;
      map_ = log_softmax_map(best_, log_of_sum(exp_sum_));
    } else if (router_.map_kind == MapKind::affine) {
      map_ = zscore_map<Arch>(keys_, router_.experts, padded_to(16, router_.experts), best_);
    }
  }

  /// Fills in what the candidates' weights are made of, and exp_sum_ if they are over it.
  FDROUTE_INLINE bool take_numerators() noexcept {
    const WeightRecipe& recipe = router_.weights;
    const bool ranks_logits = keys_ == logits_;
    Lane x = Lane::load(x_.data());
    if (!ranks_logits) x = pick_of_row<Arch>(logits_, stride_, ids_);
    if (recipe.of == Of::sigmoid) {
      sigmoid(x).store(numerators_.data());
      return true;
    }
    if (!ranks_logits) {
      Lane most;
      if (!scan(logits_, most)) return false;
      best_ = largest(most);
    }
    if (!(std::abs(best_) <= Exp::limit)) return false;
    const Exp exp(best_);
    const Lane e = exp(x);
    e.store(numerators_.data());
    if (!recipe.renormalize && !(ranks_logits && has_exp_sum_))
      exp_sum_ = few_ && ranks_logits ? sum(widen(e)) : sum_of_exps(logits_);
    return true;
  }

  /// Puts ids, numerators and, for critical scores, x_ in the order of ranks, the first n.
  template <std::size_t n>
  FDROUTE_INLINE void rank() noexcept {
    alignas(64) std::array<std::int32_t, 16> keys;
    const auto is_candidate = Int(candidates_) > Int::load(lane_numbers.data());
    choose(is_candidate, ordered(Lane::load(x_.data())), Int(least_key)).store(keys.data());
    const Order<Arch, n> order(keys.data());
    Int(0).store(to_.ids.data());  // the places from n on
    Lane(0.0F).store(to_.weights.data());
    order.move(ids_, to_.ids);
    order.move(numerators_, to_.weights);
    if (router_.critical == nullptr) return;
    const auto in_order = x_;
    order.move(in_order, x_);
  }

  /// Counts the experts, by x_ in the order of ranks, and makes weights of the selected ones'
  /// numerators.
  FDROUTE_INLINE bool select() noexcept {
    int& count = to_.count;
    count = router_.capacity;
    if (router_.critical != nullptr) {
      const auto scores = score(Lane::load(x_.data()), map_, router_.map_kind);
      const auto passes = scores >= Lane::load_anywhere(router_.critical + 1);
      const auto bits =
          static_cast<std::uint32_t>(passes.bits()) & ((std::uint32_t{1} << candidates_) - 1);
      count = router_.step_down ? std::countr_one(bits) : static_cast<int>(std::bit_width(bits));
      count = std::min(router_.bounds(count), router_.experts);
      if (count > candidates_) return false;
    }
    const WeightRecipe& recipe = router_.weights;
    const auto selected = Lane::load_anywhere(first_lanes(count)) > Lane(0.0F);
    Lane w = choose(selected, Lane::load(to_.weights.data()), Lane(0.0F));
    if (recipe.of == Of::softmax) {
      double divisor = exp_sum_;
      if (recipe.renormalize) divisor = count > 0 ? sum(fixed_point(widen(w))) : 1.0;
      w = w * Lane(static_cast<float>(1.0 / divisor));
    } else if (recipe.renormalize) {
      const double all = sum(widen(w));
      const double divisor = all > 0.0 ? all + recipe.parameter : 1.0;
      w = narrow(widen(w) * Doubles<Arch>(1.0 / divisor));
    }
    (w * Lane(recipe.factor)).store(to_.weights.data());
    return true;
  }

  const ErasedRouter& router_;
  const float* keys_;
  const float* logits_;
  int stride_;
  bool few_;
  OneToken& to_;
  int candidates_ = 0;
  int only_ = 0;       // the lane of the candidate that is the only one
  float best_ = 0.0F;  // the largest key, and then the largest logit
  double exp_sum_ = 1.0;
  bool has_exp_sum_ = false;  // of the keys
  ScoreMap map_{};
  // Of the candidates in order of ids.
  alignas(64) std::array<std::int32_t, 16> ids_;
  alignas(64) std::array<float, 16> x_;
  alignas(64) std::array<float, 16> numerators_;
};

/// Routes one token by OneRouter.
template <class Arch>
FDROUTE_KERNEL bool route_one(const ErasedRouter& router, const float* keys, const float* logits,
                              OneToken& to) noexcept {
  return OneRouter<Arch>(router, keys, logits, to).route();
}

}  // namespace fdroute::inline v0::detail
