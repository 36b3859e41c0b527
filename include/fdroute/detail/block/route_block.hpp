#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/load.hpp"
#include "fdroute/detail/block/one_token.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/write.hpp"
#include "fdroute/detail/row/route_row.hpp"
#include "fdroute/detail/row/write_row.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// Routes one token as defined.
template <class T, class View>
[[gnu::noinline]] TokenStatus route_row(const ErasedRouter& router, const T* logits,
                                        View out) noexcept {
  const auto experts = static_cast<std::size_t>(router.experts);
  RoutedRow row;
  if constexpr (std::is_same_v<T, float>) {
    router.calls->select(router.parts, {logits, experts}, row);
  } else {
    std::array<float, max_experts> floats;
    std::transform(logits, logits + experts, floats.begin(),
                   [](const T& x) { return static_cast<float>(x); });
    router.calls->select(router.parts, {floats.data(), experts}, row);
  }
  const std::span<const std::int32_t> selected(row.experts.data(),
                                               static_cast<std::size_t>(row.count));
  write_row(out, {selected, row.weights.data(), row.experts[0], row.status}, router.experts);
  return row.status;
}

/// The routing of a block of tokens to one form of output: by kernels where there are, else by
/// route_row(), which has the same result.
template <class Arch>
class BlockRouter {
 public:
  /// Routes at most router.block_tokens() tokens.
  template <class T, class View>
  [[gnu::noinline]] static TokenStatus route(const ErasedRouter& router, LogitsView<T> logits,
                                             View out) noexcept {
    if (!router.has_kernels) [[unlikely]]
      return route_row(router, logits.data, out);
    constexpr bool weighs = !std::same_as<View, BitmaskView>;
    TokenBlock block(static_cast<int>(logits.tokens), router.experts);
    if (weighs || router.calls->reads_largest) {
      load_rows<Arch, true>(block, logits);
    } else {
      load_rows<Arch, false>(block, logits);
    }
    if constexpr (lists_experts<View>) {
      if (block.tokens == 1 && router.critical != nullptr && block.stride_64 == 64 &&
          router.weights_are_exps &&
          count_one<Arch>(block, router.critical, router.calls->map_kind, router.calls->step_down,
                          router.bounds)) {
        write_exps<Arch>(block, 0, out, router.capacity, router.renormalizes());
        return TokenStatus::ok;
      }
    }
    router.calls->count(router.parts, block, weighs);
    const bool by_sets =
        !lists_experts<View> && router.calls->has_sets && (!weighs || router.weights_are_exps);
    if (!by_sets) rank_best<Arch>(block, false);
    const BlockRouter self{router, block, by_sets};
    const int first = self.write_by_kernel(0, out);
    if (first == block.tokens) return TokenStatus::ok;
    if (by_sets) rank_best<Arch>(block, true);
    return self.write_rest_of_block(first, logits, out);
  }

 private:
  BlockRouter(const ErasedRouter& router, const TokenBlock& block, bool by_sets) noexcept
      : router_(router), block_(block), by_sets_(by_sets) {}

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  /// Writes tokens from t on, up to the first that the view's kernel leaves, which is returned.
  template <class View>
  int write_by_kernel(int t, View out) const noexcept {
    if constexpr (lists_experts<View>) {
      if (!router_.weights_are_exps) return t;
      return write_exps<Arch>(block_, t, out, router_.capacity, router_.renormalizes());
    } else if constexpr (std::same_as<View, DenseView>) {
      return by_sets_ ? write_dense<Arch>(block_, t, out, router_.renormalizes()) : t;
    } else {
      return by_sets_ ? write_sets(block_, t, out) : t;
    }
  }

  /// Writes tokens from t on in their order: in CSR form, one starts where the one before it ends.
  template <class T, class View>
  [[gnu::noinline]] TokenStatus write_rest_of_block(int t, LogitsView<T> logits,
                                                    View out) const noexcept {
    ManyRanked many;
    TokenStatus status = TokenStatus::ok;
    for (; t < block_.tokens; t = write_by_kernel(t + 1, out)) {
      if (block_.candidates[at(t)] > 0) {
        write_ranked(t, many, out.from(t));
      } else {
        status = status | route_row(router_, logits.row(t), out.from(t));
      }
    }
    return status;
  }

  template <class View>
  void write_ranked(int t, ManyRanked& many, View out) const noexcept {
    const std::int32_t* ranked = many.template ranked_of<Arch>(block_, t);
    const std::span<const std::int32_t> experts(ranked, at(block_.count[at(t)]));
    std::array<float, ManyRanked::limit> weights;
    if constexpr (!std::same_as<View, BitmaskView>) weigh(t, experts, weights.data());
    write_row(out, {experts, weights.data(), ranked[0]}, router_.experts);
  }

  void weigh(int t, std::span<const std::int32_t> experts, float* weights) const noexcept {
    if (!router_.weights_are_exps) {
      const std::span logits(block_.rows[at(t)], at(router_.experts));
      return router_.calls->weigh(router_.parts, logits, experts, {weights, experts.size()});
    }
    const float* exps = block_.exps_of(t);
    const float factor =
        weight_factor(block_, t, experts.data(), block_.count[at(t)], router_.renormalizes());
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = exps[experts[i]] * factor;
  }

  const ErasedRouter& router_;
  const TokenBlock& block_;
  bool by_sets_;
};

}  // namespace fdroute::inline v0::detail
