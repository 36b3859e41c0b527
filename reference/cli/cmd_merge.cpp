#include <filesystem>
#include <memory>
#include <vector>

#include "cli/commands.hpp"
#include "sweep/merge.hpp"

namespace olmoe {
namespace {

struct MergeOptions {
  std::filesystem::path out;
  std::filesystem::path model;
  std::vector<std::filesystem::path> shards;
};

}  // namespace

void add_merge(CommandLine& line) {
  const Command command = line.subcommand("merge", "Unite the shards of a sweep");
  const auto options = std::make_shared<MergeOptions>();
  command.option("-o,--out", options->out, "Directory for the whole sweep, new")
      .required()
      .shown_as("DIR");
  command
      .option("-m,--model", options->model,
              "Directory of the checkpoint: check that the shards were measured on it")
      .shown_as("DIR");
  command.option("shards", options->shards, "Directories that sweep --shard wrote")
      .required()
      .shown_as("DIR");
  command.example("olmoe merge -o whole shard1 shard2");
  command.runs([options] { merge_sweeps(options->out, options->shards, options->model); });
}

}  // namespace olmoe
