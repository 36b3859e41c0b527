#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "fdroute/detail/lanes.hpp"

namespace fdroute::inline v0::detail {

/// 2^y in double for y <= 0, exactly 1 at 0; 0 from -1075 on. V is double or Doubles.
///
/// Within 1.5 ulp where it is a normal number, and within the smallest double below that. With
/// n = floor(y) and f = y - n, which is exact, it is 2^n (1 + f q(f)), q a polynomial made for f in
/// [0, 1] whose coefficients are all positive. Every operation on f is then one that does not
/// decrease, before and after rounding, and so the result does not decrease with y.
template <class V>
FDROUTE_INLINE V power_of_two(V y) noexcept {
  constexpr double magic = 0x1.8p52 + 64.0;  // its last bits are n + 64
  y = larger(y, V(-1080.0));
  const V shifted = (y - V(0.5)) + V(magic);
  const V f = y - (shifted - V(magic));
  const V f2 = product(f, f);
  const V f4 = product(f2, f2);
  const V q0 = V(0x1.62e42fefa39efp-1) + product(f, V(0x1.ebfbdff82c4ffp-3));
  const V q2 = V(0x1.c6b08d704fa4fp-5) + product(f, V(0x1.3b2ab6fa48563p-7));
  const V q4 = V(0x1.5d87fecf83f7bp-10) + product(f, V(0x1.4309065c8357ap-13));
  const V q6 = V(0x1.ffce434c232f0p-17) + product(f, V(0x1.629e703ac7f08p-20));
  const V q8 = V(0x1.b7a2459dca29cp-24) + product(f, V(0x1.c7ea67ee59ebfp-28));
  const V high = q8 + product(f2, V(0x1.509edf2ecfdf8p-31));
  const V q = ((q0 + product(f2, q2)) + product(f4, q4 + product(f2, q6))) +
              product(product(f4, f4), high);
  const V mantissa = smaller(V(1.0) + product(f, q), V(2.0));
  // 2^64 times too large until the end, so that only the result may be subnormal.
  return double_of(bits_of(mantissa) + (bits_of(shifted) << 52)) * V(0x1p-64);
}

/// A survival function on a grid, as numbers of it are computed in vectors. From grid point i on,
///
///     level(score) = max(value[i] + slope[i] (score - from[i]), value[i + 1])
///     p            = 2^level  or  1 + level
///
/// in double; value and slope of the form 1 + level are those of -cdf. The maximum keeps rounding
/// from carrying the end of a segment past the start of the next one: p does not increase with the
/// score, and is the same bits on every machine.
class SurvivalTable {
 public:
  enum class Form : std::uint8_t { log_survival, cdf };

  /// `score` ascends strictly, all values are finite, log_sf does not increase and is at most 0,
  /// cdf does not decrease and lies in [0, 1].
  SurvivalTable(std::vector<double> score, std::vector<double> value, Form form)
      : from_(std::move(score)), value_(std::move(value)), form_(form) {
    constexpr double log2_of_e = 0x1.71547652b82fep0;
    constexpr double inf = std::numeric_limits<double>::infinity();
    for (double& v : value_)
      v = form_ == Form::cdf ? -v : std::max(v * log2_of_e, -0x1p1000);
    const std::size_t n = from_.size();
    for (std::size_t i = 0; i + 1 < n; ++i)
      slope_.push_back(std::max((value_[i + 1] - value_[i]) / (from_[i + 1] - from_[i]), -0x1p1000));
    slope_.push_back(form_ == Form::cdf ? 0.0 : slope_.back());
    highest_ = form_ == Form::cdf ? from_.back() : inf;
    value_.push_back(form_ == Form::cdf ? value_.back() : -inf);
    make_index(n);
  }

  /// Number of grid points.
  std::size_t size() const noexcept { return slope_.size(); }

