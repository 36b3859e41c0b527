#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/keys.hpp"
#include "fdroute/detail/block/load.hpp"
#include "fdroute/detail/block/one_token.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/small_rows.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/weigh.hpp"
#include "fdroute/detail/block/write.hpp"
#include "fdroute/detail/row/route_row.hpp"
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

/// Fills in a block of keys from that of the logits: rows, ordinary and, where the count reads
/// them, largest.
template <class Arch>
void rank_experts(const ErasedRouter& router, const TokenBlock& logits, TokenBlock& keys) noexcept {
  if (router.has_key_recipe) {
    find_keys<Arch>(logits, router.keys, keys);
    if (router.reads_largest) find_largest<Arch>(keys);
    return;
  }
  const auto experts = static_cast<std::size_t>(router.experts);
  for (int t = 0; t < logits.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    float* key = keys.copy_of(t);
    keys.rows[at] = logits.rows[at];
    keys.ordinary[at] = logits.ordinary[at];
    if (!keys.ordinary[at]) continue;
    keys.rows[at] = key;
    router.calls->rank(router.parts, {logits.rows[at], experts}, {key, experts});
    std::fill(key + experts, key + keys.stride_64, -std::numeric_limits<float>::infinity());
  }
  find_largest<Arch>(keys);
}

/// The routing of a block of tokens to one form of output: by kernels where there are, else by
/// route_row(), which has the same result.
template <class Arch>
class BlockRouter {
 public:
  /// Routes at most router.block_tokens() tokens. Defined outside, so that it is not inline and a
  /// program can compile it once (compile_once.hpp).
  template <class T, class View>
  static TokenStatus route(const ErasedRouter& router, LogitsView<T> logits, View out) noexcept;

 private:
  /// `block` is the one of the logits; `keys` may be the same.
  BlockRouter(const ErasedRouter& router, TokenBlock& block, TokenBlock& keys) noexcept
      : router_(router), logits_(block), keys_(keys) {}

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  // This and route_small_rows() are functions of their own so that no other routing has their
  // memory on its stack.
  template <class T, class View>
  [[gnu::noinline]] static TokenStatus route_by_keys(const ErasedRouter& router, TokenBlock& block,
                                                     LogitsView<T> logits, View out) noexcept {
    TokenBlock keys(block.tokens, router.experts);
    rank_experts<Arch>(router, block, keys);
    return BlockRouter(router, block, keys).route_loaded(logits, out);
  }

  template <class T, class View>
  [[gnu::noinline]] static TokenStatus route_small_rows(const ErasedRouter& router,
                                                        LogitsView<T> logits, View out) noexcept {
    SmallRows small;
    small.experts = router.experts;
    small.selected = router.capacity;
    load_small_rows<Arch>(small, logits);
    route_small<Arch>(small, router.weights);
    if constexpr (std::is_same_v<View, RoutingView<std::int32_t>>) {
      if (small.decided == 0xFFFF && out.capacity == small.selected)
        return write_small_rows(small, static_cast<std::size_t>(logits.tokens), out);
    }
    TokenStatus status = TokenStatus::ok;
    for (int t = 0; t < logits.tokens; ++t) {
      const auto row = out.from(t);
      if ((small.decided >> t & 1U) == 0) [[unlikely]] {
        status = status | route_row(router, logits.row(t), row);
        continue;
      }
      write_small(
          row, small.selected, [&](std::size_t i) { return small.ids[i][at(t)]; },
          [&](std::size_t i) { return small.weights[i][at(t)]; });
    }
    return status;
  }

