#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
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

/// A survival function in the form that fdroute::TabulatedNull::from_log_survival takes.
struct NullTable {
  std::vector<double> score;   ///< (points), ascending; at most 1024 points
  std::vector<double> log_sf;  ///< (points), descending
  std::int64_t samples = 0;
  double bandwidth = 0.0;  ///< of the kernel; 0 with ecdf
  double cdf_error = 0.0;  ///< largest |CDF of the table - fitted CDF| below the tail
  double tail_from = 0.0;  ///< the score where the exponential tail begins
  double tail_mean = 0.0;  ///< mean excess of the sample above tail_from: the tail's scale
};

/// Fits a null distribution to a sample of at least 100 scores.
///
/// The table follows the fitted log survival by line segments. With kde it is within 1e-6 of the
/// fitted CDF, and p is within 0.1 % of the fitted p wherever that is smaller. An ECDF of n scores
/// jumps by 1/n at each, which a table cannot follow: there the bounds are 0.5 / sqrt(n), the
/// ECDF's own largest standard error, and 10 %. Both are checked, not hoped for: a table beyond
/// them or longer than 1024 points is an Error.
///
/// The tail begins where 1e-4 of the sample is left, but at least 100 scores (a tenth of a sample
/// below 1000). From there on, p falls exponentially with the excesses' mean as its scale, their
/// maximum likelihood estimate; the kernel's own tail would fall like a normal one of its
/// bandwidth, whatever the data.
///
/// Throws Error for fewer scores, or scores that are all equal.
NullTable fit_null(std::vector<float> sample, NullMethod method);

/// The table as routers take it.
fdroute::TabulatedNull as_null(const NullTable& table, fdroute::NullProvenance provenance);

}  // namespace olmoe
