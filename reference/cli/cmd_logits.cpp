#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/input.hpp"
#include "formats/error.hpp"
#include "formats/safetensors_writer.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct LogitsOptions {
  std::string model;
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  std::string ids;
  std::optional<std::string> text;
  std::string file;
  std::string out;
  RouteOptions route;
};

TokenBatch read_batch(const LogitsOptions& options) {
  if (!options.ids.empty()) return read_token_batch(options.ids);
  const Tokenizer tokenizer =
      Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  InputText input{options.text.value_or(""), "--text"};
  if (!options.file.empty()) {
    Input file(options.file);
    input = {file.read_all(), file.name()};
  }
  TokenBatch batch{
      .origin = input.origin, .ids = tokenizer.encode(input.text, input.origin), .sequences = 1};
  batch.length = static_cast<std::int64_t>(batch.ids.size());
  return batch;
}

void run(const LogitsOptions& options) {
  const Model model(options.model, options.compute, options.kv);
  const auto routers = options.route.routers(options.model, model);
  const TokenBatch batch = read_batch(options);
  if (batch.ids.empty()) throw Error(batch.origin + ": no tokens");
  const BatchResult result = run_batch(model, batch, routers);
  model.checkpoint().check_unchanged();

  const std::int64_t tokens = batch.sequences * batch.length;
  std::vector<NamedTensor> tensors;
  tensors.push_back(NamedTensor::of(
      "logits", {batch.sequences, batch.length, model.config().vocab_size}, result.logits));
  for (std::size_t l = 0; l < result.trace.routing.size(); ++l) {
    const ExecutedRouting& routing = result.trace.routing[l];
    const std::string suffix = "." + std::to_string(l);
    tensors.push_back(NamedTensor::of("router_logits" + suffix,
                                      {tokens, model.config().num_experts}, routing.logits));
    tensors.push_back(NamedTensor::of("expert_counts" + suffix, {tokens}, routing.counts));
    tensors.push_back(
        NamedTensor::of("selected_experts" + suffix, {tokens, routing.capacity}, routing.experts));
    tensors.push_back(
        NamedTensor::of("routing_weights" + suffix, {tokens, routing.capacity}, routing.weights));
  }
  write_safetensors(options.out, tensors, {{"route", policy_of(routers)}});
}

}  // namespace

void add_logits(CommandLine& line) {
  const Command command =
      line.subcommand("logits", "Write the logits of token sequences to a file");
  const auto options = std::make_shared<LogitsOptions>();
  add_model_option(command, options->model);
  const Command input = command.exactly_one_of("Input");
  input
      .option("--ids", options->ids,
              "JSON array of ids (or of arrays), or a .safetensors file with input_ids")
      .shown_as("FILE");
  input.option("-p,--text", options->text, "Text, encoded by the model's tokenizer")
      .shown_as("TEXT");
  input.option("-f,--file", options->file, "A file whose whole content is the text; - is stdin")
      .shown_as("FILE");
  command.option("-o,--out", options->out, "safetensors file to write").required().shown_as("FILE");
  add_route_options(command, options->route);
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  command.example("olmoe logits -m reference/model -p 'In the beginning' -o logits.safetensors");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe
