#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "measure/texts.hpp"

/// Measures a routing policy over text. docs/experiments.md, "Definitions", has each metric's
/// formula; the names there are those of the fields here.
namespace olmoe {

/// Inputs first .. first + length - 1 of a text, run as one sequence. Row i of it predicts token
/// first + i + 1; rows from `scored` on are scored, those before are context.
struct Window {
  std::int64_t first;
  std::int64_t length;
  std::int64_t scored;

  friend bool operator==(const Window&, const Window&) = default;
};

/// The windows over a text of `tokens` tokens: of `window` inputs each, `stride` apart, the last
/// one moved back to end with the text. Every token but the first is scored in exactly one of them.
/// Needs 1 <= stride <= window < tokens; throws std::invalid_argument otherwise.
std::vector<Window> sliding_windows(std::int64_t tokens, std::int64_t window, std::int64_t stride);

struct EvaluationOptions {
  /// Inputs per window; 0: default_window().
  std::int64_t window = 0;
  /// Tokens from a window to the next; 0: half a window, so that a scored token has at least that
  /// much context, the text's beginning apart.
  std::int64_t stride = 0;
  /// Called after each window with the number of windows done and in total; never concurrently.
  std::function<void(std::int64_t, std::int64_t)> on_progress = {};
};

/// The longest sequence the model was made for, at most 1024.
std::int64_t default_window(const Config& config);

/// Throws Error, naming the text, unless each of `texts` can be evaluated: more tokens than the
/// window, all of them in the vocabulary. std::invalid_argument for a window or stride out of
/// range, or no texts. evaluate() begins with it; call it to know before any work starts.
void check_texts(const Config& config, std::span<const Text> texts,
                 const EvaluationOptions& options);

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

/// Ratio estimate sum / tokens over windows as clusters: neighbouring tokens share their context,
/// so their losses are correlated, and an error from independent tokens would be too small.
///
///     mean = sum_w S_w / N,  error^2 = C / (C - 1) sum_w (S_w - mean n_w)^2 / N^2
///
/// for C windows of n_w tokens, N in all. With one window the error is absent. For a comparison of
/// two policies over the same windows, pass the differences of their sums: the pairing takes the
/// text's own variation out.
Estimate cluster_mean(std::span<const WindowSum> windows);

/// exp(nll), its error by the delta method: exp(nll) x error.
Estimate perplexity_of(const Estimate& nll);

/// The number of experts per row, over the rows executed. A row is one token in one layer.
struct CountStatistics {
  std::int64_t rows = 0;
  double mean = 0.0;
  double std = 0.0;  ///< of the rows, divided by their number
  int min = 0;
  int max = 0;
  double floor_rate = 0.0;              ///< share of the rows with count == min_k
  double ceiling_rate = 0.0;            ///< share of the rows with count == capacity
  std::vector<std::int64_t> histogram;  ///< (experts + 1): rows with that count
};

/// How evenly a layer's assignments fall on its experts.
struct LoadStatistics {
  std::vector<double> share;  ///< (experts): the expert's share of the assignments; sums to 1
  double cv = 0.0;            ///< coefficient of variation of `share`, 0 if even
  double gini = 0.0;  ///< Gini coefficient of `share`, 0 if even, 1 - 1/experts if one has all
};

/// CV and Gini of a layer's assignments per expert. All zero: shares, cv and gini are 0.
LoadStatistics load_statistics(std::span<const std::int64_t> assignments);

struct LayerStatistics {
  CountStatistics counts;
  LoadStatistics load;
  double weight_mass = 0.0;  ///< mean over the rows of the sum of their routing weights
};

/// What a routing did, from the routings executed.
struct RoutingStatistics {
  CountStatistics counts;               ///< over all layers' rows
  std::vector<LayerStatistics> layers;  ///< (layers)
  double load_cv = 0.0;                 ///< mean over the layers
  double load_gini = 0.0;               ///< mean over the layers
  double weight_mass = 0.0;             ///< mean over all layers' rows
  /// Weights of the experts selected for a token, in all layers and as stored in the checkpoint:
  /// what a token decoded alone has to read.
  double expert_bytes_per_token = 0.0;
};

/// A policy beside the baseline, over the scored tokens.
struct BaselineComparison {
  double argmax_agreement = 0.0;  ///< share of the tokens with the same most likely next token
  double kl = 0.0;                ///< mean KL(baseline || policy), nats per token
  Estimate nll_difference;        ///< nll - baseline's nll, with the error of the paired windows
};

/// One text's metrics, or those of all texts together.
struct TextEvaluation {
  std::string name;
  std::int64_t predicted_tokens = 0;
  Estimate nll;         ///< mean negative log likelihood, nats per predicted token
  Estimate perplexity;  ///< exp(nll)
  std::optional<BaselineComparison> baseline;  ///< if one was given
  RoutingStatistics routing;
  std::vector<WindowSum> windows;  ///< negative log likelihood by window, for paired comparisons
};

struct Evaluation {
  std::vector<TextEvaluation> domains;  ///< one per text, in order
  /// Weighted by predicted tokens. Texts are strata: the error combines theirs, so that differences
  /// between texts do not count as noise, and is absent if one of theirs is.
  TextEvaluation total;
  double macro_nll = 0.0;         ///< mean of the domains' nll, each text weighing the same
  double macro_perplexity = 0.0;  ///< exp(macro_nll)
};

/// The number of experts of every row executed, (layers) x (rows): windows in order, text after
/// text, context rows included.
using RowCounts = std::vector<std::vector<std::int32_t>>;

/// What an evaluation leaves for others to build on.
struct EvaluationRecord {
  /// (predicted tokens, hidden): the hidden state that each prediction was made from. The logits
  /// are one product away (Model::logits), and take vocabulary / hidden times the memory.
  std::vector<float> hidden_states;
  std::vector<double> nll;  ///< (windows): as TextEvaluation::windows, text after text
  RowCounts counts;
};

/// Runs `routers`, one per layer, over the windows of every text.
///
/// `baseline` is the record of an evaluation of the same model, texts and windows; without it
/// there is no BaselineComparison. `record`, if given, is filled. Windows run in parallel and are
/// summed in order: the result does not depend on the number of threads, to the last bit. Throws as
/// check_texts() and Model::forward() do, text and window named, and Error for a perplexity beyond
/// double; std::invalid_argument for a baseline of other texts or windows.
Evaluation evaluate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                    std::span<const Text> texts, const EvaluationOptions& options = {},
                    const EvaluationRecord* baseline = nullptr, EvaluationRecord* record = nullptr);

/// The control for an adaptive policy: its counts, dealt to random tokens. Each layer's counts are
/// shuffled over the rows of all texts, so counts, histogram and cost stay what they were, and only
/// the choice of *which* tokens get many is gone. Depends on `seed` alone, not on the platform.
RowCounts deal_counts(RowCounts counts, std::uint64_t seed);

/// Runs the model with the given number of experts in every row, each row's largest logits,
/// weighted by `weights`. For the rest as above; `counts` must fit the texts and windows
/// (std::invalid_argument). Floor and ceiling are the smallest and largest count of the layer.
Evaluation evaluate_counts(const Model& model, const RowCounts& counts,
                           const fdroute::SoftmaxWeights& weights, std::span<const Text> texts,
                           const EvaluationOptions& options = {},
                           const EvaluationRecord* baseline = nullptr,
                           EvaluationRecord* record = nullptr);

}  // namespace olmoe
