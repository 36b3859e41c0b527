#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "forward/completed_routing.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "routing/routing.hpp"
#include "sweep/prompts.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct GenerateOptions {
  std::string model;
  std::optional<std::string> prompt;
  std::optional<std::filesystem::path> prompts;
  int batch = 1;
  Compute compute = Compute::f32;
  RouteOptions route;
  CompletionOptions completion;
  GenerationOptions generation;
};

/// Prints the text as it comes.
GenerationStatistics continue_one(const GenerateOptions& options, const Model& model,
                                  const Tokenizer& tokenizer,
                                  std::span<const fdroute::AnyRouter> routers) {
  StreamDecoder decoder(tokenizer);
  std::string started = *options.prompt;
  const auto statistics = generate(model, routers, tokenizer.encode(*options.prompt, "--prompt"),
                                   options.generation, [&](std::int32_t id) {
                                     std::cout << started << decoder.push(id) << std::flush;
                                     started.clear();
                                   });
  std::cout << started << decoder.finish() << std::endl;
  return statistics;
}

/// Prints a JSON object a prompt, in their order, when all are done.
GenerationStatistics continue_all(const GenerateOptions& options, const Model& model,
                                  const Tokenizer& tokenizer,
                                  std::span<const fdroute::AnyRouter> routers) {
  const std::vector<Prompt> prompts = read_prompts(*options.prompts);
  std::vector<std::vector<std::int32_t>> ids;
  for (const Prompt& prompt : prompts)
    ids.push_back(tokenizer.encode(prompt.text, options.prompts->string()));
  std::unique_ptr<RoutingSource> source = std::make_unique<PolicyRouting>(routers);
  if (const auto completion = options.completion.completion())
    source = std::make_unique<CompletedRouting>(
        routers, Grouping{Grouping::Kind::batch, options.batch}, *completion);
  std::vector<StreamDecoder> decoders(prompts.size(), StreamDecoder(tokenizer));
  std::vector<std::string> texts(prompts.size());
  const auto statistics = generate(
      model, *source, ids, options.batch, options.generation,
      [&](std::size_t prompt, std::int32_t id) { texts[prompt] += decoders[prompt].push(id); });
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const nlohmann::ordered_json line{{"prompt", prompts[p].text},
                                      {"text", texts[p] + decoders[p].finish()}};
    std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
  std::cout << std::flush;
  return statistics;
}

void run(const GenerateOptions& options) {
  const Model model(options.model, options.compute);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto routers = options.route.routers(options.model, model);
  if (options.prompt && options.completion.completion())
    throw std::invalid_argument("--free-window needs --prompts: nothing is loaded for others");
  const auto statistics = options.prompt ? continue_one(options, model, tokenizer, routers)
                                         : continue_all(options, model, tokenizer, routers);
  model.checkpoint().check_unchanged();

  const auto per_second = [](std::int64_t tokens, double seconds) {
    return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  std::fprintf(stderr,
               "[%s: %.2f experts per token; prompt %lld tokens, %.0f tokens/s; "
               "%lld new tokens, %.0f tokens/s]\n",
               policy_of(routers).c_str(), statistics.experts.mean(),
               static_cast<long long>(statistics.prompt_tokens),
               per_second(statistics.prompt_tokens, statistics.prefill_seconds),
               static_cast<long long>(statistics.new_tokens),
               per_second(statistics.decode_steps, statistics.decode_seconds));
}

}  // namespace

void add_generate(CommandLine& line) {
  const Command command = line.subcommand("generate", "Continue a prompt, or several together");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_option(command, options->model);
  const Command input = command.exactly_one_of("Input");
  input.option("--prompt", options->prompt, "Text to continue").shown_as("TEXT");
  const Option prompts =
      input
          .option("--prompts", options->prompts,
                  "Texts to continue, a JSON array of {\"class\": ..., \"text\": ...}; prints a "
                  "JSON object for each, one a line")
          .shown_as("FILE");
  command
      .option("--batch", options->batch,
              "Prompts continued together: a weight is read once for all of them")
      .shows_default()
      .whole_number(1, 1'000'000)
      .shown_as("N")
      .needs(prompts);
  add_completion_options(command, options->completion);
  command.option("--max-new-tokens", options->generation.max_new_tokens, "Longest continuation")
      .shows_default()
      .whole_number(1, 1'000'000'000)
      .shown_as("N");
  add_route_options(command, options->route);
  command
      .option("--temperature", options->generation.temperature,
              "0: always the most likely token; otherwise sample from softmax(logits / T)")
      .shows_default()
      .at_least_0()
      .shown_as("T");
  command.option("--seed", options->generation.seed, "Seed of the sampling")
      .shows_default()
      .whole_number(std::uint64_t{0})
      .shown_as("N");
  add_compute_options(command, options->compute);
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
