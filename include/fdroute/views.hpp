#pragma once

#include <cstddef>
#include <cstdint>

#include "fdroute/concepts.hpp"

namespace fdroute::inline v0 {

/// Router logits in the caller's memory, shape (tokens, experts), row-major.
///
/// `stride` is the distance between the starts of two rows, in elements: at least `experts`,
/// negative to walk backwards, or 0 for tokens that share one row. A row itself is contiguous. T is
/// float, double, or any type with an explicit conversion to float (Eigen::half, Eigen::bfloat16,
/// an engine's own). Logits are converted to float on load: a double is rounded to nearest, and one
/// beyond float's range becomes an infinity.
template <class T>
struct LogitsView {
  static_assert(LogitValue<T>, "fdroute::LogitsView: T does not convert to float");

  const T* data;
  std::ptrdiff_t tokens;
  int experts;
  std::ptrdiff_t stride;

  constexpr LogitsView(const T* logits, std::ptrdiff_t n_tokens, int n_experts) noexcept
      : LogitsView(logits, n_tokens, n_experts, n_experts) {}

  constexpr LogitsView(const T* logits, std::ptrdiff_t n_tokens, int n_experts,
                       std::ptrdiff_t row_stride) noexcept
      : data(logits), tokens(n_tokens), experts(n_experts), stride(row_stride) {}

  /// The first logit of a token's row.
  constexpr const T* row(std::ptrdiff_t token) const noexcept { return data + token * stride; }

  /// The `count` tokens from `first` on.
  constexpr LogitsView slice(std::ptrdiff_t first, std::ptrdiff_t count) const noexcept {
    return {row(first), count, experts, stride};
  }
};

/// A batch of logits as an engine has it in memory: any strides, a mask of experts for each token,
/// and tokens to skip. route() takes it where it takes a LogitsView; a LogitsView is the faster one
/// where it is enough.
///
/// Logit j of token t is data[t * stride + j * expert_stride]; so (experts, tokens), transposed,
/// has stride 1 and expert_stride tokens, or more. T is as in LogitsView.
///
/// `masks`, shape (tokens, mask_stride), or null for no mask: expert j is allowed to token t if bit
/// j % 64 of word masks[t * mask_stride + j / 64] is set. With mask_stride 0 all tokens have the
/// first one's mask. The token is routed as if the logits of masked experts were -inf (they count
/// among the p-values, as 1, and softmax weights are over the allowed ones), and then masked
/// experts are left out of what is selected: none is ever dispatched, and the count may be below
/// min_k. Padding::repeat_valid repeats the best expert, or expert 0 if that is masked.
///
/// `skip`, shape (tokens), or null: where it is not 0, the token's logits are not read; it has
/// count 0, status ok, and nothing but padding, of id 0 with Padding::repeat_valid.
///
/// Rows are gathered to the stack, a block at a time. A masked row with fewer finite logits than
/// router.capacity() is routed by the definition, which takes several times as long.
template <class T>
struct BatchView {
  static_assert(LogitValue<T>, "fdroute::BatchView: T does not convert to float");

  const T* data;
  std::ptrdiff_t tokens;
  int experts;
  std::ptrdiff_t stride;                 ///< from a token to the next, in elements; any number
  std::ptrdiff_t expert_stride = 1;      ///< from an expert to the next, in elements; any number
  const std::uint64_t* masks = nullptr;  ///< (tokens, mask_stride) words, or null
  std::ptrdiff_t mask_stride = 0;        ///< ceil(experts / 64) words, or more; 0: one for all
  const std::uint8_t* skip = nullptr;    ///< (tokens), or null

  /// The first logit of a token.
  constexpr const T* row(std::ptrdiff_t token) const noexcept { return data + token * stride; }

  /// The words of a token's mask, or null.
  constexpr const std::uint64_t* mask_of(std::ptrdiff_t token) const noexcept {
    return masks == nullptr ? nullptr : masks + token * mask_stride;
  }

  constexpr bool skips(std::ptrdiff_t token) const noexcept {
    return skip != nullptr && skip[token] != 0;
  }

