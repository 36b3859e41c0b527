#pragma once

#include <array>
#include <cstddef>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/detail/simd/lanes.hpp"

namespace fdroute::inline v0::detail {

/// body(i, load) for each register of sixteen tokens' doubles, from token i on, which load(array)
/// loads. No token waits for another: all at once would only be longer code.
template <class Arch, class Body>
FDROUTE_INLINE void by_registers(const Body& body) noexcept {
  using Some = Doubles<Arch, Doubles<Arch>::width>;
  for (std::size_t i = 0; i < TokenBlock::max_tokens; i += Some::width) {
    body(i, [i](const TokenBlock::PerToken<double>& of)
                FDROUTE_INLINED { return Some::load(of.data() + i); });
  }
}

/// take_exps() for one token.
template <class Arch>
FDROUTE_INLINE void take_exps_of(TokenBlock& block, int token) noexcept {
  const auto t = static_cast<std::size_t>(token);
  if (!block.ordinary[t]) return;
  block.exp_sum[t] =
      exp_sum<Arch>(block.rows[t], block.padded_16, block.largest[t], block.exps_of(token));
  block.inverse_sum[t] = static_cast<float>(1.0 / block.exp_sum[t]);
}

/// Fills in exps, exp_sum and inverse_sum.
template <class Arch>
FDROUTE_KERNEL void take_exps(TokenBlock& block) noexcept {
  using Exp = ExpOfDifference<Arch>;
  using Lane = Floats<Arch>;
  if (block.tokens == 1) return take_exps_of<Arch>(block, 0);
  const Lane largest = Lane::load(block.largest.data());
  const bool near = (Lane(Exp::limit) >= largest).all() && (Lane(-Exp::limit) <= largest).all();
  if (block.padded_16 > 64 || !near) {
    for (int t = 0; t < block.tokens; ++t) take_exps_of<Arch>(block, t);
    return;
  }
  // What is one number per token is computed for all tokens at once.
  alignas(64) TokenBlock::PerToken<float> high;
  alignas(64) TokenBlock::PerToken<float> low;
  Exp::high_part(largest).store(high.data());
  (largest - Exp::high_part(largest)).store(low.data());
  alignas(64) TokenBlock::PerToken<std::array<float, 16>> lanes;
  const auto tokens = static_cast<std::size_t>(block.tokens);
  const auto each = [&](const auto& sum_of) FDROUTE_INLINED {
    for (std::size_t t = 0; t < tokens; ++t) {
      const Exp exp(block.largest[t], high[t], low[t]);
      sum_of(exp, block.rows[t], block.exps_of(static_cast<int>(t))).store(lanes[t].data());
    }
  };
  if (block.padded_16 == 64) {  // known: a loop without branches
    each([](const Exp& exp, const float* x, float* e)
             FDROUTE_INLINED { return exp_sum_of_64(exp, x, e); });
  } else {
    each([&](const Exp& exp, const float* x, float* e)
             FDROUTE_INLINED { return exp_sum_by_16(exp, x, block.padded_16, e); });
  }
  for (std::size_t t = 0; t < tokens; ++t)
    block.exp_sum[t] = sum(widen(Lane::load(lanes[t].data())));
  alignas(64) TokenBlock::PerToken<double> inverse;
  (Doubles<Arch>(1.0) / Doubles<Arch>::load(block.exp_sum.data())).store(inverse.data());
  for (std::size_t t = 0; t < inverse.size(); ++t)
    block.inverse_sum[t] = static_cast<float>(inverse[t]);
}

/// Fills in LogSoftmax's map, from exp_sum.
template <class Arch>
FDROUTE_KERNEL void map_by_log_softmax(TokenBlock& block) noexcept {
  if (block.tokens == 1) {
    block.map[0] = log_softmax_map(block.largest[0], log_of_sum(block.exp_sum[0]));
    return;
  }
  alignas(64) TokenBlock::PerToken<double> log;
  by_registers<Arch>([&](std::size_t i, const auto& load) FDROUTE_INLINED {
    log_of_sum(load(block.exp_sum)).store(log.data() + i);
  });
  for (std::size_t t = 0; t < log.size(); ++t)
    block.map[t] = log_softmax_map(block.largest[t], log[t]);
}

/// Fills in ZScore's map.
template <class Arch>
FDROUTE_KERNEL void map_by_zscore(TokenBlock& block) noexcept {
  const auto tokens = static_cast<std::size_t>(block.tokens);
  if (tokens == 1) {
    block.map[0] =
        zscore_map<Arch>(block.rows[0], block.experts, block.padded_16, block.largest[0]);
    return;
  }
  alignas(64) TokenBlock::PerToken<double> n = TokenBlock::all(1.0);
  alignas(64) TokenBlock::PerToken<double> sums{};
  alignas(64) TokenBlock::PerToken<double> squares{};
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto row = moments<Arch>(block.rows[t], block.experts, block.padded_16);
    n[t] = row.n;
    sums[t] = row.sum;
    squares[t] = row.squares;
  }
  alignas(64) TokenBlock::PerToken<double> mean;
  alignas(64) TokenBlock::PerToken<double> variance;
  alignas(64) TokenBlock::PerToken<double> inverse_sd;
  by_registers<Arch>([&](std::size_t i, const auto& load) FDROUTE_INLINED {
    using V = decltype(load(n));
    const Deviation<V> rows(Moments<V>{load(n), load(sums), load(squares)});
    rows.mean.store(mean.data() + i);
    rows.variance.store(variance.data() + i);
    rows.inverse_sd.store(inverse_sd.data() + i);
  });
  for (std::size_t t = 0; t < tokens; ++t) block.map[t] = zscore_map(mean[t], inverse_sd[t]);
  for (std::size_t t = 0; t < tokens; ++t) {
    if (block.ordinary[t] && !accurate(mean[t], variance[t])) [[unlikely]]
      block.map[t] = careful_zscore_map<Arch>(block.rows[t], block.padded_16, block.largest[t]);
  }
}

template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> score(const Floats<Arch, n>& logits, const ScoreMap& map,
                                     MapKind kind) noexcept {
  if (kind == MapKind::identity) return logits;
  const auto difference = logits - Floats<Arch, n>(map.shift);
  return kind == MapKind::shift ? difference : difference * Floats<Arch, n>(map.scale);
}

}  // namespace fdroute::inline v0::detail
