#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/json_output.hpp"
#include "cli/null_plot.hpp"
#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "forward/model.hpp"
#include "measure/equal_cost.hpp"
#include "measure/evaluation.hpp"
#include "measure/fit_mass.hpp"
#include "measure/non_inferiority.hpp"
#include "measure/null_check.hpp"
#include "measure/null_fit.hpp"
#include "measure/recorded_logits.hpp"
#include "measure/risk_control.hpp"
#include "measure/shuffle.hpp"
#include "measure/solve_policy.hpp"
#include "measure/texts.hpp"
#include "measure/windows.hpp"
#include "routing/routing.hpp"
#include "terminal/progress.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

using Json = nlohmann::ordered_json;

struct CalibrateOptions {
  std::string model;
  Compute compute = Compute::f32;
  std::vector<std::string> texts;
  std::vector<std::string> held_out;
  std::string out;
  NullOptions null;
  RecordingOptions recording;
  double target_experts = 0.0;  ///< 0: none
  bool per_layer = false;
  bool fit_mass = false;
  std::string policy = "bh:alpha=?,min_k=1,max_k=16";
  double max_loss = 0.0;  ///< perplexity ratio; 0: none
  double confidence = 0.95;
  bool json = false;
  std::filesystem::path plot;
};

/// How a text is recorded that nothing is held out of, its progress called `what`.
RecordingOptions recording_of(const CalibrateOptions& options, const std::string& what) {
  return {.window = options.recording.window,
          .skip_first = options.recording.skip_first,
          .on_progress = counting_progress(what, "windows")};
}

/// "bible.txt sha256:0f..., devil.txt sha256:..."
std::string list_of(const std::vector<Text>& texts) {
  std::string list;
  for (const Text& text : texts)
    list.append(list.empty() ? "" : ", ").append(text.name).append(" sha256:").append(text.sha256);
  return list;
}

/// The last part of the path, whether or not it ends in a slash.
std::string directory_name(const std::string& directory) {
  return std::filesystem::weakly_canonical(directory).filename().string();
}

/// Checks on tokens that the fit has not seen, and what --json calls them.
struct LayerFit {
  Uniformity uniformity;
  LoserCheck losers;
};

void print_layers(const FittedNulls& fitted, std::span<const LayerFit> fits) {
  std::printf("%5s  %9s  %9s  %6s  %9s  %9s  %9s  %15s  %8s  %9s\n", "layer", "scores", "bandwidth",
              "points", "CDF error", "tail from", "tail mean", "tail shape", "KS", "P(p<=.05)");
  for (std::size_t l = 0; l < fits.size(); ++l) {
    const NullTable& table = fitted.layers[l];
    std::printf("%5zu  %9lld  %9.5f  %6zu  %9.2e  %9.4f  %9.5f  %6.3f +- %5.3f  %8.5f  %9.5f\n", l,
                static_cast<long long>(table.samples), table.bandwidth, table.score.size(),
                table.cdf_error, table.tail_from, table.tail_mean, table.tail_shape.value,
                table.tail_shape.error, fits[l].uniformity.ks, fits[l].uniformity.below_0_05);
  }
  std::printf("\n%5s  %10s  %9s  %6s  %6s  %6s\n", "layer", "P(p<=.00625)", "var ratio", "pi0",
              "sd", "> 1");
  for (std::size_t l = 0; l < fits.size(); ++l) {
    const LoserCheck& check = fits[l].losers;
    std::printf("%5zu  %12.5f  %9.3f  %6.3f  %6.3f  %5.1f%%\n", l, check.below_small,
                check.variance_ratio, check.pi0_mean, check.pi0_sd, 100.0 * check.pi0_above_1);
  }
}

Json layers_json(const FittedNulls& fitted, std::span<const LayerFit> fits) {
  Json layers = Json::array();
  for (std::size_t l = 0; l < fits.size(); ++l) {
    const NullTable& table = fitted.layers[l];
    const auto& [uniform, losers] = fits[l];
    layers.push_back({{"scores", table.samples},
                      {"bandwidth", table.bandwidth},
                      {"points", table.score.size()},
                      {"cdf_error", table.cdf_error},
                      {"tail_from", table.tail_from},
                      {"tail_mean", table.tail_mean},
                      {"tail_shape", table.tail_shape.value},
                      {"tail_shape_error", table.tail_shape.error},
                      {"ks", uniform.ks},
                      {"below_0_05", uniform.below_0_05},
                      {"below_0_00625", losers.below_small},
                      {"variance_ratio", losers.variance_ratio},
                      {"pi0_mean", losers.pi0_mean},
                      {"pi0_sd", losers.pi0_sd},
                      {"pi0_above_1", losers.pi0_above_1}});
  }
  return layers;
}

