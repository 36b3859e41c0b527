#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0 {

/// ExpertSet: a set of experts in memory of its own, 128 bytes. Expert j, 0 <= j < max_experts, is
/// bit j % 64 of words[j / 64], as in a row of a BitmaskView.
struct ExpertSet {
  std::array<std::uint64_t, max_experts / 64> words{};

  constexpr bool contains(int expert) const noexcept {
    return (words[static_cast<std::size_t>(expert) / 64] >> (expert % 64) & 1U) != 0;
  }

  constexpr void insert(int expert) noexcept {
    words[static_cast<std::size_t>(expert) / 64] |= std::uint64_t{1} << (expert % 64);
  }

  constexpr void erase(int expert) noexcept {
    words[static_cast<std::size_t>(expert) / 64] &= ~(std::uint64_t{1} << (expert % 64));
  }

  /// The number of experts in the set.
  constexpr int size() const noexcept {
    int n = 0;
    for (const std::uint64_t word : words) n += std::popcount(word);
    return n;
  }

  friend constexpr bool operator==(const ExpertSet&, const ExpertSet&) = default;
};

/// Residency: which experts cost a token nothing now, because another token of the batch, a cache
/// or a draft's verification pays for them, in the caller's memory.
///
/// Expert j is resident for token t if bit j % 64 of words[t * stride + j / 64] is set. With stride
/// 0 all tokens have one mask, of BitmaskView::words_per_token(experts) words; else `stride` is at
/// least that. fdroute/residency.hpp makes such masks.
struct Residency {
  const std::uint64_t* words;
  std::ptrdiff_t stride = 0;

  /// A mask for each token, or one for all.
  constexpr explicit Residency(const std::uint64_t* mask, std::ptrdiff_t mask_stride = 0) noexcept
      : words(mask), stride(mask_stride) {}

  /// One set for all tokens. It must outlive the calls that read it.
  constexpr Residency(const ExpertSet& set) noexcept : words(set.words.data()) {}

  /// The words of a token's mask.
  constexpr const std::uint64_t* mask_of(std::ptrdiff_t token) const noexcept {
    return words + token * stride;
  }

  /// The residency of the tokens from `first` on.
  constexpr Residency from(std::ptrdiff_t first) const noexcept {
    return Residency(mask_of(first), stride);
  }
};

/// Completion: how far complete() goes. Resident experts among a token's `window` best may be
/// added, as long as the token has fewer than `max_k` experts. Both are at least 1; numbers above
/// that of the experts mean all of them.
struct Completion {
  int window = 8;
  int max_k = 8;

  /// Throws std::invalid_argument unless both are at least 1.
  void validate() const {
    if (window < 1 || max_k < 1) {
      detail::refuse("Completion: window and max_k must be at least 1, got window ", window,
                     ", max_k ", max_k);
    }
  }
};

}  // namespace fdroute::inline v0
