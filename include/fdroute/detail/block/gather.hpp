#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/route_row.hpp"
#include "fdroute/views.hpp"

// Blocks of a BatchView: rows are gathered as floats, side by side, and routed as a LogitsView.

namespace fdroute::inline v0::detail {

template <class Logits>
inline constexpr bool is_batch = false;
template <class T>
inline constexpr bool is_batch<BatchView<T>> = true;

constexpr bool has_bit(const std::uint64_t* words, std::ptrdiff_t j) noexcept {
  return (words[j / 64] >> (j % 64) & 1U) != 0;
}

/// Copies a token's logits, -inf for those that its mask does not allow. Returns how many of the
/// copied are finite, without those that a bias of -inf masks.
template <class T>
int gather_row(const BatchView<T>& batch, std::ptrdiff_t token, const float* bias,
               float* to) noexcept {
  const T* from = batch.row(token);
  const std::uint64_t* mask = batch.mask_of(token);
  constexpr float inf = std::numeric_limits<float>::infinity();
  int finite = 0;
  for (int j = 0; j < batch.experts; ++j) {
    float logit = static_cast<float>(from[j * batch.expert_stride]);
    if (mask != nullptr && !has_bit(mask, j)) logit = -inf;
    finite += static_cast<int>(logit > -inf && logit < inf && (bias == nullptr || bias[j] > -inf));
    to[j] = logit;
  }
  return finite;
}

/// Routes one gathered row by the definition and leaves masked experts out of what is selected.
template <class View>
[[gnu::noinline]] TokenStatus route_masked_row(const ErasedRouter& router, const float* logits,
                                               const std::uint64_t* mask, View out) noexcept {
  RoutedRow row;
  router.calls->select(router.parts, {logits, static_cast<std::size_t>(router.experts)}, row);
  const std::int32_t best = has_bit(mask, row.experts[0]) ? row.experts[0] : 0;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(row.count); ++i) {
    if (!has_bit(mask, row.experts[i])) continue;
    row.experts[kept] = row.experts[i];
    row.weights[kept++] = row.weights[i];
  }
  write_row(out, {{row.experts.data(), kept}, row.weights.data(), best, row.status},
            router.experts);
  return row.status;
}

/// Routes a block of a BatchView: `route(LogitsView<float>, view)` routes rows without a skipped
/// one between them.
///
/// By a KeyRecipe a masked expert stands behind every finite logit, so that it is selected only
/// where there are fewer of those than the router may select. Such rows, and all masked ones of
/// another ranking, are left to the definition.
template <class T, class View, class Route>
TokenStatus route_gathered(const ErasedRouter& router, const BatchView<T>& batch, View out,
                           const Route& route) noexcept {
  alignas(64) std::array<float, TokenBlock::max_floats> rows;
  if constexpr (std::is_same_v<T, float>) {
    if (batch.stride == 1 && batch.tokens > 1 && batch.masks == nullptr && batch.skip == nullptr) {
      const int stride = padded_to(16, router.experts);
      router.calls->load_tiles(batch.data, batch.expert_stride, static_cast<int>(batch.tokens),
                               router.experts, rows.data(), stride);
      return route(LogitsView<float>(rows.data(), batch.tokens, router.experts, stride), out);
    }
  }
  std::ptrdiff_t waiting = 0;  // rows that are gathered and not routed yet
  TokenStatus status = TokenStatus::ok;
  const auto route_waiting = [&](std::ptrdiff_t end) {
    if (waiting == 0) return;
    status = status | route(LogitsView<float>(rows.data(), waiting, router.experts),
                            out.from(end - waiting));
    waiting = 0;
  };
  for (std::ptrdiff_t t = 0; t < batch.tokens; ++t) {
    if (batch.skips(t)) {
      route_waiting(t);
      write_row(out.from(t), RowToWrite{{}, nullptr, 0}, router.experts);
      continue;
    }
    float* row = rows.data() + waiting * router.experts;
    const int finite = gather_row(batch, t, router.keys.bias, row);
    const std::uint64_t* mask = batch.mask_of(t);
    if (mask == nullptr || (router.has_key_recipe && finite >= router.capacity)) {
      ++waiting;
      continue;
    }
    route_waiting(t);
    status = status | route_masked_row(router, row, mask, out.from(t));
  }
  route_waiting(batch.tokens);
  return status;
}

}  // namespace fdroute::inline v0::detail
