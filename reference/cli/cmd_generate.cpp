#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct GenerateOptions {
  std::string model;
  std::string prompt;
  Compute compute = Compute::f32;
  RouteOptions route;
  GenerationOptions generation;
};

void run(const GenerateOptions& options) {
  const Model model(options.model, options.compute);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto routers = options.route.routers(options.model, model);
  const auto prompt = tokenizer.encode(options.prompt, "--prompt");

  StreamDecoder decoder(tokenizer);
  std::string started = options.prompt;
  const auto statistics =
      generate(model, routers, prompt, options.generation, [&](std::int32_t id) {
        std::cout << started << decoder.push(id) << std::flush;
        started.clear();
      });
  std::cout << started << decoder.finish() << std::endl;
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
  const Command command = line.subcommand("generate", "Continue a prompt");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_option(command, options->model);
  command.option("--prompt", options->prompt, "Text to continue").required().shown_as("TEXT");
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
