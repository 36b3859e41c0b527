#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fdroute/concepts.hpp"
#include "fdroute/output/bitmask_view.hpp"
#include "fdroute/output/csr_view.hpp"
#include "fdroute/output/dense_view.hpp"
#include "fdroute/output/routing_view.hpp"
#include "fdroute/output/row.hpp"

// The views that route() reads, here, and those that it writes, each in a file of output/.

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

namespace detail {

/// The routing of a view that lists experts, as the view's file says.
template <class View>
void write_row(const View& out, const RowToWrite& row, int) noexcept requires lists_experts<View> {
  using Id = std::remove_pointer_t<decltype(out.experts)>;
  const auto count = static_cast<int>(row.experts.size());
  const Places<Id> to = places_of(out, count, static_cast<Id>(row.best));
  std::transform(row.experts.begin(), row.experts.end(), to.experts,
                 [](std::int32_t expert) { return static_cast<Id>(expert); });
  std::copy_n(row.weights, count, to.weights);
  write_rest(out, count, to.padding, count);
  write_status(out, row.status);
}

}  // namespace detail
}  // namespace fdroute::inline v0
