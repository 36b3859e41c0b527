#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "commands.hpp"
#include "sweep.hpp"

namespace olmoe {
namespace {

/// "3/8" as shard 3 of 8.
void parse_shard(const std::string& text, SweepOptions& options) {
  int end = 0;
  if (std::sscanf(text.c_str(), "%d/%d%n", &options.shard, &options.shards, &end) != 2 ||
      end != static_cast<int>(text.size()))
    throw std::invalid_argument("--shard takes I/N, such as 1/4, got '" + text + "'");
}

}  // namespace

void add_sweep(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "sweep", "Measure a grid of routing policies against the model's own and write a report");
  const auto options = std::make_shared<SweepOptions>();
  const auto shard = std::make_shared<std::string>("1/1");
  command.add_option("--model", options->model, "Directory with a Hugging Face OLMoE checkpoint")
      ->required()
      ->type_name("DIR");
  command.add_option("--out", options->out, "Directory for the results")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--grid", options->grid,
                  "bh21: top-k and BH at max_k 4 ... 64, alpha 0.01 ... 0.2; frontier: many families "
                  "at matched mean experts; or a file of policy strings, one a line")
      ->capture_default_str()
      ->type_name("bh21|frontier|FILE");
  command
      .add_option("--text", options->texts,
                  "Text to evaluate, one domain per file; default: MODEL/text/*.txt")
      ->type_name("FILE");
  command
      .add_option("--calibration-text", options->calibration_texts,
                  "Text that grid frontier fits nulls and parameters on; default: the first quarter "
                  "of every --text, which is then not evaluated")
      ->type_name("FILE");
  command
      .add_option("--prompts", options->prompts,
                  "Prompts to continue, a JSON array of {\"class\": ..., \"text\": ...}; default: "
                  "twelve built in")
      ->type_name("FILE");
  command
      .add_option("--nulls", options->nulls,
                  "Null distributions; default: nulls.safetensors in the model directory")
      ->type_name("FILE");
  command
      .add_option("--window", options->window,
                  "Tokens per window; default: the model's positions, at most 1024")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command
      .add_option("--stride", options->stride,
                  "Tokens from a window to the next; default: the window, without overlap")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command.add_option("--new-tokens", options->new_tokens, "New tokens per prompt; 0: no generation")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  command
      .add_option("--shard", *shard,
                  "Measure only configurations I, I + N, I + 2N ...; `olmoe merge` unites the shards")
      ->type_name("I/N");
  command.add_flag("--resume", options->resume, "Go on with the sweep that --out holds");
  add_threads_option(command);
  command.callback([options, shard] {
    parse_shard(*shard, *options);
    run_sweep(*options);
  });
}

}  // namespace olmoe