/// What Benjamini-Hochberg selects at several alphas: the mean over the layers. Printed, or
/// returned for --json.
Json check_selections(const CalibrateOptions& options,
                      std::span<const fdroute::TabulatedNull> nulls, const RouterLogits& held_out) {
  Json selections = Json::array();
  if (!options.json)
    std::printf("\n%5s  %12s  %28s\n", "alpha", "mean experts", "selected ranking below trim");
  for (const double alpha : {0.01, 0.05, 0.1, 0.2}) {
    SelectionCheck mean;
    for (std::size_t l = 0; l < nulls.size(); ++l) {
      const auto check =
          check_selection(nulls[l], held_out[l], options.null.score, options.null.trim, alpha);
      mean.mean_count += check.mean_count / static_cast<double>(nulls.size());
      mean.below_trim += check.below_trim / static_cast<double>(nulls.size());
    }
    if (!options.json)
      std::printf("%5g  %12.3f  %27.2f%%\n", alpha, mean.mean_count, 100.0 * mean.below_trim);
    selections.push_back(
        {{"alpha", alpha}, {"mean_experts", mean.mean_count}, {"below_trim", mean.below_trim}});
  }
  return selections;
}

/// Small p-values of losers by text and layer: a null that fits all texts together need not fit
/// one. Printed, or returned for --json.
Json check_texts_alone(const CalibrateOptions& options, const Model& model,
                       std::span<const fdroute::TabulatedNull> nulls,
                       const std::vector<Text>& held_out) {
  const auto native = make_routers(model.config(), native_policy, std::filesystem::path());
  Json by_text = Json::array();
  if (!options.json) std::printf("\nP(p<=.00625) by text and layer\n");
  for (const Text& text : held_out) {
    const RouterLogits logits =
        record_logits(model, native, std::span(&text, 1), recording_of(options, "checking")).fit;
    std::vector<double> below;
    for (std::size_t l = 0; l < nulls.size(); ++l)
      below.push_back(
          check_losers(nulls[l], logits[l], options.null.score, options.null.trim).below_small);
    by_text.push_back({{"text", text.name}, {"below_0_00625", below}});
    if (options.json) continue;
    std::printf("%-20s", text.name.c_str());
    for (const double share : below) std::printf("  %7.5f", share);
    std::printf("\n");
  }
  return by_text;
}

/// Windows that do not overlap, of the length of those that are recorded; their progress is called
/// `what`.
EvaluationOptions evaluation_of(const CalibrateOptions& options, const Model& model,
                                const std::string& what) {
  EvaluationOptions evaluation{.window = options.recording.window};
  if (evaluation.window == 0) evaluation.window = default_window(model.config());
  evaluation.stride = evaluation.window;
  evaluation.on_progress = [show = counting_progress(what, "windows")](
                               const EvaluationProgress& now) { show(now.done, now.all); };
  return evaluation;
}

/// nll of each document under a policy: (documents).
DocumentLosses losses_of(const Model& model, const std::string& policy,
                         std::span<const fdroute::TabulatedNull> nulls, std::span<const Text> texts,
                         const EvaluationOptions& options) {
  const TextEvaluation total =
      evaluate(model, make_routers(model.config(), policy, nulls), texts, options).total;
  return document_losses(total.windows, total.windows_of);
}

DocumentLosses in_random_order(DocumentLosses losses) {
  constexpr std::uint64_t seed = 1;
  Shuffle shuffle(seed);
  shuffle(losses);
  return losses;
}

RecordingOptions solving_options(const CalibrateOptions& options) {
  return {.window = options.recording.window,
          .on_progress = counting_progress("solving", "windows")};
}

