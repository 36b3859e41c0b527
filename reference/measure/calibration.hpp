#pragma once

#include <cstdint>
#include <fdroute/null/tabulated.hpp>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/error.hpp"
#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"

/// Fits null distributions to a model's router scores, and solves policies for a mean number of
/// experts. docs/nulls.md says what a null is for.
namespace olmoe {

/// Router logits of one run, for one layer.
struct LayerLogits {
  std::vector<float> values;         ///< (tokens, experts), row-major
  std::vector<std::int32_t> counts;  ///< (tokens): the experts that each token got in that run
  int experts = 0;

  std::int64_t tokens() const { return static_cast<std::int64_t>(values.size()) / experts; }
};

/// Router logits by layer.
using RouterLogits = std::vector<LayerLogits>;

/// Router logits of a run, split by windows into those to fit on and those held out.
struct RecordedLogits {
  RouterLogits fit;
  RouterLogits held_out;  ///< (layers), without tokens if nothing was held out
};

struct RecordingOptions {
  std::int64_t window = 0;      ///< tokens per window, which do not overlap; 0: default_window()
  std::int64_t skip_first = 0;  ///< tokens at the start of each window to leave out
  double held_out_share = 0.0;  ///< of each text's windows, its last; at least one if above 0
};

/// Runs `routers` over consecutive windows of every text and keeps the router logits. The rest of a
/// text after its last whole window is a shorter window. Throws Error, naming the text, if it
/// cannot be run or is too short to hold a window out; std::invalid_argument for options out of
/// range.
RecordedLogits record_logits(const Model& model, std::span<const fdroute::AnyRouter> routers,
                             std::span<const Text> texts, const RecordingOptions& options = {});

/// The scores of every token without its `trim` largest: what a null distribution is fitted on, and
/// what should be uniform under it. `score` is "logit", "log_softmax" or "zscore"; they are
/// computed as the router computes them. Throws std::invalid_argument for another score, and unless
/// 0 <= trim < experts; Error for a score that is not finite.
std::vector<float> losing_scores(const LayerLogits& logits, std::string_view score, int trim);

enum class NullMethod : std::uint8_t {
  kde,   ///< Gaussian kernel estimate, bandwidth 0.9 min(sd, IQR / 1.34) n^(-1/5)
  ecdf,  ///< empirical distribution
};

/// "kde" or "ecdf".
std::string_view name(NullMethod method);

/// A survival function in the form that fdroute::TabulatedNull::from_log_survival takes.
struct NullTable {
  std::vector<double> score;   ///< ascending, at most 1024
  std::vector<double> log_sf;  ///< descending
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

/// How uniform p-values are that ought to be: on tokens the fit has not seen, without the `trim`
/// largest scores.
struct Uniformity {
  std::int64_t samples = 0;
  double ks = 0.0;          ///< Kolmogorov-Smirnov distance: sup |share of p-values <= p  -  p|
  double below_0_05 = 0.0;  ///< P(p <= 0.05)
};

Uniformity uniformity(const fdroute::TabulatedNull& null, std::span<const float> scores);

struct NullOptions {
  std::string score = "log_softmax";
  int trim = 8;
  NullMethod method = NullMethod::kde;
};

/// Null distributions of a model, one table per layer, with their provenance.
struct FittedNulls {
  NullOptions options;
  std::string model;        ///< name of the checkpoint's directory
  std::int64_t tokens = 0;  ///< that the fit used
  std::vector<NullTable> layers;

  /// As routers take them; the same as load_nulls() of the saved file.
  std::vector<fdroute::TabulatedNull> nulls() const;
};

/// Fits each layer's null distribution to its losing scores. Throws as losing_scores() and
/// fit_null() do, the layer named.
FittedNulls fit_nulls(const RouterLogits& logits, const NullOptions& options, std::string model);

/// SHA-256 of the router weights of all layers: what tells models apart as far as nulls go.
std::string router_sha256(const Model& model);

/// Throws Error if the nulls file says that it was fitted on a model with other routers. One that
/// says nothing of it passes.
void check_nulls_model(const std::filesystem::path& nulls, const Model& model);

/// Writes a nulls file, whole or not at all: the tables, and as metadata `score`, `trim`, `model`,
/// `router_sha256`, `tokens`, `method`, `bandwidth`, and `provenance`.
void save_nulls(const std::filesystem::path& path, const FittedNulls& nulls, const Model& model,
                const std::map<std::string, std::string>& provenance = {});

/// A policy with one parameter left open, and the mean number of experts that it shall have.
struct Target {
  std::string policy;  ///< a policy string with `?` for one value: "bh:alpha=?,max_k=12"
  double mean_experts;
  bool per_layer = false;  ///< each layer has the mean, by a value of its own
};

/// Throws std::invalid_argument unless solve_policy() can begin with `target`: exactly one value is
/// `?`, the policy parses, given a null distribution of `score`, and its bounds include the mean.
void check_target(const Config& config, const Target& target, std::string_view score);

struct SolvedPolicy {
  std::string policy;         ///< `?` replaced by a value, or by one per layer: `a/b/c`
  double mean_experts = 0.0;  ///< measured by running `policy`
  std::vector<double> layer_mean_experts;  ///< (layers)
  int runs = 0;                            ///< of the model
};

/// No value of the open parameter gives the mean.
struct Unreachable : Error {
  using Error::Error;
};

/// Finds the value of the open parameter, in (0, 1), by bisection over its log odds on recorded
/// logits; then runs the model with it, since routing one layer changes the next one's logits, and
/// goes on from the logits of that run, until the measured mean is within 0.01 of the target (each
/// layer's, with per_layer), for at most 12 runs. The mean must change monotonically with the
/// value.
///
/// Values have 9 significant digits: the string is what was measured. `nulls`, one per layer, may
/// be empty. Windows are run as by record_logits(). Throws std::invalid_argument for a policy
/// without exactly one `?`, or one that does not parse; Unreachable if no value gives the mean,
/// with the range that there is; Error as record_logits() does.
SolvedPolicy solve_policy(const Model& model, const Target& target,
                          std::span<const fdroute::TabulatedNull> nulls,
                          std::span<const Text> texts, const RecordingOptions& options = {});

}  // namespace olmoe
