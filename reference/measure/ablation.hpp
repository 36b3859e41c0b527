#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <functional>
#include <span>
#include <vector>

#include "forward/model.hpp"
#include "measure/texts.hpp"

/// What an expert is worth to a token: the loss without it.
namespace olmoe {

struct AblationOptions {
  std::int64_t tokens = 300;   ///< to draw, with replacement
  std::int64_t context = 128;  ///< tokens before each
  std::int64_t ahead = 32;     ///< predictions that a token's cost is taken over, its own the first
  std::uint64_t seed = 1;
  /// Called before the first token and after each; never concurrently.
  std::function<void(std::int64_t done, std::int64_t all)> on_progress = {};
};

/// A token that was run once for each of its selected experts, without it.
struct AblatedExpert {
  std::int64_t token = 0;  ///< number of the draw
  int layer = 0;
  int rank = 0;        ///< among the token's selected experts, 0 the one with the largest logit
  double score = 0.0;  ///< that its layer's null was fitted on
  double p = 1.0;      ///< of the score under that null
  /// Sum of the negative log likelihoods of the `ahead` predictions without the expert, less that
  /// with all: nats, below 0 if the token is better off without.
  double cost = 0.0;
};

/// Draws tokens from all places of `texts` with enough tokens of their document around them, and
/// leaves out each expert that the model's own routing selects, one at a time: its weight is 0,
/// the others keep theirs. Returns layers x selected experts for each token. Depends on `seed`
/// alone. Throws Error if no document is long enough, and as Model::forward() does;
/// std::invalid_argument for options below 1, and as losing_scores() does.
std::vector<AblatedExpert> ablate_experts(const Model& model, std::span<const Text> texts,
                                          std::span<const fdroute::TabulatedNull> nulls,
                                          const AblationOptions& options = {});

/// Conformal p-values: the share of `needless` scores, and the one at hand, that are at least
/// `score`, (1 + #{ needless >= score }) / (n + 1). Uniform or larger, over the draw of both, for
/// another needless expert's score. `needless` ascends.
double conformal_p(std::span<const double> needless, double score);

}  // namespace olmoe