  /// The `count` tokens from `first` on.
  constexpr BatchView slice(std::ptrdiff_t first, std::ptrdiff_t count) const noexcept {
    return {row(first),    count,          experts,     stride,
            expert_stride, mask_of(first), mask_stride, skip == nullptr ? nullptr : skip + first};
  }
};

template <class T>
BatchView(const T*, std::ptrdiff_t, int, std::ptrdiff_t) -> BatchView<T>;
template <class T>
BatchView(const T*, std::ptrdiff_t, int, std::ptrdiff_t, std::ptrdiff_t) -> BatchView<T>;
template <class T>
BatchView(const T*, std::ptrdiff_t, int, std::ptrdiff_t, std::ptrdiff_t, const std::uint64_t*,
          std::ptrdiff_t) -> BatchView<T>;
template <class T>
BatchView(const T*, std::ptrdiff_t, int, std::ptrdiff_t, std::ptrdiff_t, const std::uint64_t*,
          std::ptrdiff_t, const std::uint8_t*) -> BatchView<T>;

/// What route() reads: a LogitsView or a BatchView.
template <class L>
inline constexpr bool is_logits_view = false;
template <class T>
inline constexpr bool is_logits_view<LogitsView<T>> = true;
template <class T>
inline constexpr bool is_logits_view<BatchView<T>> = true;
template <class L>
concept LogitsForm = is_logits_view<L>;

/// What was unusual about a token's row of logits. Values combine as bits, by |.
enum class TokenStatus : std::uint8_t {
  ok = 0,
  has_nan = 1,          ///< some logit is NaN: it ranks below every number, its p-value is 1
  no_finite_logit = 2,  ///< nothing to rank: experts 0..min_k-1 were chosen, with weight 0
};

constexpr TokenStatus operator|(TokenStatus a, TokenStatus b) noexcept {
  return static_cast<TokenStatus>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}

/// Whether `status` has the bit.
constexpr bool has(TokenStatus status, TokenStatus bit) noexcept {
  return (static_cast<std::uint8_t>(status) & static_cast<std::uint8_t>(bit)) != 0;
}

/// What stands in the places of a padded row that its token leaves unused.
enum class Padding : std::uint8_t {
  minus_one,     ///< id -1, weight 0
  repeat_valid,  ///< the id of the token's largest logit, weight 0: for kernels that index blindly
};

/// A routing in padded form, written to the caller's memory.
///
/// Row t of `experts` and `weights`, shape (tokens, capacity), holds token t's `counts[t]` experts
/// in descending order of logit (equal logits: lower index first), then padding. `capacity` must be
/// at least the router's, and Id able to hold every expert's id. An id of -1 in the padding is, in
/// an unsigned Id, its largest value. `status`, shape (tokens), may be null.
template <class Id = std::int32_t>
struct RoutingView {
  Id* experts;           ///< (tokens, capacity)
  float* weights;        ///< (tokens, capacity)
  std::int32_t* counts;  ///< (tokens)
  int capacity;          ///< places of a row
  Padding padding = Padding::minus_one;
  TokenStatus* status = nullptr;  ///< (tokens), or null

  /// The routing of the tokens from `first` on.
  constexpr RoutingView from(std::ptrdiff_t first) const noexcept {
    return {experts + first * capacity,
            weights + first * capacity,
            counts + first,
            capacity,
            padding,
            status == nullptr ? nullptr : status + first};
  }
};

template <class Id>
RoutingView(Id*, float*, std::int32_t*, int) -> RoutingView<Id>;
template <class Id>
RoutingView(Id*, float*, std::int32_t*, int, Padding) -> RoutingView<Id>;
template <class Id>
RoutingView(Id*, float*, std::int32_t*, int, Padding, TokenStatus*) -> RoutingView<Id>;

/// A routing in dense form, written to the caller's memory: row t of `weights`, shape
/// (tokens, experts) with rows `stride` >= experts elements apart, holds the weight of every
/// expert, 0 for those not selected. A selected expert's weight may itself round to 0, so `counts`,
/// shape (tokens), is part of the result. `counts` and `status` may be null.
struct DenseView {
  float* weights;                  ///< (tokens, experts), rows `stride` apart
  std::ptrdiff_t stride;           ///< experts, or more
  std::int32_t* counts = nullptr;  ///< (tokens), or null
  TokenStatus* status = nullptr;   ///< (tokens), or null

  /// The routing of the tokens from `first` on.
  constexpr DenseView from(std::ptrdiff_t first) const noexcept {
    return {weights + first * stride, stride, counts == nullptr ? nullptr : counts + first,
            status == nullptr ? nullptr : status + first};
  }
};

/// The selected sets alone, written to the caller's memory: row t of `words`, shape
/// (tokens, stride), has bit j % 64 of word j / 64 set if expert j is selected; all other bits of
/// the row are 0. No weight is computed. `counts` and `status` may be null.
struct BitmaskView {
  std::uint64_t* words;            ///< (tokens, stride)
  std::ptrdiff_t stride;           ///< words_per_token(experts), or more
  std::int32_t* counts = nullptr;  ///< (tokens), or null
  TokenStatus* status = nullptr;   ///< (tokens), or null

  /// ceil(experts / 64)
  static constexpr int words_per_token(int experts) noexcept {
    return experts / 64 + (experts % 64 != 0 ? 1 : 0);
  }

  /// The routing of the tokens from `first` on.
  constexpr BitmaskView from(std::ptrdiff_t first) const noexcept {
    return {words + first * stride, stride, counts == nullptr ? nullptr : counts + first,
            status == nullptr ? nullptr : status + first};
  }
};

/// A routing in compressed form (compressed sparse rows), written to the caller's memory: token t
/// owns places offsets[t] up to offsets[t + 1] of `experts` and `weights`, in descending order of
/// logit (equal logits: lower index first). A token without experts owns none.
///
/// Shapes: offsets (tokens + 1), from 0 on, so that offsets[tokens] is the number of assignments;
/// experts and weights (assignments). As that number is not known beforehand, route() asks for room
/// for tokens * router.capacity() entries of both; what it leaves in those from offsets[tokens] on
/// is unspecified. `status`, shape (tokens), may be null.
template <class Id = std::int32_t>
struct CsrView {
  std::int64_t* offsets;          ///< (tokens + 1)
  Id* experts;                    ///< (assignments)
  float* weights;                 ///< (assignments)
  TokenStatus* status = nullptr;  ///< (tokens), or null

  /// The routing of the tokens from `first` on; their places are numbered as before.
  constexpr CsrView from(std::ptrdiff_t first) const noexcept {
    return {offsets + first, experts, weights, status == nullptr ? nullptr : status + first};
  }
};

template <class Id>
CsrView(std::int64_t*, Id*, float*) -> CsrView<Id>;
template <class Id>
CsrView(std::int64_t*, Id*, float*, TokenStatus*) -> CsrView<Id>;

}  // namespace fdroute::inline v0
