#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/json_output.hpp"
#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"
#include "routing/routing.hpp"
#include "sweep/evaluation_json.hpp"
#include "terminal/progress.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct PerplexityOptions {
  std::string model;
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  std::vector<std::string> texts;
  RouteOptions route;
  CompletionOptions completion;
  EvaluationOptions evaluation;
  bool json = false;
};

/// "12.345 +- 0.067", or the value alone.
std::string with_error(const Estimate& estimate) {
  char text[64];
  if (estimate.error) {
    std::snprintf(text, sizeof text, "%.4f +- %.4f", estimate.value, *estimate.error);
  } else {
    std::snprintf(text, sizeof text, "%.4f", estimate.value);
  }
  return text;
}

/// evaluate() with a progress line that shows the perplexity so far, its error by windows.
Evaluation evaluate_shown(const Model& model, std::span<const fdroute::AnyRouter> routers,
                          std::span<const Text> texts, EvaluationOptions options) {
  std::optional<Progress> progress;
  std::vector<WindowSum> windows;
  options.on_progress = [&](const EvaluationProgress& now) {
    if (now.done == 0) {
      progress.emplace(
          Work{.what = "perplexity", .unit = "windows", .total = static_cast<double>(now.all)});
      return progress->start("");
    }
    windows.push_back(now.last);
    progress->update(static_cast<double>(now.done), [&] {
      return "perplexity " + with_error(perplexity_of(cluster_mean(windows)));
    });
  };
  return evaluate(model, routers, texts, options);
}

void print_row(int width, const TextEvaluation& text) {
  std::printf("%-*s  %8lld  %18s  %22s  %7.3f\n", width, text.name.c_str(),
              static_cast<long long>(text.predicted_tokens), with_error(text.nll).c_str(),
              with_error(text.perplexity).c_str(), text.routing.counts.mean);
}

void print_loads(const ExpertLoads& loads, const std::optional<fdroute::Completion>& completion) {
  std::printf("experts loaded: %.3f per layer and group, %s", loads.mean,
              to_text(loads.grouping).c_str());
  if (completion)
    std::printf(", completed within window %d to max_k %d", completion->window, completion->max_k);
  std::printf("; %.2f tokens per group; %.0f bytes read per token; by layer",
              loads.tokens_per_group, loads.bytes_per_token);
  for (const double layer : loads.layers) std::printf(" %.2f", layer);
  std::printf("\n");
}

void run(const PerplexityOptions& options) {
  EvaluationOptions how = options.evaluation;
  how.completion = options.completion.completion();
  if (how.completion && !how.group)
    throw std::invalid_argument(
        "--free-window needs --group: what is loaded anyway, is said by it");
  const Model model(options.model, options.compute, options.kv);
  const auto routers = options.route.routers(options.model, model);
  const auto texts = load_texts(
      options.texts, Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json"));
  const Evaluation evaluation = evaluate_shown(model, routers, texts, how);
  model.checkpoint().check_unchanged();
  if (options.json)
    return print_json("perplexity", {{"model", options.model},
                                     {"policy", policy_of(routers)},
                                     {"evaluation", to_json(evaluation)}});

  int width = static_cast<int>(evaluation.total.name.size());
  for (const Text& text : texts) width = std::max(width, static_cast<int>(text.name.size()));
  std::printf("policy %s\n%-*s  %8s  %18s  %22s  %7s\n", policy_of(routers).c_str(), width, "text",
              "tokens", "nll (nats/token)", "perplexity", "experts");
  for (const TextEvaluation& domain : evaluation.domains) print_row(width, domain);
  if (texts.size() > 1) {
    print_row(width, evaluation.total);
    std::printf("%-*s  %8s  %18.4f  %22.4f\n", width, "macro", "", evaluation.macro_nll,
                evaluation.macro_perplexity);
  }
  if (evaluation.loads) print_loads(*evaluation.loads, how.completion);
}

}  // namespace

void add_perplexity(CommandLine& line) {
  const Command command = line.subcommand("perplexity", "Perplexity of texts, with its error");
  const auto options = std::make_shared<PerplexityOptions>();
  add_model_option(command, options->model);
  command
      .option("-f,--text", options->texts,
              "UTF-8 text files, each a domain of its own; a directory means its *.txt")
      .required()
      .shown_as("FILE...");
  add_route_options(command, options->route);
  command
      .option("--window", options->evaluation.window,
              "Tokens run together; default: what the model was made for, at most 1024")
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command
      .option("--stride", options->evaluation.stride,
              "Tokens from one window to the next; default: half a window")
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command
      .option(
          "--group",
          [options](const std::string& text) { options->evaluation.group = parse_grouping(text); },
          "Whose loads of experts are counted: N sequences run together, N consecutive tokens, or "
          "tokens one by one with a cache of N experts a layer")
      .shown_as("batch:N|consecutive:N|cache:N");
  add_completion_options(command, options->completion);
  add_json_option(command, options->json);
  add_quiet_option(command);
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  command.example(
      "olmoe perplexity -m reference/model -f reference/model/text --route "
      "bh:alpha=0.05,max_k=16");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
