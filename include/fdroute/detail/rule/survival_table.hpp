#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "fdroute/detail/simd/lanes.hpp"

namespace fdroute::inline v0::detail {

/// 2^y in double for y <= 0, exactly 1 at 0; 0 from -1075 on. V is double or Doubles.
///
/// Within 2 ulp where it is a normal number, and within the smallest double below that. With
/// n = floor(y) and f = y - n it is 2^n (1 + f q(f)), q a polynomial made for f in [0, 1] whose
/// coefficients are all positive. Every operation on f is then one that does not decrease, before
/// and after rounding, and so the result does not decrease with y.
template <class V>
FDROUTE_INLINE V power_of_two(V y) noexcept {
  constexpr double magic = 0x1.8p52 + 64.0;  // its last bits are n + 64
  y = larger(y, V(-1080.0));
  const V shifted = (y - V(0.5)) + V(magic);
  const V f = y - (shifted - V(magic));
  const V f2 = product(f, f);
  const V f4 = product(f2, f2);
  const V q1 = V(0x1.ebfbdff82c4ffp-3) + product(f, V(0x1.c6b08d704fa4fp-5));
  const V q3 = V(0x1.3b2ab6fa48563p-7) + product(f, V(0x1.5d87fecf83f7bp-10));
  const V q5 = V(0x1.4309065c8357ap-13) + product(f, V(0x1.ffce434c232f0p-17));
  const V q7 = V(0x1.629e703ac7f08p-20) + product(f, V(0x1.b7a2459dca29cp-24));
  const V q9 = V(0x1.c7ea67ee59ebfp-28) + product(f, V(0x1.509edf2ecfdf8p-31));
  const V higher =
      ((q1 + product(f2, q3)) + product(f4, q5 + product(f2, q7))) + product(product(f4, f4), q9);
  const V q = V(0x1.62e42fefa39efp-1) + product(f, higher);
  const V mantissa = smaller(V(1.0) + product(f, q), V(2.0));
  // 2^64 times too large until the end, so that only the result may be subnormal.
  return double_of(bits_of(mantissa) + (bits_of(shifted) << 52)) * V(0x1p-64);
}

/// A survival function on a grid, as numbers of it are computed in vectors. From grid point i on,
///
///     level(score) = max(value[i] + slope[i] (score - from[i]), value[i + 1])
///     p            = 2^level  or  1 + level
///
/// in double; values of the form 1 + level are those of -cdf. The maximum keeps rounding from
/// carrying the end of a segment past the start of the next one: p does not increase with the
/// score, and is the same bits on every machine.
class SurvivalTable {
 public:
  enum class Form : std::uint8_t { log_survival, cdf };

  /// `score` ascends strictly, all values are finite, log_sf does not increase and is at most 0,
  /// cdf does not decrease and lies in [0, 1].
  SurvivalTable(std::vector<double> score, std::vector<double> value, Form form)
      : form_(form), lowest_(score.front()) {
    constexpr double log2_of_e = 0x1.71547652b82fep0;
    constexpr double inf = std::numeric_limits<double>::infinity();
    for (double& v : value) v = form == Form::cdf ? -v : std::max(v * log2_of_e, -0x1p1000);
    segments_.push_back({{lowest_, 0.0, value.front(), value.front()}});
    for (std::size_t i = 0; i + 1 < score.size(); ++i) {
      const double slope = (value[i + 1] - value[i]) / (score[i + 1] - score[i]);
      segments_.push_back({{score[i], std::max(slope, -0x1p1000), value[i], value[i + 1]}});
    }
    const double last = value.back();
    const double slope = segments_.back().number[1];
    segments_.push_back(form == Form::cdf ? Record{{score.back(), 0.0, last, last}}
                                          : Record{{score.back(), slope, last, -inf}});
    make_index(std::move(score));
  }

  /// Number of grid points.
  std::size_t size() const noexcept { return segments_.size() - 1; }

  /// P(S >= score); `score` may be infinite, not NaN.
  double operator()(double score) const noexcept {
    const auto bucket = static_cast<std::uint32_t>(bucket_bits(score));
    const auto& x = segments_[points_up_to(score, bucket)].number;
    return p_at(score, Fields<double>{{x[0], x[1], x[2], x[3]}});
  }

