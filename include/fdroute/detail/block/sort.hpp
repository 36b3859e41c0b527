#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "fdroute/detail/block/token_block.hpp"

namespace fdroute::inline v0::detail {

/// Sorts columns in descending order by a network of comparators, which has no branch: a lane is a
/// column, so a comparator is a minimum and a maximum of registers. Element i of all columns starts
/// at x + lanes i.
template <class Arch, int lanes>
class ColumnSort {
  using Register = RegisterOfAtMost<lanes, Arch>;

 public:
  static constexpr int width = sizeof(Register) / sizeof(float);

  explicit ColumnSort(float* x) noexcept : x_(x) {}

  /// Sorts n elements, 16 times a power of two; only the `first` largest, at least 1, will be
  /// right.
  FDROUTE_INLINE void sort(int n, int first) const noexcept {
    for (int at = 0; at < n; at += 16) sort_16(at);
    for (int size = 16; size < n; size *= 2) {
      // The last merge need only get the first elements right.
      const int end = 2 * size == n ? first : n;
      for (int at = 0; at < end; at += 2 * size) merge(at, size, std::min(2 * size, end - at));
    }
  }

 private:
  FDROUTE_INLINE Register load(int i) const noexcept {
    return load_aligned<Register>(x_ + std::ptrdiff_t{lanes} * i);
  }
  FDROUTE_INLINE void store(const Register& value, int i) const noexcept {
    store_aligned(value, x_ + std::ptrdiff_t{lanes} * i);
  }

  FDROUTE_INLINE void compare(int i, int j) const noexcept {
    const Register a = load(i);
    const Register b = load(j);
    store(larger(a, b), i);
    store(smaller(a, b), j);
  }

  using Sixteen = std::array<Register, 16>;

  template <std::size_t i, std::size_t j>
  static FDROUTE_INLINE void compare(Sixteen& v) noexcept {
    const Register a = v[i];
    v[i] = larger(a, v[j]);
    v[j] = smaller(a, v[j]);
  }

  /// Comparators of (i, i + distance) for all i without that bit.
  template <std::size_t distance>
  static FDROUTE_INLINE void compare_all(Sixteen& v) noexcept {
    [&]<std::size_t... I>(std::index_sequence<I...>) FDROUTE_INLINED {
      (compare<(I / distance) * 2 * distance + I % distance,
               (I / distance) * 2 * distance + I % distance + distance>(v),
       ...);
    }
    (std::make_index_sequence<8>{});
  }

  FDROUTE_INLINE Sixteen load_16(int at) const noexcept {
    Sixteen v;
    unrolled<16>([&](std::size_t i) FDROUTE_INLINED { v[i] = load(at + static_cast<int>(i)); });
    return v;
  }
  FDROUTE_INLINE void store_16(const Sixteen& v, int at) const noexcept {
    unrolled<16>([&](std::size_t i) FDROUTE_INLINED { store(v[i], at + static_cast<int>(i)); });
  }

  /// M. W. Green's network of 60 comparators; D. E. Knuth, The Art of Computer Programming 3,
  /// section 5.3.4.
  FDROUTE_INLINE void sort_16(int at) const noexcept {
    Sixteen v = load_16(at);
    compare_all<1>(v);
    compare_all<2>(v);
    compare_all<4>(v);
    compare_all<8>(v);
    compare<5, 10>(v);
    compare<6, 9>(v);
    compare<3, 12>(v);
    compare<13, 14>(v);
    compare<4, 8>(v);
    compare<7, 11>(v);
    compare<1, 2>(v);
    compare<1, 4>(v);
    compare<7, 13>(v);
    compare<2, 8>(v);
    compare<11, 14>(v);
    compare<2, 4>(v);
    compare<5, 6>(v);
    compare<9, 10>(v);
    compare<11, 13>(v);
    compare<3, 8>(v);
    compare<7, 12>(v);
    compare<6, 8>(v);
    compare<10, 12>(v);
    compare<3, 5>(v);
    compare<7, 9>(v);
    compare<3, 4>(v);
    compare<5, 6>(v);
    compare<7, 8>(v);
    compare<9, 10>(v);
    compare<11, 12>(v);
    compare<6, 7>(v);
    compare<8, 9>(v);
    store_16(v, at);
  }

  /// Merges two sorted runs of `size`, as far as the `first` largest: K. E. Batcher's bitonic
  /// merge.
  FDROUTE_INLINE void merge(int at, int size, int first) const noexcept {
    for (int i = 0; i < size; ++i) compare(at + i, at + 2 * size - 1 - i);
    for (int distance = size / 2; distance >= 16; distance /= 2) {
      for (int from = 0; from < first; from += 2 * distance) {
        for (int i = 0; i < distance; ++i) compare(at + from + i, at + from + i + distance);
      }
    }
    for (int from = 0; from < first; from += 16) {
      Sixteen v = load_16(at + from);
      compare_all<8>(v);
      compare_all<4>(v);
      compare_all<2>(v);
      compare_all<1>(v);
      store_16(v, at + from);
    }
  }

  float* x_;
};

/// Sorts sixteen columns of sixteen elements.
template <class Arch>
FDROUTE_INLINE void sort_columns_of_16(float* x) noexcept {
  using Sort = ColumnSort<Arch, 16>;
  for (int lane = 0; lane < 16; lane += Sort::width) Sort(x + lane).sort(16, 16);
}

/// Rows of logits, a token to a column: element i of all tokens starts at lanes i. The longer they
/// are, the fewer fit.
template <int lanes>
struct Columns {
  static constexpr int longest = TokenBlock::max_floats / lanes;

