#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/views.hpp"

// A kernel does one thing to all tokens of a block. It depends on an instruction set and on few
// other types, lest every router compile kernels of its own; all that it calls is inlined, since a
// call costs more than most of what it would do.
#define FDROUTE_KERNEL [[gnu::flatten, gnu::noinline]]

namespace fdroute::inline v0::detail {

/// How scores come from logits: what need not be subtracted or multiplied is not.
enum class MapKind : std::uint8_t { identity, shift, affine };

/// Some tokens on their way through the kernels, with all that is known of them so far.
///
/// Kernels take the tokens of a block pass by pass. The number of steps of a count is
/// unpredictable, and so is a count: within one pass over everything, each misprediction would
/// throw away work already begun on the next token's exps; and a store that is read back at once,
/// in other pieces, would be waited for.
///
/// The kernels are for *ordinary* rows: neither NaN nor +inf, and some logit finite. -inf, a masked
/// expert, is ordinary.
struct TokenBlock {
  static constexpr int max_tokens = 16;
  static constexpr int max_floats = 4096;
  static constexpr int few = 16;  // candidates that fit in 16 lanes

  /// The number of tokens to take at a time.
  static constexpr int tokens_of(int experts) noexcept {
    return std::min(max_tokens, max_floats / padded_to(64, experts));
  }

  template <class T>
  using PerToken = std::array<T, max_tokens>;

  static constexpr PerToken<double> all(double x) noexcept {
    PerToken<double> result{};
    result.fill(x);
    return result;
  }

  TokenBlock(int n_tokens, int n_experts) noexcept
      : tokens(n_tokens),
        experts(n_experts),
        padded(padded_to(16, n_experts)),
        stride(padded_to(64, n_experts)) {}

  float* copy_of(int token) noexcept { return copies.data() + offset(token, stride); }
  float* exps_of(int token) noexcept { return exps.data() + offset(token, stride); }
  const float* exps_of(int token) const noexcept { return exps.data() + offset(token, stride); }
  float* scores_of(int token) noexcept { return scores.data() + offset(token, stride); }
  const float* scores_of(int token) const noexcept { return scores.data() + offset(token, stride); }
  std::uint64_t* set_of(int token) noexcept { return sets.data() + offset(token, stride / 64); }
  const std::uint64_t* set_of(int token) const noexcept {
    return sets.data() + offset(token, stride / 64);
  }
  std::int32_t* candidate_keys_of(int token) noexcept {
    return candidate_keys.data() + offset(token, 2 * few);
  }
  std::int32_t* candidate_ids_of(int token) noexcept {
    return candidate_ids.data() + offset(token, 2 * few);
  }
  std::int32_t* ranked_of(int token) noexcept { return ranked.data() + offset(token, few); }

  /// The token's selected experts are those of its set.
  bool selects_set(int token) const noexcept {
    const auto at = static_cast<std::size_t>(token);
    return ordinary[at] && count[at] == passing[at];
  }

  const int tokens;
  const int experts;
  const int padded;  // what most kernels read of a row
  const int stride;  // what is there

  PerToken<const float*> rows;  // logits, -inf after the end; the caller's memory, or `copies`
  PerToken<bool> ordinary;
  PerToken<bool> written{};               // nothing is left to do
  alignas(64) PerToken<float> largest{};  // of the row's logits
  alignas(64) PerToken<double> exp_sum = all(1.0);
  PerToken<float> inverse_sum;
  PerToken<ScoreMap> map{};
  PerToken<int> passing;  // the rule's count
  PerToken<int> count;    // within bounds

  // Uninitialised: only what kernels fill is used.
  alignas(64) std::array<float, max_floats> copies;
  alignas(64) std::array<float, max_floats> exps;    // exp(logit - largest)
  alignas(64) std::array<float, max_floats> scores;  // where they are not the logits
  std::array<std::uint64_t, max_floats / 64> sets;   // the experts counted in `passing`
  // Experts among which are the best, in order of their ids, and integers ordered as their logits;
  // compress() writes whole vectors.
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * 2 * few> candidate_keys;
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * 2 * few> candidate_ids;
  PerToken<int> candidates;
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * few> ranked;  // by rank

 private:
  static constexpr std::ptrdiff_t offset(int token, int width) noexcept {
    return std::ptrdiff_t{token} * width;
  }
};

// ---- Loading
// -------------------------------------------------------------------------------------

/// 16 numbers of any type, as floats.
template <class Arch, class T>
FDROUTE_INLINE Floats<Arch> load_floats(const T* from) noexcept {
  constexpr auto width = static_cast<std::ptrdiff_t>(Floats<Arch>::width);
  constexpr bool vectors = !std::is_same_v<Arch, ScalarArch>;
  if constexpr (std::is_same_v<T, float>) {
    return Floats<Arch>::load_anywhere(from);
  } else if constexpr (vectors && logit_format<T> == LogitFormat::bfloat16) {
    return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
      return widen_bfloat16<Arch>(from + static_cast<std::ptrdiff_t>(i) * width, Arch{});
    });
  } else if constexpr (vectors && logit_format<T> == LogitFormat::float16 &&
                       requires { widen_float16<Arch>(from, Arch{}); }) {
    return Floats<Arch>::generate([&](std::size_t i) FDROUTE_INLINED {
      return widen_float16<Arch>(from + static_cast<std::ptrdiff_t>(i) * width, Arch{});
    });
  } else {
    alignas(64) float converted[16];
    for (int j = 0; j < 16; ++j) converted[j] = static_cast<float>(from[j]);
    return Floats<Arch>::load(converted);
  }
}

