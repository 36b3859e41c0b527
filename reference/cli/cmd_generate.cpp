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
  Compute compute = Compute::f32;
  RouteOptions route;
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

/// A prompt's continuation.
struct Continuation {
  std::string text;  ///< without the prompt, and without what stopped it
  std::vector<std::int32_t> ids;
  std::optional<std::string> stopped_by;
  GenerationStatistics statistics;
};

/// Continues one prompt. Calls `show` with each piece of the continuation's text as soon as it is
/// sure.
Continuation continue_prompt(const Model& model, const Tokenizer& tokenizer,
                             std::span<const fdroute::AnyRouter> routers, const InputText& prompt,
                             const GenerateOptions& options,
                             const std::function<void(const std::string&)>& show) {
  Continuation result;
  StreamDecoder decoder(tokenizer);
  StopStrings stop(options.stop);
  const auto add = [&](const std::string& piece) {
    result.text += piece;
    show(piece);
  };
  GenerationOptions generation = options.generation;
  generation.stop_after_token = [&] { return stop.stopped_by().has_value(); };
  result.statistics = generate(model, routers, tokenizer.encode(prompt.text, prompt.origin),
                               generation, [&](std::int32_t id) {
                                 result.ids.push_back(id);
                                 add(stop.push(decoder.push(id)));
                               });
  add(stop.push(decoder.finish()));
  add(stop.finish());
  result.stopped_by = stop.stopped_by();
  return result;
}

nlohmann::ordered_json to_json(const InputText& prompt, const Continuation& continuation) {
  const GenerationStatistics& statistics = continuation.statistics;
  const char* const ended_by = continuation.stopped_by               ? "stop"
                               : statistics.ended_by == EndedBy::eos ? "eos"
                                                                     : "length";
  return {{"prompt", prompt.text},
          {"text", continuation.text},
          {"ids", continuation.ids},
          {"ended_by", ended_by},
          {"stop", continuation.stopped_by ? nlohmann::ordered_json(*continuation.stopped_by)
                                           : nlohmann::ordered_json()},
          {"mean_experts", statistics.experts.mean()},
          {"prompt_tokens", statistics.prompt_tokens},
          {"new_tokens", statistics.new_tokens},
          {"prefill_seconds", statistics.prefill_seconds},
          {"decode_steps", statistics.decode_steps},
          {"decode_seconds", statistics.decode_seconds}};
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
  const StopStrings check(options.stop);
  const Model model(options.model, options.compute);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto routers = options.route.routers(options.model, model);
  const std::vector<InputText> prompts = prompts_of(options);

  nlohmann::ordered_json generations = nlohmann::ordered_json::array();
  for (const InputText& prompt : prompts) {
    bool begun = false;
    const auto show = [&](const std::string& piece) {
      if (options.json) return;
      // The prompt once there is a token: errors come first.
      std::cout << (begun ? "" : prompt.text) << piece << std::flush;
      begun = true;
    };
    const Continuation continuation =
        continue_prompt(model, tokenizer, routers, prompt, options, show);
    if (options.json) {
      generations.push_back(to_json(prompt, continuation));
      continue;
    }
    std::cout << std::endl;
    if (!options.quiet) print_cost(policy_of(routers), continuation.statistics);
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
  prompt
      .option("--prompts", options->prompts,
              "A file with a prompt per line, or a JSON array of them; - is stdin")
      .shown_as("FILE");
  add_sampling_options(command.under("Sampling"), options->generation);
  add_route_options(command, options->route);
  add_json_option(command, options->json);
  command.under("General").flag("-q,--quiet", options->quiet, "Print the text alone");
  add_compute_options(command, options->compute);
  command.example("olmoe generate -m reference/model -p 'In the beginning' -n 40");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