/// Tests candidates from the most experts to the fewest. Prints the last that is safe, or returns
/// it for --json.
Json control_loss(const CalibrateOptions& options, const Model& model,
                  std::span<const fdroute::TabulatedNull> nulls, const std::vector<Text>& texts,
                  std::vector<Text> held_out) {
  constexpr double margins_to_clip = 10.0;
  const double margin = std::log(options.max_loss);
  const RiskLimit limit{margin, margins_to_clip * margin, options.confidence};
  const EvaluationOptions evaluation = evaluation_of(options, model, "measuring");
  for (Text& text : held_out) text.documents = text.all_documents();
  check_texts(model.config(), held_out, evaluation);

  const int native = model.config().num_experts_per_tok;
  const DocumentLosses own = losses_of(model, native_policy, nulls, held_out, evaluation);
  std::vector<std::string> solved;
  Json candidates_json = Json::array();
  if (!options.json)
    std::printf("\n%7s  %9s  %12s  %9s  %7s\n", "experts", "documents", "mean loss", "clipped",
                "p");
  const auto p = [&](std::size_t i) {
    const Target target{options.policy, native - 0.5 * static_cast<double>(i), options.per_layer};
    SolvedPolicy policy;
    try {
      policy = solve_policy(model, target, nulls, texts, solving_options(options));
    } catch (const Unreachable& unreachable) {
      if (!options.json) std::printf("%s\n", unreachable.what());
      return 1.0;  // and so the end
    }
    solved.push_back(policy.policy);
    // Above those of the model's own routing.
    const DocumentLosses losses = in_random_order(
        difference(losses_of(model, policy.policy, nulls, held_out, evaluation), own));
    const auto clipped = std::count_if(losses.begin(), losses.end(),
                                       [&](double loss) { return std::abs(loss) > limit.clip; });
    const double value = p_by_betting(losses, limit);
    if (!options.json)
      std::printf("%7.2f  %9zu  %12.5f  %9td  %7.4f\n", policy.mean_experts, losses.size(),
                  document_mean(losses).value, clipped, value);
    candidates_json.push_back({{"policy", policy.policy},
                               {"mean_experts", policy.mean_experts},
                               {"documents", losses.size()},
                               {"mean_loss", document_mean(losses).value},
                               {"clipped", clipped},
                               {"p", value}});
    return value;
  };
  const auto candidates = static_cast<std::size_t>(2 * native - 1);
  const auto last = last_safe(candidates, p, options.confidence);
  model.checkpoint().check_unchanged();
  const Json result{{"margin", margin},
                    {"confidence", options.confidence},
                    {"candidates", candidates_json},
                    {"policy", last ? Json(solved[*last]) : Json()}};
  if (options.json) return result;
  if (!last) {
    std::printf(
        "\nnot even the first can be shown to lose less than %.5f nats per token: take more "
        "documents, or the model's own routing\n",
        margin);
    return result;
  }
  std::printf(
      "\nwith probability %g or more the mean loss over documents, clipped to %.4f, is below "
      "%.5f nats per token\n--route '%s' --nulls %s\n",
      options.confidence, limit.clip, margin, solved[*last].c_str(), options.out.c_str());
  return result;
}

/// Writes the picture of --plot.
void plot(const CalibrateOptions& options, std::span<const fdroute::TabulatedNull> nulls,
          const RouterLogits& held_out) {
  std::vector<std::vector<double>> p(nulls.size());
  for (std::size_t l = 0; l < nulls.size(); ++l) {
    for (const float score : losing_scores(held_out[l], options.null.score, options.null.trim))
      p[l].push_back(nulls[l](static_cast<double>(score)));
    std::ranges::sort(p[l]);
  }
  write_atomically(options.plot, null_plot(p));
}

void print_solved(const SolvedPolicy& solved) {
  std::printf("\n%.3f experts per token, measured; by layer", solved.mean_experts);
  for (const double mean : solved.layer_mean_experts) std::printf(" %.3f", mean);
}

