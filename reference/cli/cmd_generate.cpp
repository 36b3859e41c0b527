#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "cli/commands.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
void run_generate(const GenerateOptions& options) {
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

}  // namespace olmoe
