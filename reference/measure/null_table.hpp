#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <span>
#include <string_view>
#include <vector>

/// A null distribution from a sample of scores.
namespace olmoe {

enum class NullMethod : std::uint8_t {
  kde,   ///< Gaussian kernel estimate, bandwidth 0.9 min(sd, IQR / 1.34) n^(-1/5)
  ecdf,  ///< empirical distribution
};

/// "kde" or "ecdf".
std::string_view name(NullMethod method);

/// The shape xi of a generalised Pareto distribution, P(X > x) = (1 + xi x / scale)^(-1 / xi), with
/// its standard error if the excesses are independent. 0 is an exponential tail, below 0 it ends.
struct TailShape {
  double value = 0.0;
  double error = 0.0;
};

/// The shape of a sample of at least 2 excesses over a threshold, by probability-weighted moments:
/// xi = 2 - a0 / (a0 - 2 a1) with a0 the mean and a1 the mean of (n - i) / (n - 1) x(i) over the
/// ascending x(1) ... x(n). The error is the asymptotic one, good for xi < 1/2. Source: Hosking and
/// Wallis, Technometrics 29 (1987), doi:10.1080/00401706.1987.10488243, section 4, with k = -xi.
/// Excesses that are all equal have the value -inf and the error NaN.
TailShape tail_shape(std::span<const double> ascending);

/// A survival function in the form that fdroute::TabulatedNull::from_log_survival takes.
struct NullTable {
  std::vector<double> score;   ///< (points), ascending; at most 1024 points
  std::vector<double> log_sf;  ///< (points), descending
  std::int64_t samples = 0;
  double bandwidth = 0.0;  ///< of the kernel; 0 with ecdf
  double cdf_error = 0.0;  ///< largest |CDF of the table - fitted CDF| below the tail
  double tail_from = 0.0;  ///< the score where the exponential tail begins
  double tail_mean = 0.0;  ///< mean excess of the sample above tail_from: the tail's scale
  TailShape tail_shape;    ///< how far the tail is from the exponential one that it is given
};

/// Fits a null distribution to a sample of at least 100 scores.
///
/// The tail begins at the score u that leaves 1e-4 of the sample above it, but at least 100 scores
/// (a tenth of a sample below 1000). There p is the sample's own share above u, with either method.
/// Beyond it, p falls exponentially with the excesses' mean as its scale, their maximum likelihood
/// estimate; the kernel's own tail would fall like a normal one of its bandwidth, whatever the
/// data.
///
/// Below u, with kde, only scores up to u have kernels, and what these put above u is reflected:
/// p(s) = share above u + G(s) - G(2u - s), where G(s) is the sum of Q((s - s_i) / bandwidth) / n
/// over the scores s_i <= u and Q the normal survival function (Silverman, Density Estimation,
/// 1986, section 2.10). A kernel estimate of all scores would carry mass over u, and be too large
/// there.
///
/// The table follows the fitted log survival by line segments. With kde it is within 1e-6 of the
/// fitted CDF, and p is within 0.1 % of the fitted p wherever that is smaller. An ECDF of n scores
/// jumps by 1/n at each, which a table cannot follow: there the bounds are 0.5 / sqrt(n), the
/// ECDF's own largest standard error, and 10 %. Both are checked, not hoped for: a table beyond
/// them or longer than 1024 points is an Error.
///
/// Throws Error for fewer scores, or scores that are all equal.
NullTable fit_null(std::vector<float> sample, NullMethod method);

/// The table as routers take it.
fdroute::TabulatedNull as_null(const NullTable& table, fdroute::NullProvenance provenance);

}  // namespace olmoe