/// Copies a row of the caller's as floats, to the block's memory.
template <class Arch, class T>
FDROUTE_INLINE void copy_row(const T* from, int experts, int stride, float* to) noexcept {
  constexpr float masked = -std::numeric_limits<float>::infinity();
  int i = 0;
  for (; i + 16 <= experts; i += 16) load_floats<Arch>(from + i).store(to + i);
  if (i < experts) {
    alignas(64) std::array<float, 16> rest;
    rest.fill(masked);
    for (int j = i; j < experts; ++j)
      rest[static_cast<std::size_t>(j - i)] = static_cast<float>(from[j]);
    Floats<Arch>::load(rest.data()).store(to + i);
    i += 16;
  }
  for (; i < stride; i += 16) Floats<Arch>(masked).store(to + i);
}

/// load_rows for one token.
template <class Arch, bool find_largest, class T>
FDROUTE_INLINE void load_row(TokenBlock& block, LogitsView<T> logits, int token) noexcept {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto t = static_cast<std::size_t>(token);
  const int padded = block.padded;
  const float* row = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    if (block.experts == block.stride) row = logits.row(token);
  }
  if (row == nullptr) {
    float* copy = block.copy_of(token);
    copy_row<Arch>(logits.row(token), block.experts, block.stride, copy);
    row = copy;
  }
  block.rows[t] = row;
  Floats<Arch> most(-inf);
  bool below_inf = true;  // which NaN is not
  const auto scan = [&](const auto& x) FDROUTE_INLINED {
    using Lane = std::remove_cvref_t<decltype(x)>;
    const auto max = [](const auto& a, const auto& b) FDROUTE_INLINED { return larger(a, b); };
    below_inf &= (Lane(inf) > x).all();
    if constexpr (find_largest) {
      if constexpr (Lane::size == 64) {
        most = larger(most, halved(halved(x, max), max));
      } else {
        most = larger(most, x);
      }
    }
  };
  int i = 0;
  for (; i + 64 <= padded; i += 64) scan(Floats<Arch, 64>::load_anywhere(row + i));
  for (; i < padded; i += 16) scan(Floats<Arch>::load_anywhere(row + i));
  block.ordinary[t] = below_inf;
  if constexpr (find_largest) {
    block.largest[t] = largest(most);
    block.ordinary[t] = below_inf && block.largest[t] > -inf;
  }
}

/// Fills in rows and ordinary, and, if `find_largest`, largest; without it, ordinary may also hold
/// for a row without any finite logit. Rows of floats whose length needs no padding stay where they
/// are.
template <class Arch, bool find_largest, class T>
FDROUTE_KERNEL void load_rows(TokenBlock& block, LogitsView<T> logits) noexcept {
  for (int t = 0; t < block.tokens; ++t) load_row<Arch, find_largest>(block, logits, t);
}

// ---- Scores
// --------------------------------------------------------------------------------------

/// take_exps for one token.
template <class Arch>
FDROUTE_INLINE void take_exps_of(TokenBlock& block, int token) noexcept {
  const auto t = static_cast<std::size_t>(token);
  if (!block.ordinary[t]) return;
  block.exp_sum[t] =
      exp_sum<Arch>(block.rows[t], block.padded, block.largest[t], block.exps_of(token));
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
  if (block.padded > 64 || !near) {
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
  const auto take = [&](std::size_t t, int padded) FDROUTE_INLINED {
    const Exp exp(block.largest[t], high[t], low[t]);
    exp_sum_of_64(exp, block.rows[t], padded, block.exps_of(static_cast<int>(t)))
        .store(lanes[t].data());
  };
  if (block.padded == 64) {  // known: a loop without branches
    for (std::size_t t = 0; t < tokens; ++t) take(t, 64);
  } else {
    for (std::size_t t = 0; t < tokens; ++t) take(t, block.padded);
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
  log_of_sum(Doubles<Arch>::load(block.exp_sum.data())).store(log.data());
  for (std::size_t t = 0; t < log.size(); ++t)
    block.map[t] = log_softmax_map(block.largest[t], log[t]);
}

/// Fills in ZScore's map.
template <class Arch>
FDROUTE_KERNEL void map_by_zscore(TokenBlock& block) noexcept {
  using Wide = Doubles<Arch>;
  const auto tokens = static_cast<std::size_t>(block.tokens);
  if (tokens == 1) {
    block.map[0] = zscore_map<Arch>(block.rows[0], block.experts, block.padded, block.largest[0]);
    return;
  }
  alignas(64) TokenBlock::PerToken<double> n = TokenBlock::all(1.0);
  alignas(64) TokenBlock::PerToken<double> sums{};
  alignas(64) TokenBlock::PerToken<double> squares{};
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto row = moments<Arch>(block.rows[t], block.experts, block.padded);
    n[t] = row.n;
    sums[t] = row.sum;
    squares[t] = row.squares;
  }
  const Deviation<Wide> rows(
      Moments<Wide>{Wide::load(n.data()), Wide::load(sums.data()), Wide::load(squares.data())});
  alignas(64) TokenBlock::PerToken<double> mean;
  alignas(64) TokenBlock::PerToken<double> variance;
  alignas(64) TokenBlock::PerToken<double> inverse_sd;
  rows.mean.store(mean.data());
  rows.variance.store(variance.data());
  rows.inverse_sd.store(inverse_sd.data());
  for (std::size_t t = 0; t < tokens; ++t) block.map[t] = zscore_map(mean[t], inverse_sd[t]);
  for (std::size_t t = 0; t < tokens; ++t) {
    if (block.ordinary[t] && !accurate(mean[t], variance[t])) [[unlikely]]
      block.map[t] = careful_zscore_map<Arch>(block.rows[t], block.padded, block.largest[t]);
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
