#include <cstdint>
#include <memory>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/random_checkpoint.hpp"

namespace olmoe {

void add_make_random(CommandLine& line) {
  const Command command =
      line.subcommand("make-random", "Write a checkpoint of random weights, of any shape");
  const auto options = std::make_shared<RandomCheckpointOptions>();
  command.option("--config", options->config, "The config.json to follow")
      .required()
      .shown_as("FILE");
  command.option("-o,--out", options->out, "Directory for the checkpoint")
      .required()
      .shown_as("DIR");
  command.option("-s,--seed", options->seed, "Seed of the weights")
      .shows_default()
      .whole_number(std::uint64_t{0})
      .shown_as("N");
  command
      .choice("--dtype", options->dtype,
              {{"bf16", DType::BF16}, {"f16", DType::F16}, {"f32", DType::F32}},
              "Type of the weights")
      .shows_default("bf16");
  command
      .bytes("--max-shard-size", options->max_shard_size,
             "Most bytes of weights in a file, such as 500MB (10^6) or 4GiB (2^30)")
      .shows_default("5GB")
      .shown_as("S");
  add_threads_option(command);
  add_quiet_option(command);
  command.example("olmoe make-random --config reference/model/config.json -o random --seed 1");
  command.runs([options] { make_random_checkpoint(*options); });
}

}  // namespace olmoe
