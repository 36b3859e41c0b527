#include <filesystem>
#include <memory>
#include <vector>

#include "commands.hpp"
#include "sweep.hpp"

namespace olmoe {

void add_merge(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("merge", "Unite the shards of a sweep");
  struct Options {
    std::filesystem::path out;
    std::vector<std::filesystem::path> shards;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("--out", options->out, "Directory for the whole sweep, new")
      ->required()
      ->type_name("DIR");
  command.add_option("shards", options->shards, "Directories that sweep --shard wrote")
      ->required()
      ->type_name("DIR");
  command.callback([options] { merge_sweeps(options->out, options->shards); });
}

}  // namespace olmoe
