#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "commands.hpp"
#include "generation.hpp"
#include "model.hpp"
#include "tokenizer.hpp"

namespace olmoe {
namespace {

struct GenerateOptions {
  std::string model;
  std::string prompt;
  RouteOptions route;
  GenerationOptions generation;
};

void run_generate(const GenerateOptions& options) {
  const Model model(options.model);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto routers = options.route.routers(options.model, model);
  const auto prompt = tokenizer.encode(options.prompt);

  StreamDecoder decoder(tokenizer);
  std::string started = options.prompt;
  const auto statistics =
      generate(model, routers, prompt, options.generation, [&](std::int32_t id) {
        std::cout << started << decoder.push(id) << std::flush;
        started.clear();
      });
  std::cout << started << decoder.finish() << std::endl;

  const auto per_second = [](std::int64_t tokens, double seconds) {
    return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  std::fprintf(stderr,
               "[%s: %.2f experts per token; prompt %lld tokens, %.0f tokens/s; "
               "%lld new tokens, %.0f tokens/s]\n",
               routers.front().policy().c_str(), statistics.experts.mean(),
               static_cast<long long>(statistics.prompt_tokens),
               per_second(statistics.prompt_tokens, statistics.prefill_seconds),
               static_cast<long long>(statistics.new_tokens),
               per_second(statistics.decode_steps, statistics.decode_seconds));
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("generate", "Continue a prompt");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_option(command, options->model);
  command.add_option("--prompt", options->prompt, "Text to continue")
      ->required()
      ->type_name("TEXT");
  command
      .add_option("--max-new-tokens", options->generation.max_new_tokens, "Longest continuation")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000'000))
      ->type_name("N");
  options->route.add_to(command);
  command
      .add_option("--temperature", options->generation.temperature,
                  "0: always the most likely token; otherwise sample from softmax(logits / T)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->type_name("T");
  command.add_option("--seed", options->generation.seed, "Seed of the sampling")
      ->capture_default_str()
      ->type_name("N");
  add_threads_option(command);
  command.callback([options] { run_generate(*options); });
}

}  // namespace olmoe