  /// Replaces n scores by their p-values, 1 for -inf and NaN; n is a multiple of 16, `x` aligned to
  /// 64 bytes.
  ///
  /// In passes over some hundreds: the steps of one p-value wait for each other, those of many do
  /// not.
  template <class Arch>
  FDROUTE_INLINE void to_p_values(double* x, int n) const noexcept {
    using Lane = Doubles<Arch>;
    constexpr int most = 512;
    alignas(64) std::array<std::uint64_t, most> buckets;
    alignas(64) std::array<std::uint32_t, most> points;
    for (; n > 0; n -= most, x += most) {
      const auto now = static_cast<std::size_t>(std::min(n, most));
      for (std::size_t i = 0; i < now; i += 16)
        bucket_bits(Lane::load(x + i)).store(buckets.data() + i);
      if (first_step_ == 1) {  // as it is but for grids with points very close together
        for (std::size_t i = 0; i < now; ++i) {
          const std::uint32_t below = below_[static_cast<std::uint32_t>(buckets[i])];
          points[i] = below + (from_[below] <= x[i] ? 1U : 0U);
        }
      } else {
        for (std::size_t i = 0; i < now; ++i)
          points[i] = points_up_to(x[i], static_cast<std::uint32_t>(buckets[i]));
      }
      for (std::size_t i = 0; i < now; i += 16) {
        const Lane score = Lane::load(x + i);
        const Lane p = p_at(score, pick_records<Arch>(segments_.data(), points.data() + i));
        choose(score > Lane(-std::numeric_limits<double>::infinity()), p, Lane(1.0)).store(x + i);
      }
    }
  }

 private:
  // For an infinite score the product may be NaN; larger() then takes the other number.
  template <class V>
  FDROUTE_INLINE V p_at(const V& score, const Fields<V>& segment) const noexcept {
    const auto& [from, slope, value, least] = segment.field;
    const V level = larger(value + product(slope, score - from), least);
    return form_ == Form::cdf ? V(1.0) + level : power_of_two(level);
  }

  // In the last 32 bits, the score's bucket: some number that does not decrease with the score.
  template <class V>
  FDROUTE_INLINE auto bucket_bits(const V& score) const noexcept -> decltype(bits_of(score)) {
    const V position = larger(product(score - V(lowest_), V(buckets_per_unit_)), V(0.0));
    return bits_of(smaller(position, V(static_cast<double>(last_bucket))) + V(0x1.8p52));
  }

  // How many grid points are not above the score. Those in lower buckets are not; of the others
  // only the bucket's own may be.
  FDROUTE_INLINE std::uint32_t points_up_to(double score, std::uint32_t bucket) const noexcept {
    std::uint32_t n = below_[bucket];
    for (std::uint32_t step = first_step_; step != 0; step /= 2)
      n += from_[n + step - 1] <= score ? step : 0;
    return n;
  }

  void make_index(std::vector<double> score) {
    buckets_per_unit_ = static_cast<double>(last_bucket) / (score.back() - lowest_);
    below_.assign(last_bucket + 2, 0);
    for (const double s : score) ++below_[static_cast<std::uint32_t>(bucket_bits(s)) + 1];
    first_step_ = std::bit_floor(*std::max_element(below_.begin(), below_.end()));
    for (std::size_t i = 1; i < below_.size(); ++i) below_[i] += below_[i - 1];
    // A search may look past the end, where nothing is below a score.
    score.resize(score.size() + std::size_t{2} * first_step_,
                 std::numeric_limits<double>::quiet_NaN());
    from_ = std::move(score);
  }

  static constexpr std::uint32_t last_bucket = 4095;

  Form form_;
  double lowest_;
  double buckets_per_unit_ = 0.0;
  std::uint32_t first_step_ = 1;
  std::vector<std::uint32_t> below_;  // the number of grid points in lower buckets
  std::vector<double> from_;
  // From, slope, value and the next one's value, of what lies below the first grid point and from
  // each of them on.
  std::vector<Record> segments_;
};

}  // namespace fdroute::inline v0::detail
