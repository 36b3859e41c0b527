#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "fdroute/fdroute.hpp"

namespace bench {

/// Memory that begins at a cache line, as engines' buffers do.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) noexcept {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete (p, std::align_val_t{64}); }
  bool operator==(const LineAllocator&) const = default;
};
template <class T>
using Buffer = std::vector<T, LineAllocator<T>>;

/// Rows of router logits, shape (tokens, experts), drawn from
///
///     -2.85 + 0.75 (normal + boost),   boost exponential of mean 0.7 with probability 0.2, else 0
///
/// which has the mean, deviation, skewness and order statistics of the bundled OLMoE's layers 1 to
/// 3 (reference/model/capture.safetensors: mean -2.8, deviation 0.88, skewness 0.42, largest of 64
/// experts 2.8 deviations above the mean, 8th largest 1.2).
inline Buffer<float> router_logits(std::ptrdiff_t tokens, int experts, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::exponential_distribution<float> boost(1.0F / 0.7F);
  std::bernoulli_distribution boosted(0.2);
  Buffer<float> logits(static_cast<std::size_t>(tokens * experts));
  for (float& x : logits)
    x = -2.85F + 0.75F * (normal(random) + (boosted(random) ? boost(random) : 0.0F));
  return logits;
}

/// A null distribution of 1001 points fitted to the scores of `logits`, each token's 8 largest (an
/// eighth of them, if there are fewer than 64 experts) left out.
template <class Score>
fdroute::TabulatedNull trimmed_null(const Buffer<float>& logits, int experts, Score score) {
  const auto width = static_cast<std::size_t>(experts);
  std::vector<double> scores;
  std::vector<float> row(width);
  for (std::size_t first = 0; first + width <= logits.size(); first += width) {
    std::copy_n(logits.begin() + static_cast<std::ptrdiff_t>(first), width, row.begin());
    const fdroute::ScoreMap map = score(std::span<const float>(row));
    std::sort(row.begin(), row.end());
    for (std::size_t j = 0; j < width - std::min<std::size_t>(8, width / 8); ++j)
      scores.push_back(static_cast<double>(map(row[j])));
  }
  std::sort(scores.begin(), scores.end());
  constexpr std::size_t points = 1001;
  std::vector<double> grid;
  std::vector<double> log_sf;
  for (std::size_t i = 0; i < points; ++i) {
    const std::size_t at = i * (scores.size() - 1) / (points - 1);
    if (!grid.empty() && !(scores[at] > grid.back())) continue;
    grid.push_back(scores[at]);
    const auto above = static_cast<double>(scores.size() - at);
    log_sf.push_back(std::log(above / static_cast<double>(scores.size())));
  }
  fdroute::NullProvenance fit;
  fit.score = std::string(Score::name);
  return fdroute::TabulatedNull::from_log_survival(std::move(grid), std::move(log_sf), fit);
}

}  // namespace bench
