#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/input.hpp"
#include "cli/json_output.hpp"
#include "cli/stop_strings.hpp"
#include "forward/completed_routing.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct GenerateOptions {
  std::string model;
  // Exactly one of these is given.
  std::optional<std::string> prompt;
  std::string file;
  std::string prompts;
  int batch = 1;
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  RouteOptions route;
  CompletionOptions completion;
  GenerationOptions generation;
  std::vector<std::string> stop;
  bool quiet = false;
  bool json = false;
};

std::vector<InputText> prompts_of(const GenerateOptions& options) {
  if (options.prompt) return {{*options.prompt, "--prompt"}};
  if (!options.prompts.empty()) return read_prompt_list(options.prompts);
  Input input(options.file);
  return {{input.read_all(), input.name()}};
}

/// How each token is routed, `batch` sequences being run together.
std::unique_ptr<RoutingSource> source_of(const GenerateOptions& options,
                                         std::span<const fdroute::AnyRouter> routers) {
  const auto completion = options.completion.completion();
  if (!completion) return std::make_unique<PolicyRouting>(routers);
  return std::make_unique<CompletedRouting>(routers, Grouping{Grouping::Kind::batch, options.batch},
                                            *completion);
}

using Ids = std::vector<std::int32_t>;

/// A prompt's continuation.
struct Continuation {
  std::string text;  ///< without the prompt, and without what stopped it
  std::vector<std::int32_t> ids;
  std::optional<std::string> stopped_by;
  EndedBy ended_by = EndedBy::length;
};

struct Continuations {
  std::vector<Continuation> of_prompts;
  GenerationStatistics statistics;  ///< of all of them
};

/// Continues prompts together. Calls `show` with each piece of a continuation's text as soon as it
/// is sure.
Continuations continue_prompts(const Model& model, const Tokenizer& tokenizer,
                               RoutingSource& source, std::span<const Ids> prompts,
                               const GenerateOptions& options,
                               const std::function<void(const std::string&)>& show) {
  std::vector<StreamDecoder> decoders(prompts.size(), StreamDecoder(tokenizer));
  std::vector<StopStrings> stops(prompts.size(), StopStrings(options.stop));
  Continuations result;
  result.of_prompts.resize(prompts.size());
  const auto add = [&](std::size_t p, const std::string& piece) {
    result.of_prompts[p].text += piece;
    show(piece);
  };
  GenerationOptions generation = options.generation;
  generation.stop_after_token = [&](std::size_t p) { return stops[p].stopped_by().has_value(); };
  result.statistics = generate(model, source, prompts, options.batch, generation,
                               [&](std::size_t p, std::int32_t id) {
                                 result.of_prompts[p].ids.push_back(id);
                                 add(p, stops[p].push(decoders[p].push(id)));
                               });
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    add(p, stops[p].push(decoders[p].finish()));
    add(p, stops[p].finish());
    result.of_prompts[p].stopped_by = stops[p].stopped_by();
    result.of_prompts[p].ended_by = result.statistics.ended_by[p];
  }
  return result;
}

nlohmann::ordered_json to_json(const InputText& prompt, const Continuation& continuation) {
  const char* const ended_by = continuation.stopped_by                 ? "stop"
                               : continuation.ended_by == EndedBy::eos ? "eos"
                                                                       : "length";
  return {{"prompt", prompt.text},
          {"text", continuation.text},
          {"ids", continuation.ids},
          {"ended_by", ended_by},
          {"stop", continuation.stopped_by ? nlohmann::ordered_json(*continuation.stopped_by)
                                           : nlohmann::ordered_json()}};
}

nlohmann::ordered_json to_json(const GenerationStatistics& statistics) {
  return {
      {"mean_experts", statistics.experts.mean()}, {"prompt_tokens", statistics.prompt_tokens},
      {"new_tokens", statistics.new_tokens},       {"prefill_seconds", statistics.prefill_seconds},
      {"decode_steps", statistics.decode_steps},   {"decode_seconds", statistics.decode_seconds}};
}

