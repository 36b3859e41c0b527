#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forward/model.hpp"
#include "measure/null_table.hpp"
#include "measure/recorded_logits.hpp"

/// Fits null distributions to a model's router scores. docs/nulls.md says what a null is for.
namespace olmoe {

/// The scores of every token without its `trim` largest: what a null distribution is fitted on, and
/// what should be uniform under it. `score` is "logit", "log_softmax", "zscore" or "robust_zscore";
/// they are computed as the router computes them. Throws std::invalid_argument for another score,
/// and unless 0 <= trim < experts; Error for a score that is not finite.
std::vector<float> losing_scores(const LayerLogits& logits, std::string_view score, int trim);

struct NullOptions {
  std::string score = "log_softmax";
  int trim = 8;
  NullMethod method = NullMethod::kde;
};

/// Null distributions of a model, one table per layer, with their provenance.
struct FittedNulls {
  NullOptions options;
  std::string model;              ///< name of the checkpoint's directory
  std::int64_t tokens = 0;        ///< that the fit used
  std::vector<NullTable> layers;  ///< (layers)

  /// As routers take them: what load_nulls() reads from the saved file.
  std::vector<fdroute::TabulatedNull> nulls() const;
};

/// Fits each layer's null distribution to its losing scores. Throws as losing_scores() and
/// fit_null() do, the layer named.
FittedNulls fit_nulls(const RouterLogits& logits, const NullOptions& options, std::string model);

/// Writes a nulls file, whole or not at all: the tables, and as metadata `score`, `trim`, `model`,
/// `router_sha256`, `tokens`, `method`, `bandwidth`, and `provenance`.
void save_nulls(const std::filesystem::path& path, const FittedNulls& nulls, const Model& model,
                const std::map<std::string, std::string>& provenance = {});

/// How uniform p-values are that ought to be: on tokens the fit has not seen, without the `trim`
/// largest scores.
struct Uniformity {
  std::int64_t samples = 0;
  double ks = 0.0;          ///< Kolmogorov-Smirnov distance: sup |share of p-values <= p  -  p|
  double below_0_05 = 0.0;  ///< P(p <= 0.05)
};

Uniformity uniformity(const fdroute::TabulatedNull& null, std::span<const float> scores);

}  // namespace olmoe