  /// P(S >= score); `score` may be infinite, not NaN.
  double operator()(double score) const noexcept {
    const double s = clamped(score);
    const std::size_t i = segment(s, bucket_bits(s));
    return p_at(s, from_[i], slope_[i], value_[i], value_[i + 1]);
  }

  /// The p-values of 16 scores, 1 for -inf and NaN.
  template <class Arch>
  FDROUTE_INLINE Doubles<Arch> p_values(const Doubles<Arch>& scores) const noexcept {
    using Lane = Doubles<Arch>;
    constexpr double inf = std::numeric_limits<double>::infinity();
    const Lane s = clamped(scores);
    alignas(64) std::array<double, 16> score;
    alignas(64) std::array<std::uint64_t, 16> bucket;
    alignas(64) std::array<double, 16> from;
    alignas(64) std::array<double, 16> slope;
    alignas(64) std::array<double, 16> value;
    alignas(64) std::array<double, 16> least;
    s.store(score.data());
    bucket_bits(s).store(bucket.data());
    for (std::size_t j = 0; j < 16; ++j) {
      const std::size_t i = segment(score[j], bucket[j]);
      from[j] = from_[i];
      slope[j] = slope_[i];
      value[j] = value_[i];
      least[j] = value_[i + 1];
    }
    const Lane p = p_at(s, Lane::load(from.data()), Lane::load(slope.data()),
                        Lane::load(value.data()), Lane::load(least.data()));
    return choose(scores > Lane(-inf), p, Lane(1.0));
  }

 private:
  template <class V>
  FDROUTE_INLINE V p_at(const V& score, const V& from, const V& slope, const V& value,
                        const V& least) const noexcept {
    const V level = larger(value + product(slope, score - from), least);
    return form_ == Form::cdf ? V(1.0) + level : power_of_two(level);
  }

  // NaN becomes the first grid point.
  template <class V>
  FDROUTE_INLINE V clamped(const V& score) const noexcept {
    return smaller(larger(score, V(from_.front())), V(highest_));
  }

  // In the last 32 bits, the score's bucket: some number that does not decrease with the score.
  template <class V>
  FDROUTE_INLINE auto bucket_bits(const V& score) const noexcept -> decltype(bits_of(score)) {
    const V position = product(score - V(from_.front()), V(buckets_per_unit_));
    return bits_of(smaller(position, V(static_cast<double>(last_bucket))) + V(0x1.8p52));
  }

  // The last grid point not above the score. Those in lower buckets are not; of the others only the
  // bucket's own may be.
  FDROUTE_INLINE std::size_t segment(double score, std::uint64_t bucket) const noexcept {
    const double* from = from_.data();
    std::size_t n = below_[static_cast<std::uint32_t>(bucket)];
    for (std::size_t step = first_step_; step != 0; step /= 2)
      n += from[n + step - 1] <= score ? step : 0;
    return n - 1;
  }

  void make_index(std::size_t n) {
    buckets_per_unit_ = static_cast<double>(last_bucket) / (from_.back() - from_.front());
    below_.assign(last_bucket + 2, 0);
    for (std::size_t i = 0; i < n; ++i)
      ++below_[static_cast<std::uint32_t>(bucket_bits(from_[i])) + 1];
    first_step_ = std::bit_floor(std::size_t{*std::max_element(below_.begin(), below_.end())});
    for (std::size_t i = 1; i < below_.size(); ++i) below_[i] += below_[i - 1];
    // A search may look past the end, where nothing is below a score.
    from_.resize(n + 2 * first_step_, std::numeric_limits<double>::quiet_NaN());
  }

  static constexpr std::uint32_t last_bucket = 4095;

  std::vector<double> from_;
  std::vector<double> value_;
  std::vector<double> slope_;
  std::vector<std::uint32_t> below_;  // the number of grid points in lower buckets
  std::size_t first_step_ = 1;
  double buckets_per_unit_ = 0.0;
  double highest_ = 0.0;
  Form form_;
};

}  // namespace fdroute::inline v0::detail