void print_cost(const std::string& policy, const GenerationStatistics& statistics) {
  const auto per_second = [](std::int64_t tokens, double seconds) {
    return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  std::fprintf(stderr,
               "[%s: %.2f experts per token; prompt %lld tokens, %.0f tokens/s; "
               "%lld new tokens, %.0f tokens/s]\n",
               policy.c_str(), statistics.experts.mean(),
               static_cast<long long>(statistics.prompt_tokens),
               per_second(statistics.prompt_tokens, statistics.prefill_seconds),
               static_cast<long long>(statistics.new_tokens),
               per_second(statistics.decode_steps, statistics.decode_seconds));
}

void run(const GenerateOptions& options) {
  const SamplingOptions& sampling = options.generation.sampling;
  sampling.validate();
  if (sampling.temperature == 0.0 &&
      (sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0))
    throw std::invalid_argument(
        "--top-k, --top-p and --min-p need --temperature above 0: without, the most likely token "
        "is taken");
  if (options.prompts.empty() && options.completion.completion())
    throw std::invalid_argument("--free-window needs --prompts: nothing is loaded for others");
  const StopStrings check(options.stop);
  const Model model(options.model, options.compute, options.kv);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto routers = options.route.routers(options.model, model);
  const auto source = source_of(options, routers);
  const std::vector<InputText> prompts = prompts_of(options);
  std::vector<Ids> ids;  // of all prompts: what cannot be run is found before anything is
  for (const InputText& prompt : prompts) {
    ids.push_back(tokenizer.encode(prompt.text, prompt.origin));
    check_prompt(model, ids.back(), options.generation, prompt.origin);
  }

  nlohmann::ordered_json generations = nlohmann::ordered_json::array();
  // Alone, a prompt has figures of its own, and its text is shown as it comes.
  const bool is_alone = options.batch == 1;
  const auto run_some = [&](std::size_t first, std::size_t n) {
    const std::span some = std::span(prompts).subspan(first, n);
    bool begun = false;
    const auto show = [&](const std::string& piece) {
      if (options.json || !is_alone) return;
      // The prompt once there is a token: errors come first.
      std::cout << (begun ? "" : some[0].text) << piece << std::flush;
      begun = true;
    };
    const auto [continuations, statistics] = continue_prompts(
        model, tokenizer, *source, std::span(ids).subspan(first, n), options, show);
    for (std::size_t p = 0; p < some.size(); ++p) {
      if (options.json) {
        generations.push_back(to_json(some[p], continuations[p]));
      } else {
        std::cout << (is_alone ? "" : some[p].text + continuations[p].text) << std::endl;
      }
    }
    if (options.json && is_alone) generations.back().update(to_json(statistics));
    if (!options.json && !options.quiet) print_cost(policy_of(routers), statistics);
    return statistics;
  };
  nlohmann::ordered_json together;
  if (is_alone) {
    for (std::size_t p = 0; p < prompts.size(); ++p) run_some(p, 1);
  } else {
    together = to_json(run_some(0, prompts.size()));
  }
  model.checkpoint().check_unchanged();
  if (options.json)
    print_json("generate", {{"model", options.model},
                            {"policy", policy_of(routers)},
                            {"temperature", sampling.temperature},
                            {"top_k", sampling.top_k},
                            {"top_p", sampling.top_p},
                            {"min_p", sampling.min_p},
                            {"seed", options.generation.seed},
                            {"batch", options.batch},
                            {"together", together},
                            {"generations", generations}});
}

void add_sampling_options(const Command& command, GenerationOptions& generation) {
  SamplingOptions& sampling = generation.sampling;
  command
      .option("--temperature", sampling.temperature,
              "0: always the most likely token; otherwise draw from softmax(logits / T)")
      .shows_default()
      .at_least_0()
      .shown_as("T");
  command.option("--top-k", sampling.top_k, "Draw from the K most likely tokens; 0: from all")
      .shows_default()
      .whole_number(0)
      .shown_as("K");
  command
      .option("--top-p", sampling.top_p,
              "Of these, from the fewest whose probabilities sum to P or more")
      .shows_default()
      .from_0_to_1()
      .shown_as("P");
  command
      .option("--min-p", sampling.min_p,
              "Of these, from those with at least P times the largest probability")
      .shows_default()
      .from_0_to_1()
      .shown_as("P");
  command.option("-s,--seed", generation.seed, "Seed of the drawing; the same gives the same text")
      .shows_default()
      .whole_number(std::uint64_t{0})
      .shown_as("N");
}

}  // namespace

void add_generate(CommandLine& line) {
  const Command command = line.subcommand("generate", "Continue a prompt, or several");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_option(command, options->model);
  command
      .option("-n,--max-new-tokens", options->generation.max_new_tokens,
              "Longest continuation, in tokens")
      .shows_default()
      .whole_number(1, 1'000'000'000)
      .shown_as("N");
  command
      .option("--stop", options->stop,
              "End before this text, which is not printed; may be given several times")
      .one_at_a_time()
      .shown_as("TEXT");
  const Command prompt = command.exactly_one_of("Prompt");
  prompt.option("-p,--prompt", options->prompt, "Text to continue").shown_as("TEXT");
  prompt.option("-f,--file", options->file, "A file that is the prompt; - is stdin")
      .shown_as("FILE");
  const Option prompts =
      prompt
          .option("--prompts", options->prompts,
                  "A file with a prompt per line, or a JSON array of them; - is stdin")
          .shown_as("FILE");
  command
      .option("--batch", options->batch,
              "Prompts continued together: a weight is read once for all of them")
      .shows_default()
      .whole_number(1, 1'000'000)
      .shown_as("N")
      .needs(prompts);
  add_completion_options(command, options->completion);
  add_sampling_options(command.under("Sampling"), options->generation);
  add_route_options(command, options->route);
  add_json_option(command, options->json);
  command.under("General").flag("-q,--quiet", options->quiet, "Print the text alone");
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  command.example("olmoe generate -m reference/model -p 'In the beginning' -n 40");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