/// Fits the policy's mass_exponent on the calibration text.
Json fit_exponent(const CalibrateOptions& options, const Model& model, const Target& target,
                  std::span<const fdroute::TabulatedNull> nulls, const std::vector<Text>& texts) {
  const EvaluationOptions evaluation = evaluation_of(options, model, "fitting");
  Json result;
  MassFit fit;
  if (options.target_experts > 0.0) {
    const SolvedMass with_mean = solve_with_mass(model, target, nulls, texts, evaluation);
    if (!options.json) print_solved(with_mean.solved);
    result["policy"] = with_mean.solved.policy;
    result["mean_experts"] = with_mean.solved.mean_experts;
    fit = with_mean.fit;
  } else {
    fit = fit_mass(model, options.policy, nulls, texts, evaluation);
    result["policy"] = with_mass(options.policy, fit.exponent, model.config().num_experts_per_tok);
  }
  result["exponent"] = fit.exponent;
  result["curve"] = Json::array();
  for (const auto& [exponent, nll] : fit.curve)
    result["curve"].push_back({{"exponent", exponent}, {"nll", nll}});
  if (options.json) return result;
  std::printf("\n%13s  %16s\n", "mass_exponent", "nll (nats/token)");
  for (const auto& [exponent, nll] : fit.curve)
    std::printf("%13.2f  %16.5f%s\n", exponent, nll, exponent == fit.exponent ? "  least" : "");
  std::printf("\n--route '%s' --nulls %s\n", result["policy"].get<std::string>().c_str(),
              options.out.c_str());
  return result;
}

void run(const CalibrateOptions& options) {
  if (options.max_loss != 0.0 && (!(options.max_loss > 1.0) || options.held_out.empty()))
    throw std::invalid_argument(
        "--max-loss must be above 1 and needs --held-out, whose documents it is tested on");
  if (options.per_layer && options.target_experts == 0.0 && options.max_loss == 0.0)
    throw std::invalid_argument("--per-layer goes with --target-experts or --max-loss");
  if (options.fit_mass) {
    if (options.target_experts == 0.0 && options.policy.find('?') != std::string::npos)
      throw std::invalid_argument(
          "--fit-mass needs a --policy without '?', or --target-experts to solve it for");
    with_mass(options.policy, 0.0, 1);  // has none yet
  }
  if (!(options.confidence > 0.0 && options.confidence < 1.0))
    throw std::invalid_argument("--confidence must lie in (0, 1)");
  const std::filesystem::path directory = std::filesystem::absolute(options.out).parent_path();
  if (!std::filesystem::is_directory(directory))
    throw Error(options.out + ": there is no directory " + directory.string());
  const Model model(options.model, options.compute);
  const auto tokenizer = Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto texts = load_texts(options.texts, tokenizer);
  RecordingOptions recording = options.recording;
  std::vector<Text> held_out;
  if (options.held_out.empty()) {
    recording.held_out_share = 0.1;
  } else {
    held_out = load_texts(options.held_out, tokenizer);
  }
  // The target is the last thing to be reached; that it can be asked for is checked first.
  const Target target{options.policy, options.target_experts, options.per_layer};
  if (options.target_experts > 0.0) check_target(model.config(), target, options.null.score);

  const auto native = make_routers(model.config(), native_policy, std::filesystem::path());
  recording.on_progress = counting_progress("recording", "windows");
  RecordedLogits recorded = record_logits(model, native, texts, recording);
  if (!held_out.empty())
    recorded.held_out =
        record_logits(model, native, held_out, recording_of(options, "recording")).fit;
  const FittedNulls fitted = fit_nulls(recorded.fit, options.null, directory_name(options.model));
  model.checkpoint().check_unchanged();
  save_nulls(
      options.out, fitted, model,
      {{"texts", list_of(texts)},
       {"held_out", held_out.empty() ? "the last tenth of each text's windows" : list_of(held_out)},
       {"skip_first", std::to_string(options.recording.skip_first)},
       {"compute", std::string(name(options.compute))}});

  const auto nulls = fitted.nulls();
  std::vector<LayerFit> fits;
  for (std::size_t l = 0; l < nulls.size(); ++l) {
    const auto& [score, trim, method] = options.null;
    fits.push_back({uniformity(nulls[l], losing_scores(recorded.held_out[l], score, trim)),
                    check_losers(nulls[l], recorded.held_out[l], score, trim)});
  }
  if (!options.json) {
    std::printf("score %s, trim %d, method %s: fitted on %lld tokens, checked on %lld others\n\n",
                options.null.score.c_str(), options.null.trim,
                std::string(name(options.null.method)).c_str(),
                static_cast<long long>(fitted.tokens),
                static_cast<long long>(recorded.held_out.front().tokens()));
    print_layers(fitted, fits);
  }
  Json result{{"model", options.model},
              {"out", options.out},
              {"score", options.null.score},
              {"trim", options.null.trim},
              {"method", std::string(name(options.null.method))},
              {"fitted_tokens", fitted.tokens},
              {"checked_tokens", recorded.held_out.front().tokens()},
              {"layers", layers_json(fitted, fits)}};
  result["selections"] = check_selections(options, nulls, recorded.held_out);
  result["by_text"] =
      held_out.size() > 1 ? check_texts_alone(options, model, nulls, held_out) : Json();
  if (!options.plot.empty()) plot(options, nulls, recorded.held_out);
  if (!options.json) std::printf("\nwritten to %s\n", options.out.c_str());
  result["loss"] =
      options.max_loss > 0.0 ? control_loss(options, model, nulls, texts, held_out) : Json();
  result["solved"] = Json();
  result["mass"] = options.fit_mass ? fit_exponent(options, model, target, nulls, texts) : Json();
  if (options.target_experts > 0.0 && !options.fit_mass) {
    const SolvedPolicy solved = solve_policy(model, target, nulls, texts, solving_options(options));
    result["solved"] = {{"policy", solved.policy},
                        {"mean_experts", solved.mean_experts},
                        {"layer_mean_experts", solved.layer_mean_experts}};
    if (!options.json) {
      print_solved(solved);
      std::printf("\n--route '%s' --nulls %s\n", solved.policy.c_str(), options.out.c_str());
    }
  }
  model.checkpoint().check_unchanged();
  if (options.json) print_json("calibrate", result);
}

}  // namespace