  float at(int column, int i) const noexcept {
    return x[static_cast<std::size_t>(lanes * i + column)];
  }

  /// The first elements of a column.
  FDROUTE_INLINE void copy(int column, int count, float* to) const noexcept {
    for (int i = 0; i < count; ++i) to[i] = at(column, i);
  }

  /// Writes the first elements of the columns of the tokens from `token` on to their rows of
  /// scores, a multiple of 16.
  template <class Arch>
  FDROUTE_INLINE void copy_all(TokenBlock& block, int token, int count) const noexcept {
    if constexpr (lanes == 16) {
      for (int i = 0; i < count; i += 16) {
        std::array<const float*, 16> rows;
        for (std::size_t j = 0; j < rows.size(); ++j)
          rows[j] = x.data() + lanes * i + std::size_t{lanes} * j;
        transpose_16(rows.data(), block.scores_of(0) + i, block.stride_64, Arch{});
      }
    } else {
      const int end = std::min(token + lanes, block.tokens);
      for (int t = token; t < end; ++t) copy(t - token, count, block.scores_of(t));
    }
  }

  /// Sorts the columns of the tokens from `token` on, as many as there are lanes: their first
  /// elements are the `first` largest logits in descending order. Of rows that are not ordinary,
  /// and of columns that belong to no token, anything.
  template <class Arch>
  FDROUTE_INLINE void sort(const TokenBlock& block, int token, int first) noexcept {
    using Sort = ColumnSort<Arch, lanes>;
    const int n = static_cast<int>(std::bit_ceil(static_cast<unsigned>(block.padded_16)));
    const int tokens = std::min(lanes, block.tokens - token);
    std::array<const float*, lanes> rows;
    rows.fill(block.rows[static_cast<std::size_t>(token)]);
    std::copy_n(block.rows.begin() + token, tokens, rows.begin());
    if constexpr (lanes == 16) {
      for (int i = 0; i < block.padded_16; i += 16) {
        transpose_16(rows.data(), x.data() + lanes * i, lanes, Arch{});
        for (const float*& row : rows) row += 16;
      }
    } else {
      for (int i = 0; i < block.padded_16; ++i) {
        for (std::size_t t = 0; t < rows.size(); ++t)
          x[static_cast<std::size_t>(lanes * i) + t] = rows[t][i];
      }
    }
    std::fill(x.begin() + lanes * block.padded_16, x.begin() + lanes * n,
              -std::numeric_limits<float>::infinity());
    for (int lane = 0; lane < tokens; lane += Sort::width) Sort(x.data() + lane).sort(n, first);
  }

  alignas(64) std::array<float, TokenBlock::max_floats> x;
};

template <class Arch, int lanes>
FDROUTE_KERNEL void sort_rows_by(TokenBlock& block, int first) noexcept {
  Columns<lanes> columns;
  for (int token = 0; token < block.tokens; token += lanes) {
    columns.template sort<Arch>(block, token, first);
    columns.template copy_all<Arch>(block, token, padded_to(16, first));
  }
}

/// One token, for which sixteen columns would be sorted in vain. It takes steps in the square of
/// the row's length.
inline bool sorts_alone(const TokenBlock& block) noexcept {
  return block.tokens == 1 && block.stride_64 <= 256;
}

/// Sorts one row in descending order: an element's place is how many are larger, or as large and
/// earlier. `x` is `padded` long, a multiple of 16 up to 256, and -inf after its n numbers; so is
/// `sorted`.
template <class Arch>
FDROUTE_KERNEL void sort_row(const float* x, int n, int padded, float* sorted) noexcept {
  using Lane = Ints<Arch>;
  alignas(64) std::array<std::int32_t, 256> keys;
  alignas(64) std::array<std::int32_t, 256> places;
  for (int i = 0; i < padded; i += 16) {
    ordered(Floats<Arch>::load_anywhere(x + i)).store(keys.data() + i);
    std::fill_n(sorted + i, 16, -std::numeric_limits<float>::infinity());
  }
  for (int i = 0; i < n; i += 16) {
    const Lane own = Lane::load(keys.data() + i);
    Lane place(0);
    const auto count = [&](int from, int end, const auto& key_of) FDROUTE_INLINED {
      for (int j = from; j < end; ++j)
        place = count_where(Lane(keys[static_cast<std::size_t>(j)]) > key_of(j), place);
    };
    const Lane below = own + Lane(-1);  // what is earlier wins against an equal
    const auto lanes = Lane::load(lane_numbers.data());
    count(0, i, [&](int) FDROUTE_INLINED { return below; });
    count(i, std::min(i + 16, n),
          [&](int j) FDROUTE_INLINED { return choose(lanes > Lane(j - i), below, own); });
    count(i + 16, n, [&](int) FDROUTE_INLINED { return own; });
    place.store(places.data() + i);
  }
  for (int i = 0; i < n; ++i) sorted[places[static_cast<std::size_t>(i)]] = x[i];
}

/// Makes the first elements of every row of `scores` the row's `first` largest logits in descending
/// order, and whatever up to the next multiple of 16. Of rows that are not ordinary, anything.
template <class Arch>
void sort_rows(TokenBlock& block, int first) noexcept {
  if (sorts_alone(block))
    return sort_row<Arch>(block.rows[0], block.experts, block.padded_16, block.scores_of(0));
  if (block.padded_16 <= Columns<16>::longest) return sort_rows_by<Arch, 16>(block, first);
  if (block.padded_16 <= Columns<8>::longest) return sort_rows_by<Arch, 8>(block, first);
  sort_rows_by<Arch, 4>(block, first);
}

}  // namespace fdroute::inline v0::detail
