#pragma once

#include <fdroute/null/tabulated.hpp>
#include <string_view>

#include "measure/recorded_logits.hpp"

/// What a fitted null does not say of single tokens. docs/nulls.md, "What calibrate prints".
namespace olmoe {

/// Over the tokens of a layer, which the fit has not seen.
struct LoserCheck {
  /// P(p <= 0.05 x 8 / 64) of the losing scores: where Benjamini-Hochberg at 0.05 decides over the
  /// eighth of 64 experts.
  double below_small = 0.0;
  /// Variance of a token's number of losers with p > 0.5, over n q (1 - q) for n losers of which a
  /// share q has p > 0.5: 1 if they are independent.
  double variance_ratio = 0.0;
  /// Storey's estimate of the share of nulls at lambda = 1/2, (1 + #{ p > 0.5 }) / (m / 2), over
  /// all m experts of a token: mean and standard deviation over the tokens, share of tokens
  /// above 1.
  double pi0_mean = 0.0;
  double pi0_sd = 0.0;
  double pi0_above_1 = 0.0;
};

/// Throws as losing_scores() does.
LoserCheck check_losers(const fdroute::TabulatedNull& null, const LayerLogits& logits,
                        std::string_view score, int trim);

/// What Benjamini-Hochberg selects without bounds: means over the tokens of a layer.
struct SelectionCheck {
  double mean_count = 0.0;
  /// Share of the selected experts that rank below `trim` within their token; 0 for a token with
  /// none selected.
  double below_trim = 0.0;
};

SelectionCheck check_selection(const fdroute::TabulatedNull& null, const LayerLogits& logits,
                               std::string_view score, int trim, double alpha);

}  // namespace olmoe
