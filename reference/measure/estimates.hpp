#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// Means over text and their standard errors. docs/experiments.md, "Definitions", has the formulas.
namespace olmoe {

/// A mean and its standard error, absent where it cannot be estimated.
struct Estimate {
  double value = 0.0;
  std::optional<double> error;
};

/// The scored tokens of one window and the sum of something over them.
struct WindowSum {
  std::int64_t tokens = 0;
  double sum = 0.0;
};

/// The sums of documents from those of their windows, which stand document after document:
/// document d has windows_of[d] of them. Throws std::invalid_argument unless that is all of them.
std::vector<WindowSum> by_document(std::span<const WindowSum> windows,
                                   std::span<const std::int64_t> windows_of);

/// Ratio estimate sum / tokens over clusters, windows or documents: neighbouring tokens share their
/// context, so their losses are correlated, and an error from independent tokens would be too
/// small.
///
///     mean = sum_w S_w / N,  error^2 = C / (C - 1) sum_w (S_w - mean n_w)^2 / N^2
///
/// for C clusters of n_w tokens, N in all. With one cluster the error is absent. For a comparison
/// of two policies over the same windows, pass the differences of their sums: the pairing takes the
/// text's own variation out.
Estimate cluster_mean(std::span<const WindowSum> clusters);

/// exp(nll), its error by the delta method: exp(nll) x error.
Estimate perplexity_of(const Estimate& nll);

/// The mean over all tokens from estimates of disjoint parts, independent of each other: part i has
/// tokens[i] tokens. The error is absent if one of theirs is.
Estimate combine(std::span<const Estimate> parts, std::span<const std::int64_t> tokens);

}  // namespace olmoe
