#pragma once

#include "cli/command_line.hpp"

/// The subcommands of `olmoe`. Each is a file, cmd_NAME.cpp, with its options, what --help says of
/// them, and what it does. All throw Error for a failure and std::invalid_argument for options that
/// cannot be.
namespace olmoe {

void add_ablate(CommandLine& line);
void add_calibrate(CommandLine& line);
void add_generate(CommandLine& line);
void add_inspect(CommandLine& line);
void add_logits(CommandLine& line);
void add_make_random(CommandLine& line);
void add_merge(CommandLine& line);
void add_perplexity(CommandLine& line);
void add_sweep(CommandLine& line);
void add_tokenize(CommandLine& line);
void add_verify(CommandLine& line);

}  // namespace olmoe