  /// Writes rows without padding, all decided, one after the other.
  static TokenStatus write_small_rows(const SmallRows& small, std::size_t tokens,
                                      RoutingView<std::int32_t> out) noexcept {
    const auto selected = static_cast<std::size_t>(small.selected);
    const auto write = [&](const auto& from, auto* to) {
      if (selected == 1) {
        std::copy_n(from[0].begin(), tokens, to);
        return;
      }
      if (selected == 2 && tokens == 16) {  // known: stores without a loop
        for (std::size_t t = 0; t < 16; ++t) {
          to[2 * t] = from[0][t];
          to[2 * t + 1] = from[1][t];
        }
        return;
      }
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < selected; ++i) *to++ = from[i][t];
      }
    };
    write(small.ids, out.experts);
    write(small.weights, out.weights);
    std::fill_n(out.counts, tokens, small.selected);
    if (out.status != nullptr) std::fill_n(out.status, tokens, TokenStatus::ok);
    return TokenStatus::ok;
  }

  /// Writes a token's `selected` experts, id_of(rank) with weight_of(rank).
  template <class View, class IdOf, class WeightOf>
  static void write_small(const View& row, int selected, const IdOf& id_of,
                          const WeightOf& weight_of) noexcept {
    using Id = std::remove_pointer_t<decltype(row.experts)>;
    const auto to = places_of(row, selected, static_cast<Id>(id_of(0)));
    for (int i = 0; i < selected; ++i) {
      to.experts[i] = static_cast<Id>(id_of(at(i)));
      to.weights[i] = weight_of(at(i));
    }
    write_rest(row, selected, to.padding, selected);
    write_status(row, TokenStatus::ok);
  }

  /// Whether route_one() can read the rows where they are.
  template <class T>
  static bool has_rows_for_one(const ErasedRouter& router) noexcept {
    if (!router.keys_are_logits || !std::is_same_v<T, float>) return false;
    if (router.experts % 64 == 0) return true;
    return router.experts <= OneToken::most_few && router.critical == nullptr;
  }

  template <class View>
  static void write_one(const ErasedRouter& router, const OneToken& one, const View& row) noexcept {
    using Id = std::remove_pointer_t<decltype(row.experts)>;
    const auto to = places_of(row, router.capacity, static_cast<Id>(one.ids[0]));
    int written = one.count;
    if (stores_first<Arch> || to.room >= 8) {
      written = write_listed<Arch>(one.count, one.count, one.ids.data(), one.weights.data(), to);
    } else {
      for (std::size_t i = 0; i < at(one.count); ++i) {
        to.experts[i] = static_cast<Id>(one.ids[i]);
        to.weights[i] = one.weights[i];
      }
    }
    write_rest(row, written, to.padding, one.count);
    write_status(row, TokenStatus::ok);
  }

  template <class T, class View>
  [[gnu::noinline]] static TokenStatus route_in_block(const ErasedRouter& router,
                                                      LogitsView<T> logits, View out) noexcept {
    TokenBlock block(static_cast<int>(logits.tokens), router.experts);
    load<View>(router, block, logits);
    if (router.keys_are_logits) return BlockRouter(router, block, block).route_loaded(logits, out);
    return route_by_keys(router, block, logits, out);
  }

  template <class View, class T>
  static void load(const ErasedRouter& router, TokenBlock& block, LogitsView<T> logits) noexcept {
    const bool counts_by_largest = router.keys_are_logits && router.reads_largest;
    const bool may_take_exps =
        holds_weights<View> &&
        (router.weighs_by_all() || (has_set_kernel<View> && router.weights.of_exps()));
    if (counts_by_largest || may_take_exps) return load_rows<Arch, true>(block, logits);
    load_rows<Arch, false>(block, logits);
  }

  template <class T, class View>
  TokenStatus route_loaded(LogitsView<T> logits, View out) noexcept {
    constexpr bool weighs = holds_weights<View>;
    by_sets_ = has_set_kernel<View> && router_.has_sets && (!weighs || router_.weighs_sets());
    const bool weighs_by_exps = weighs && (router_.weighs_by_all() || (by_sets_ && weighs));
    if constexpr (lists_experts<View>) {
      OneToken one;
      if (keys_.tokens == 1 && router_.has_one_kernel && !has_rows_for_one<T>(router_) &&
          keys_.ordinary[0] && route_one<Arch>(router_, keys_.rows[0], logits_.rows[0], one)) {
        keys_.count[0] = one.count;
        keys_.candidates[0] = std::max(one.count, 1);
        std::copy_n(one.ids.begin(), TokenBlock::most_listed, keys_.ranked_of(0));
        std::copy_n(one.weights.begin(), TokenBlock::most_listed, keys_.weights_of(0));
        write_lists<Arch>(logits_, router_.weights, keys_, 0, out, router_.capacity);
        return TokenStatus::ok;
      }
    }
    if (weighs_by_exps) take_exps<Arch>(logits_);
    if (router_.reads_exps && !(weighs_by_exps && &keys_ == &logits_)) take_exps<Arch>(keys_);
    router_.calls->count(router_.parts, keys_);
    if (!by_sets_) rank(weighs, false);
    const int first = write_by_kernel(0, out);
    if (first == keys_.tokens) return TokenStatus::ok;
    if (by_sets_) rank(weighs, true);
    return write_rest_of_block(first, logits, out);
  }

  void rank(bool weighs, bool sets_suffice) noexcept {
    if (weighs && router_.weights.of == WeightRecipe::Of::mass) [[unlikely]]
      return rank_by_mass();
    if (!keys_.is_ranked) rank_best<Arch>(keys_, sets_suffice);
    if (weighs && router_.weights.of != WeightRecipe::Of::other)
      weigh_ranked<Arch>(logits_, router_.weights, keys_);
  }

  /// These weights read the mass_k best experts, too, selected or not.
  [[gnu::noinline]] void rank_by_mass() noexcept {
    const auto selected = keys_.count;
    const int most = std::min(router_.weights.mass_k, router_.experts);
    for (int t = 0; t < keys_.tokens; ++t) keys_.count[at(t)] = std::max(selected[at(t)], most);
    rank_best<Arch>(keys_, false);
    keys_.count = selected;
    weigh_by_mass<Arch>(logits_, router_.weights, keys_);
  }

  /// Writes tokens from t on, up to the first that the view's kernel leaves, which is returned.
  template <class View>
  int write_by_kernel(int t, View out) const noexcept {
    if constexpr (lists_experts<View>) {
      if (router_.weights.of == WeightRecipe::Of::other) return t;
      return write_lists<Arch>(logits_, router_.weights, keys_, t, out, router_.capacity);
    } else if constexpr (has_set_kernel<View>) {
      return by_sets_ ? write_sets<Arch>(logits_, keys_, t, out, router_.weights.renormalize) : t;
    } else {
      return t;
    }
  }

  /// Writes tokens from t on in their order: in CSR form, one starts where the one before it ends.
  template <class T, class View>
  [[gnu::noinline]] TokenStatus write_rest_of_block(int t, LogitsView<T> logits,
                                                    View out) const noexcept {
    ManyRanked many;
    TokenStatus status = TokenStatus::ok;
    for (; t < keys_.tokens; t = write_by_kernel(t + 1, out)) {
      if (keys_.candidates[at(t)] > 0) {
        write_ranked(t, many, out.from(t));
      } else {
        status = status | route_row(router_, logits.row(t), out.from(t));
      }
    }
    return status;
  }

  template <class View>
  void write_ranked(int t, ManyRanked& many, View out) const noexcept {
    const std::int32_t* ranked = many.template ranked_of<Arch>(keys_, t);
    const std::span<const std::int32_t> experts(ranked, at(keys_.count[at(t)]));
    alignas(64) WeightsOfMany room;
    const float* weights = room.data();
    if constexpr (holds_weights<View>) {
      if (router_.weights.of == WeightRecipe::Of::other) {
        const std::span row(logits_.rows[at(t)], at(router_.experts));
        router_.calls->weigh(router_.parts, row, experts, {room.data(), experts.size()});
      } else {
        weights = weights_of<Arch>(logits_, router_.weights, keys_, t, ranked, room);
      }
    }
    write_row(out, {experts, weights, ranked[0]}, router_.experts);
  }

  const ErasedRouter& router_;
  TokenBlock& logits_;
  TokenBlock& keys_;
  bool by_sets_ = false;
};

template <class Arch>
template <class T, class View>
[[gnu::noinline]] TokenStatus BlockRouter<Arch>::route(const ErasedRouter& router,
                                                       LogitsView<T> logits, View out) noexcept {
  if (!router.has_kernels) [[unlikely]]
    return route_row(router, logits.data, out);
  if constexpr (lists_experts<View>) {
    // With fewer tokens, lanes without one cost more than those that a row lacks.
    if (router.has_small_kernel && logits.tokens >= 4) return route_small_rows(router, logits, out);
    if (logits.tokens == 1 && router.has_one_kernel && has_rows_for_one<T>(router)) {
      if constexpr (std::is_same_v<T, float>) {
        OneToken one;
        if (route_one<Arch>(router, logits.data, logits.data, one)) {
          write_one(router, one, out);
          return TokenStatus::ok;
        }
      }
    }
  }
  return route_in_block(router, logits, out);
}

}  // namespace fdroute::inline v0::detail