void add_calibrate(CommandLine& line) {
  const Command command = line.subcommand(
      "calibrate", "Fit nulls to a text's router scores; solve for a mean count, or a loss");
  const auto options = std::make_shared<CalibrateOptions>();
  add_model_option(command, options->model);
  command.option("-f,--text", options->texts, "UTF-8 text files; a directory means its *.txt")
      .required()
      .shown_as("FILE...");
  command.option("-o,--out", options->out, "safetensors file to write").required().shown_as("FILE");
  command
      .option("--held-out", options->held_out,
              "Text to check the fit on; default: the last tenth of each --text's windows, "
              "which the fit then leaves out")
      .shown_as("FILE...");
  command
      .word("--score", options->null.score, {"logit", "log_softmax", "zscore", "robust_zscore"},
            "The score that the null distribution is of")
      .shows_default("log_softmax");
  command
      .option("--trim", options->null.trim,
              "Leave out each token's N largest scores; 0: none, the marginal distribution")
      .shows_default()
      .whole_number(0)
      .shown_as("N");
  command
      .choice("--method", options->null.method,
              {{"kde", NullMethod::kde}, {"ecdf", NullMethod::ecdf}},
              "Kernel density or empirical distribution")
      .shows_default("kde");
  command
      .option("--skip-first", options->recording.skip_first,
              "Leave out the first N tokens of each window")
      .shows_default()
      .whole_number(std::int64_t{0})
      .shown_as("N");
  command
      .option("--window", options->recording.window,
              "Tokens run together; default: what the model was made for, at most 1024")
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command
      .option("--target-experts", options->target_experts,
              "Solve --policy's open value, so that a token gets K experts on average")
      .above_0()
      .shown_as("K");
  command.flag("--per-layer", options->per_layer, "One value per layer, K experts in each");
  command.option("--policy", options->policy, "Policy with ? for the value to solve for")
      .shows_default()
      .shown_as("POLICY");
  command.flag("--fit-mass", options->fit_mass,
               "Fit the mass_exponent of --policy's weights to the least nll on --text");
  const Option max_loss =
      command
          .option("--max-loss", options->max_loss,
                  "Choose --policy's open value with the fewest experts whose perplexity over "
                  "--held-out's documents is surely below this ratio to the model's own")
          .above_0()
          .shown_as("RATIO");
  command.option("--confidence", options->confidence, "Probability that --max-loss holds")
      .shows_default()
      .needs(max_loss)
      .shown_as("P");
  command
      .option("--plot", options->plot,
              "SVG file to write: histogram and QQ plot of the held-out losers' p-values")
      .shown_as("FILE");
  add_json_option(command, options->json);
  add_quiet_option(command);
  add_compute_options(command, options->compute);
  command.example(
      "olmoe calibrate -m reference/model -f reference/model/development -o nulls.safetensors "
      "--target-experts 5");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
