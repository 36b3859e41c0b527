#include <charconv>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "formats/error.hpp"
#include "sweep/dry_run.hpp"
#include "sweep/grid.hpp"
#include "sweep/loads_sweep.hpp"
#include "sweep/sweep.hpp"

namespace olmoe {
namespace {

/// "3/8" as shard 3 of 8.
void parse_shard(const std::string& text, SweepOptions& options) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, options.shard);
  const bool slash = first.ec == std::errc{} && first.ptr != end && *first.ptr == '/';
  const auto second = std::from_chars(slash ? first.ptr + 1 : end, end, options.shards);
  if (!slash || second.ec != std::errc{} || second.ptr != end)
    throw std::invalid_argument("--shard takes I/N, such as 1/4, got " + quote(text));
}

}  // namespace

void add_sweep(CommandLine& line) {
  const Command command = line.subcommand(
      "sweep", "Measure a grid of routing policies against the model's own and write a report");
  const auto options = std::make_shared<SweepOptions>();
  const auto dry_run = std::make_shared<bool>(false);
  const auto shard = std::make_shared<std::string>("1/1");
  command.option("-m,--model", options->model, "Directory with a Hugging Face OLMoE checkpoint")
      .required()
      .shown_as("DIR");
  command.option("-o,--out", options->out, "Directory for the results").required().shown_as("DIR");
  command
      .option("--grid", options->grid,
              "bh21: top-k and BH at max_k 4 ... 64, alpha 0.2 ... 0.01; frontier: many families "
              "at matched mean experts; loads: perplexity against experts loaded; oracle: beside a "
              "choice by the experts' outputs; or a file of policy strings, one per line")
      .shows_default()
      .shown_as("bh21|frontier|loads|oracle|FILE");
  command
      .option("-f,--text", options->texts,
              "Text to evaluate, one domain per file; default: MODEL/text/*.txt")
      .shown_as("FILE");
  command
      .option("--calibration-text", options->calibration_texts,
              "Development text, to fit nulls and parameters and choose on; default: "
              "MODEL/development, or with --text the first quarter of each, which is then not "
              "evaluated")
      .shown_as("FILE");
  command
      .option("--prompts", options->prompts,
              "Prompts to continue, a JSON array of {\"class\": ..., \"text\": ...}; default: "
              "twelve built in")
      .shown_as("FILE");
  command
      .option("--nulls", options->nulls,
              "Null distributions; default: nulls.safetensors in the model directory")
      .shown_as("FILE");
  command
      .option("--max-tokens", options->max_tokens,
              "Tokens to predict of each text, its first ones; 0: all")
      .shows_default()
      .whole_number(std::int64_t{0})
      .shown_as("N");
  command
      .option("--window", options->window,
              "Tokens per window; default: the model's positions, at most 512")
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command
      .option("--stride", options->stride,
              "Tokens from a window to the next; default: the window, without overlap")
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command.option("-n,--new-tokens", options->new_tokens, "New tokens per prompt; 0: no generation")
      .shows_default()
      .whole_number(0)
      .shown_as("N");
  command
      .option("--margin", options->margin,
              "The perplexity ratio that a saving of experts may cost and still be claimed")
      .shows_default()
      .shown_as("RATIO");
  command
      .option("--shuffles", options->shuffles,
              "How often the counts of an adaptive policy are dealt to random tokens")
      .shows_default()
      .whole_number(0)
      .shown_as("N");
  command
      .option("--shard", *shard,
              "Measure only every Nth configuration, from the Ith on; `olmoe merge` unites the "
              "shards")
      .shown_as("I/N");
  command.flag("--dry-run", *dry_run,
               "Say what there is to do, and from 5 seconds of the model how long it will take "
               "and how much memory; write nothing");
  command.flag("--resume", options->resume, "Continue the sweep that --out holds");
  add_quiet_option(command);
  add_compute_options(command, options->compute);
  command.example("olmoe sweep -m reference/model -o out --grid bh21 --max-tokens 2048");
  command.runs([options, shard, dry_run] {
    parse_shard(*shard, *options);
    const bool is_loads = is_loads_grid(options->grid);
    if (*dry_run) {
      if (is_loads)
        throw std::invalid_argument("--dry-run: the grid " + options->grid + " has no estimate");
      std::fputs(to_text(estimate_sweep(*options)).c_str(), stdout);
    } else if (is_loads) {
      run_loads(*options);
    } else {
      run_sweep(*options);
    }
  });
}

}  // namespace olmoe
