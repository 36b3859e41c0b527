#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/limits.hpp"

// A kernel does one thing to all tokens of a block. It depends on an instruction set and on few
// other types, lest every router compile kernels of its own; all that it calls is inlined, since a
// call costs more than most of what it would do.
#define FDROUTE_KERNEL [[gnu::flatten, gnu::noinline]]

namespace fdroute::inline v0::detail {

/// Which steps of the score map a kernel must do: none, subtract the shift, or subtract and scale.
enum class MapKind : std::uint8_t { identity, shift, affine };

/// Some tokens on their way through the kernels, with all that is known of them so far.
///
///     field                                     filled by
///     rows, ordinary, largest                   load_rows (load.hpp)
///     exps, exp_sum, inverse_sum                take_exps (scores.hpp)
///     map                                       map_by_log_softmax, map_by_zscore (scores.hpp)
///     scores                                    counts: scores, or logits sorted (sort.hpp)
///     sets, set_size, count                     count_* (count_by_*.hpp), find_sets
///     candidates, candidate_*, ranked; sets     rank_best (rank.hpp), route_one (one_token.hpp)
///     is_ranked                                 counts that rank before they count
///     weights                                   weigh_ranked (weigh.hpp)
///
/// Where experts rank by other keys than their logits, the keys are the rows of a block of their
/// own (keys.hpp): it is counted and ranked, and its weights are made of the block of the logits.
///
/// `ordinary` is cleared by count_* where a row proves to have no finite logit. What is marked so
/// is left to the definition: ordinary == false, and, after rank_best, candidates == 0. A set_size
/// of -1 says that `sets` does not hold the counted experts.
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
  static constexpr int most_listed = 16;  // the most candidates that are ranked in 16 lanes

  /// The number of tokens to take at a time.
  static constexpr int tokens_of(int experts) noexcept {
    // A table: the division would be long in what one token takes.
    constexpr auto by_stride = [] {
      std::array<std::int8_t, max_experts / 64> most{};
      for (int i = 0; i < max_experts / 64; ++i) {
        most[static_cast<std::size_t>(i)] =
            static_cast<std::int8_t>(std::min(max_tokens, max_floats / (64 * (i + 1))));
      }
      return most;
    }();
    return by_stride[static_cast<std::size_t>((experts - 1) / 64)];
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
        padded_16(padded_to(16, n_experts)),
        stride_64(padded_to(64, n_experts)) {}

  float* copy_of(int token) noexcept { return copies.data() + offset(token, stride_64); }
  float* exps_of(int token) noexcept { return exps.data() + offset(token, stride_64); }
  const float* exps_of(int token) const noexcept { return exps.data() + offset(token, stride_64); }
  float* scores_of(int token) noexcept { return scores.data() + offset(token, stride_64); }
  const float* scores_of(int token) const noexcept {
    return scores.data() + offset(token, stride_64);
  }
  std::uint64_t* set_of(int token) noexcept { return sets.data() + offset(token, stride_64 / 64); }
  const std::uint64_t* set_of(int token) const noexcept {
    return sets.data() + offset(token, stride_64 / 64);
  }
  std::int32_t* candidate_keys_of(int token) noexcept {
    return candidate_keys.data() + offset(token, 2 * most_listed);
  }
  std::int32_t* candidate_ids_of(int token) noexcept {
    return candidate_ids.data() + offset(token, 2 * most_listed);
  }
  float* weights_of(int token) noexcept { return weights.data() + offset(token, most_listed); }
  const float* weights_of(int token) const noexcept {
    return weights.data() + offset(token, most_listed);
  }
  std::int32_t* ranked_of(int token) noexcept { return ranked.data() + offset(token, most_listed); }
  const std::int32_t* ranked_of(int token) const noexcept {
    return ranked.data() + offset(token, most_listed);
  }

  /// The token's selected experts are those of its set.
  bool selects_set(int token) const noexcept {
    const auto at = static_cast<std::size_t>(token);
    return ordinary[at] && count[at] == set_size[at];
  }

  const int tokens;
  const int experts;
  const int padded_16;  // row length rounded up to 16: what kernels read
  const int stride_64;  // ... to 64: distance between two rows

  PerToken<const float*> rows;  // logits, -inf after the end; the caller's memory, or `copies`
  PerToken<bool> ordinary;      // see above
  bool is_ranked = false;       // a count has ranked already: rank_best() is not to
  alignas(64) PerToken<float> largest{};  // of the row's logits
  alignas(64) PerToken<double> exp_sum = all(1.0);
  PerToken<float> inverse_sum;
  PerToken<ScoreMap> map{};
  PerToken<int> set_size;  // experts in the token's set; -1: there is no such set
  PerToken<int> count;     // experts to select: the rule's count within bounds

  // Uninitialised: only what kernels fill is used.
  alignas(64) std::array<float, max_floats + 16> copies;  // a group's last vector may end later
  alignas(64) std::array<float, max_floats> exps;         // exp(logit - largest)
  alignas(64) std::array<float, max_floats> scores;       // where they are not the logits
  std::array<std::uint64_t, max_floats / 64> sets;        // an expert's bit: j % 64 of word j / 64
  // Experts among which are the best, in order of their ids, and integers ordered as their logits;
  // compress() writes whole vectors.
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * 2 * most_listed> candidate_keys;
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * 2 * most_listed> candidate_ids;
  PerToken<int> candidates;
  alignas(64) std::array<std::int32_t, std::size_t{max_tokens} * most_listed> ranked;  // by rank
  alignas(64) std::array<float, std::size_t{max_tokens} * most_listed> weights;  // of the ranked

 private:
  static constexpr std::ptrdiff_t offset(int token, int width) noexcept {
    return std::ptrdiff_t{token} * width;
  }
};

}  // namespace fdroute::inline v0::detail
