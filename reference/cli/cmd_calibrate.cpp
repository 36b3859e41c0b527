#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "formats/error.hpp"
#include "forward/model.hpp"
#include "measure/null_fit.hpp"
#include "measure/recorded_logits.hpp"
#include "measure/solve_policy.hpp"
#include "measure/texts.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

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
  std::string policy = "bh:alpha=?,min_k=1,max_k=16";
};

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

void run(const CalibrateOptions& options) {
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
  RecordedLogits recorded = record_logits(model, native, texts, recording);
  if (!held_out.empty())
    recorded.held_out = record_logits(model, native, held_out,
                                      {.window = options.recording.window,
                                       .skip_first = options.recording.skip_first})
                            .fit;
  const FittedNulls fitted = fit_nulls(recorded.fit, options.null, directory_name(options.model));
  model.checkpoint().check_unchanged();
  save_nulls(
      options.out, fitted, model,
      {{"texts", list_of(texts)},
       {"held_out", held_out.empty() ? "the last tenth of each text's windows" : list_of(held_out)},
       {"skip_first", std::to_string(options.recording.skip_first)},
       {"compute", std::string(name(options.compute))}});

  std::printf("score %s, trim %d, method %s: fitted on %lld tokens, checked on %lld others\n\n",
              options.null.score.c_str(), options.null.trim,
              std::string(name(options.null.method)).c_str(), static_cast<long long>(fitted.tokens),
              static_cast<long long>(recorded.held_out.front().tokens()));
  std::printf("%5s  %9s  %9s  %6s  %9s  %9s  %9s  %8s  %9s\n", "layer", "scores", "bandwidth",
              "points", "CDF error", "tail from", "tail mean", "KS", "P(p<=.05)");
  const auto nulls = fitted.nulls();
  for (std::size_t l = 0; l < nulls.size(); ++l) {
    const NullTable& table = fitted.layers[l];
    const Uniformity check = uniformity(
        nulls[l], losing_scores(recorded.held_out[l], options.null.score, options.null.trim));
    std::printf("%5zu  %9lld  %9.5f  %6zu  %9.2e  %9.4f  %9.5f  %8.5f  %9.5f\n", l,
                static_cast<long long>(table.samples), table.bandwidth, table.score.size(),
                table.cdf_error, table.tail_from, table.tail_mean, check.ks, check.below_0_05);
  }
  std::printf("\nwritten to %s\n", options.out.c_str());
  if (options.target_experts == 0.0) return;

  const SolvedPolicy solved =
      solve_policy(model, target, nulls, texts, {.window = options.recording.window});
  model.checkpoint().check_unchanged();
  std::printf("\n%.3f experts per token, measured; by layer", solved.mean_experts);
  for (const double mean : solved.layer_mean_experts) std::printf(" %.3f", mean);
  std::printf("\n--route '%s' --nulls %s\n", solved.policy.c_str(), options.out.c_str());
}

}  // namespace

void add_calibrate(CommandLine& line) {
  const Command command = line.subcommand(
      "calibrate", "Fit null distributions to a text's router scores; solve for a mean count");
  const auto options = std::make_shared<CalibrateOptions>();
  add_model_option(command, options->model);
  command.option("--text", options->texts, "UTF-8 text files; a directory means its *.txt")
      .required()
      .shown_as("FILE...");
  command.option("--out", options->out, "safetensors file to write").required().shown_as("FILE");
  command
      .option("--held-out", options->held_out,
              "Text to check the fit on; default: the last tenth of each --text's windows, "
              "which the fit then leaves out")
      .shown_as("FILE...");
  command
      .word("--score", options->null.score, {"logit", "log_softmax", "zscore"},
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
  const Option target =
      command
          .option("--target-experts", options->target_experts,
                  "Solve --policy's open value, so that a token gets K experts on average")
          .above_0()
          .shown_as("K");
  command.flag("--per-layer", options->per_layer, "One value per layer, K experts in each")
      .needs(target);
  command.option("--policy", options->policy, "Policy with ? for the value to solve for")
      .shows_default()
      .needs(target)
      .shown_as("POLICY");
  add_compute_options(command, options->compute);
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
