#include "measure/null_table.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "formats/error.hpp"
#include "measure/at.hpp"

namespace olmoe {
namespace {

constexpr std::size_t max_points = 1024;

/// A curve to follow with line segments, and how far off they may be: log survival between `low`
/// and `high` at each `score`.
struct Band {
  std::vector<double> score;  // (points), ascending
  std::vector<double> low;    // (points)
  std::vector<double> high;   // (points)

  /// Survival between `least` and `most` with the tolerance of each.
  void add(double x, double least, double most, double absolute, double relative) {
    score.push_back(x);
    low.push_back(std::log(most - std::min(absolute, relative * most)));
    high.push_back(std::min(std::log(least + std::min(absolute, relative * least)), 0.0));
  }

  /// Ends the curve at `survival`, which must lie within the last point's tolerance.
  void end_at(double survival) {
    const double end = std::log(survival);
    for (double& least : low) least = std::max(least, end);
    low.back() = high.back() = end;
  }
};

/// The fewest line segments that a greedy walk needs to stay within the band: from where a segment
/// starts, the slopes that keep within the band narrow with every point; the last point that leaves
/// one ends it. Both sides of the band are used, which takes about 0.7 of the points that a
/// polyline through the curve would.
void follow(const Band& band, NullTable& table) {
  const std::size_t n = band.score.size();
  std::size_t start = 0;
  double value = (band.low[0] + band.high[0]) / 2.0;
  table.score = {band.score[0]};
  table.log_sf = {value};
  while (start + 1 < n) {
    double least = -std::numeric_limits<double>::infinity();
    double most = 0.0;
    double slope = 0.0;
    std::size_t end = start;
    for (std::size_t i = start + 1; i < n; ++i) {
      const double dx = band.score[i] - band.score[start];
      least = std::max(least, (band.low[i] - value) / dx);
      most = std::min(most, (band.high[i] - value) / dx);
      if (least > most) break;
      slope = (least + most) / 2.0;
      end = i;
    }
    if (end == start)
      throw Error("too many scores are equal to " + std::to_string(band.score[start + 1]) +
                  " for a table to follow their distribution; method kde smooths over it");
    value += slope * (band.score[end] - band.score[start]);
    table.score.push_back(band.score[end]);
    table.log_sf.push_back(value);
    start = end;
  }
}

/// Largest difference between the table's p and the curve's, below the tail.
double largest_error(const fdroute::TabulatedNull& null, std::span<const double> score,
                     std::span<const double> survival) {
  double largest = 0.0;
  for (std::size_t i = 0; i < score.size(); ++i)
    largest = std::max(largest, std::abs(null(score[i]) - survival[i]));
  return largest;
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double bandwidth_of(std::span<const double> sorted) {
  const auto n = static_cast<double>(sorted.size());
  const double centre = mean(sorted);
  double squares = 0.0;
  for (const double x : sorted) squares += (x - centre) * (x - centre);
  const double sd = std::sqrt(squares / n);
  const double iqr = sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4];
  const double spread = iqr > 0.0 ? std::min(sd, iqr / 1.34) : sd;
  return 0.9 * spread * std::pow(n, -0.2);
}

/// Survival of a kernel estimate at `score`, a lattice of 256 points to the bandwidth that ends at
/// the tail.
struct KernelEstimate {
  std::vector<double> score;     // (points)
  std::vector<double> survival;  // (points)
};

/// `body` are the scores up to where the tail begins, the last of them, ascending; `above` is the
/// number of those beyond it.
///
/// The scores are moved to the lattice, each shared by its two neighbours so that its mean stays;
/// then all kernel values are from one table. This interpolates the kernel's CDF linearly, which
/// moves the estimate by at most max|Phi''| / (8 x 256^2) < 5e-7, and by some 1e-9 in practice.
KernelEstimate kernel_estimate(std::span<const double> body, std::size_t above, double bandwidth) {
  constexpr std::int64_t per_bandwidth = 256;
  constexpr std::int64_t reach = 7 * per_bandwidth;  // the normal tail beyond 7 is 1.3e-12
  const double step = bandwidth / static_cast<double>(per_bandwidth);
  const double end = body.back();
  const double first = body.front() - 7.0 * bandwidth;
  const double places = std::ceil((end - first) / step);
  constexpr double limit = 1 << 24;
  if (places > limit)
    throw Error("scores range over " + std::to_string((end - body.front()) / bandwidth) +
                " bandwidths; there are outliers too far for a kernel estimate");
  const auto last = static_cast<std::int64_t>(places);
  const auto lattice = [&](std::int64_t i) { return end + static_cast<double>(i - last) * step; };

  std::vector<double> mass(at(last) + 2, 0.0);
  const double unit = 1.0 / static_cast<double>(body.size() + above);
  for (const double x : body) {
    const double position = (x - lattice(0)) / step;
    const auto below = static_cast<std::int64_t>(position);
    const double share = position - static_cast<double>(below);
    mass[at(below)] += unit * (1.0 - share);
    mass[at(below) + 1] += unit * share;
  }

  std::vector<double> kernel;  // survival at distance -reach ... reach
  for (std::int64_t d = -reach; d <= reach; ++d) {
    const double z = static_cast<double>(d) / static_cast<double>(per_bandwidth);
    kernel.push_back(0.5 * std::erfc(z / std::numbers::sqrt2));
  }
  // G of fit_null(), which is needed as far above the end as kernels reach.
  const std::int64_t farthest = last + reach;
  std::vector<double> g(at(farthest) + 1, 0.0);
  // What lies more than `reach` above a point counts in full.
  double in_full = 0.0;
  for (std::int64_t i = last - reach; i >= 0; --i) {
    if (i + reach + 1 <= last) in_full += mass[at(i + reach + 1)];
    g[at(i)] = in_full;
  }
  for (std::int64_t j = 0; j <= last; ++j) {
    const double weight = mass[at(j)];
    if (weight == 0.0) continue;
    const std::int64_t from = std::max<std::int64_t>(j - reach, 0);
    const double* value = kernel.data() + (from - j + reach);
    for (std::int64_t i = from; i <= j + reach; ++i) g[at(i)] += weight * *value++;
  }
  KernelEstimate estimate;
  const double tail = unit * static_cast<double>(above);
  for (std::int64_t i = 0; i <= last; ++i) {
    const std::int64_t mirrored = 2 * last - i;
    const double beyond = mirrored <= farthest ? g[at(mirrored)] : 0.0;
    estimate.score.push_back(lattice(i));
    estimate.survival.push_back(std::min(tail + g[at(i)] - beyond, 1.0));
  }
  return estimate;
}

/// Number of the sample's largest scores that make the tail.
std::size_t tail_size(std::size_t n) {
  if (n < 1000) return n / 10;
  return std::max<std::size_t>(100, n / 10'000);
}

}  // namespace

std::string_view name(NullMethod method) {
  return method == NullMethod::kde ? "kde" : "ecdf";
}

TailShape tail_shape(std::span<const double> ascending) {
  const auto n = static_cast<double>(ascending.size());
  const double a0 = mean(ascending);
  double a1 = 0.0;
  for (std::size_t i = 0; i < ascending.size(); ++i)
    a1 += (n - 1.0 - static_cast<double>(i)) / (n - 1.0) * ascending[i] / n;
  const double xi = 2.0 - a0 / (a0 - 2.0 * a1);
  const double variance = (1.0 - xi) * (2.0 - xi) * (2.0 - xi) * (1.0 - xi + 2.0 * xi * xi) /
                          ((1.0 - 2.0 * xi) * (3.0 - 2.0 * xi) * n);
  return {xi, std::sqrt(variance)};
}

fdroute::TabulatedNull as_null(const NullTable& table, fdroute::NullProvenance provenance) {
  return fdroute::TabulatedNull::from_log_survival(table.score, table.log_sf,
                                                   std::move(provenance));
}

NullTable fit_null(std::vector<float> sample, NullMethod method) {
  constexpr std::size_t least = 100;
  if (sample.size() < least)
    throw Error(std::to_string(sample.size()) + " scores are too few to fit a null distribution; " +
                std::to_string(least) + " are needed");
  std::sort(sample.begin(), sample.end());
  const std::vector<double> sorted(sample.begin(), sample.end());
  const std::size_t n = sorted.size();
  if (sorted.front() == sorted.back())
    throw Error("all scores equal " + std::to_string(sorted.front()));

  NullTable table;
  table.samples = static_cast<std::int64_t>(n);
  const std::size_t tail = tail_size(n);
  table.tail_from = sorted[n - tail - 1];
  std::vector<double> excesses(sorted.end() - static_cast<std::ptrdiff_t>(tail), sorted.end());
  for (double& x : excesses) x -= table.tail_from;
  table.tail_mean = mean(excesses);
  if (!(table.tail_mean > 0.0))
    throw Error("the largest " + std::to_string(tail + 1) +
                " scores are all equal: there is no tail to fit");
  table.tail_shape = tail_shape(excesses);

  Band band;
  std::vector<double> score;
  std::vector<double> survival;
  double tolerance = 1e-6;
  if (method == NullMethod::kde) {
    table.bandwidth = bandwidth_of(sorted);
    const KernelEstimate estimate =
        kernel_estimate(std::span(sorted).first(n - tail), tail, table.bandwidth);
    // A tenth of the tolerance is kept for what happens between the points of the lattice.
    for (std::size_t i = 0; i < estimate.score.size(); ++i)
      band.add(estimate.score[i], estimate.survival[i], estimate.survival[i], 0.9 * tolerance,
               1e-3);
    score = estimate.score;
    survival = estimate.survival;
  } else {
    tolerance = 0.5 / std::sqrt(static_cast<double>(n));
    const auto share = [&](std::size_t above) {
      return static_cast<double>(above) / static_cast<double>(n);
    };
    for (std::size_t i = 0; i + tail < n;) {
      std::size_t next = i;
      while (next < n && sorted[next] == sorted[i]) ++next;
      band.add(sorted[i], share(n - next), share(n - i), tolerance, 0.1);
      for (const std::size_t below : {i, next}) {
        score.push_back(sorted[i]);
        survival.push_back(share(n - below));
      }
      i = next;
    }
  }
  band.end_at(static_cast<double>(tail) / static_cast<double>(n));
  follow(band, table);
  table.score.push_back(table.tail_from + table.tail_mean);
  table.log_sf.push_back(table.log_sf.back() - 1.0);

  if (table.score.size() > max_points)
    throw Error("a table of the scores' distribution takes " + std::to_string(table.score.size()) +
                " points, more than " + std::to_string(max_points));
  table.cdf_error = largest_error(as_null(table, {"any", "", 0, 0, 0}), score, survival);
  if (!(table.cdf_error < tolerance * (1.0 + 1e-9)))
    throw Error("the table is off the fitted distribution by " + std::to_string(table.cdf_error));
  return table;
}

}  // namespace olmoe
