#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <fdroute/completion.hpp>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "forward/grouping.hpp"
#include "forward/model.hpp"
#include "measure/estimates.hpp"
#include "measure/expert_loads.hpp"
#include "measure/routing_statistics.hpp"
#include "measure/texts.hpp"

/// Measures a routing policy over text. docs/experiments.md, "Definitions", has each metric's
/// formula; the names there are those of the fields here.
namespace olmoe {

struct EvaluationProgress {
  std::int64_t done = 0;  ///< windows
  std::int64_t all = 0;
  WindowSum last{};  ///< negative log likelihoods of the window just done
};

struct EvaluationOptions {
  /// Inputs per window; 0: default_window().
  std::int64_t window = 0;
  /// Tokens from a window to the next; 0: half a window, so that a scored token has at least that
  /// much context, the text's beginning apart.
  std::int64_t stride = 0;
  /// Whose loads are counted. With batch:N, N windows are run together; which, is chosen by chance,
  /// of about one length, from all texts.
  std::optional<Grouping> group = {};
  /// Completes each token's experts by those that its `group`, which must be there, has loaded.
  std::optional<fdroute::Completion> completion = {};
  /// The control: as many as `completion` adds, but any loaded ones, at random by this seed.
  std::optional<std::uint64_t> random_residents = {};
  /// Not the experts that the routers select but as many by OracleRouting; without `completion`.
  bool oracle = false;
  /// Called before the first window and after each, or each batch of them; never concurrently.
  std::function<void(const EvaluationProgress&)> on_progress = {};
};

/// Throws Error, naming the text, unless each of `texts` can be evaluated: two tokens in each
/// document; in a text that names none, more tokens than the window; all tokens in the
/// vocabulary. std::invalid_argument for a window or stride out of
/// range, or no texts. evaluate() begins with it; call it to know before any work starts.
void check_texts(const Config& config, std::span<const Text> texts,
                 const EvaluationOptions& options);

/// A policy beside the baseline, over the scored tokens.
struct BaselineComparison {
  double argmax_agreement = 0.0;       ///< share of the tokens with the same most likely next token
  double kl = 0.0;                     ///< mean KL(baseline || policy), nats per token
  Estimate nll_difference;             ///< nll - baseline's nll, paired, with the error of the nll
  Estimate nll_difference_by_windows;  ///< the same, its error of windows as clusters
};

/// One text's metrics, or those of all texts together.
struct TextEvaluation {
  std::string name;
  std::int64_t predicted_tokens = 0;
  Estimate nll;         ///< mean negative log likelihood, nats per predicted token
  Estimate perplexity;  ///< exp(nll)
  std::optional<BaselineComparison> baseline;  ///< if one was given
  RoutingStatistics routing;
  /// (windows), document after document: negative log likelihoods, for paired comparisons
  std::vector<WindowSum> windows;
  std::vector<std::int64_t> windows_of;  ///< (documents): how many windows each has
};

struct Evaluation {
  std::vector<TextEvaluation> domains;  ///< (texts), in order
  /// Weighted by predicted tokens. Texts are strata: the error combines theirs, so that differences
  /// between texts do not count as noise, and is absent if one of theirs is. A text's error is of
  /// its documents as clusters; of its windows, which says nothing of other texts, if it has one.
  TextEvaluation total;
  std::optional<ExpertLoads> loads;  ///< of all texts, if options.group is there
  double macro_nll = 0.0;            ///< mean of the domains' nll, each text weighing the same
  double macro_perplexity = 0.0;     ///< exp(macro_nll)
};

/// The number of experts of every row executed, (layers) x (rows): windows in order, text after
/// text, context rows included.
using RowCounts = std::vector<std::vector<std::int32_t>>;

/// What an evaluation leaves for others to build on.
struct EvaluationRecord {
  /// (predicted tokens, hidden): the hidden state that each prediction was made from. The logits
  /// are one product away (Model::logits), and take vocabulary / hidden times the memory.
  std::vector<float> hidden_states;
  std::vector<double> nll;  ///< (windows): sums of TextEvaluation::windows, text after text
  RowCounts counts;         ///< (layers) x (rows)
};

/// Runs `routers`, one per layer, over the windows of every document of every text. A document
/// shorter than the window is one window. A completion makes a token's loss depend on the tokens of
/// its group; without one, the group changes nothing but the loads.
///
/// `baseline` is the record of an evaluation of the same model, texts and windows; without it
/// there is no BaselineComparison. `record`, if given, is filled. Windows run in parallel and are
/// summed in order: the result does not depend on the number of threads, to the last bit. Throws as
/// check_texts() and Model::forward() do, text and window named, and Error for a perplexity beyond
/// double; std::invalid_argument for a baseline of other texts or windows, and for a
/// completion without a group or with the oracle.
Evaluation evaluate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                    std::span<const Text> texts, const EvaluationOptions& options = {},
                    const EvaluationRecord* baseline = nullptr, EvaluationRecord* record = nullptr);

/// The control for an adaptive policy: its counts, dealt to random tokens. Each layer's counts are
/// shuffled over the rows of all texts, so counts, histogram and cost stay what they were, and only
/// the choice of *which* tokens get many is gone. Depends on `seed` alone, not on the platform.
RowCounts deal_counts(RowCounts counts, std::uint64_t seed);

/// Runs the model with the given number of experts in every row, each row's largest logits,
/// weighted by `weights`. Texts, windows, baseline and record are those of evaluate(). Throws as
/// evaluate() does, and std::invalid_argument for `counts` that do not fit the windows. Floor and
/// ceiling are the smallest and largest count of the layer.
Evaluation evaluate_counts(const Model& model, const RowCounts& counts,
                           const fdroute::SoftmaxWeights& weights, std::span<const Text> texts,
                           const EvaluationOptions& options = {},
                           const EvaluationRecord* baseline = nullptr,
                           EvaluationRecord* record = nullptr);

}  // namespace olmoe
