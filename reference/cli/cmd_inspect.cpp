#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "forward/model.hpp"
#include "kernels/isa.hpp"

namespace olmoe {
namespace {

/// "13.84 GB", in powers of ten.
std::string human_bytes(double bytes) {
  constexpr std::array units{"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 1000.0 && unit + 1 < units.size()) {
    bytes /= 1000.0;
    ++unit;
  }
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
  return text.data();
}

struct Totals {
  std::size_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;

  void add(const Tensor& tensor) {
    ++tensors;
    parameters += tensor.count();
    bytes += tensor.bytes.size();
  }
};

void run(const std::string& directory) {
  const Model model(directory);
  const Config& c = model.config();
  std::printf("model                %s\n", directory.c_str());
  std::printf("layers               %d\n", c.num_hidden_layers);
  std::printf("hidden size          %d\n", c.hidden_size);
  std::printf("attention            %d heads of %d, %d key/value heads%s\n", c.num_attention_heads,
              c.head_dim(), c.num_key_value_heads, c.attention_bias ? ", biases" : "");
  if (c.clip_qkv) std::printf("clip_qkv             %g\n", static_cast<double>(*c.clip_qkv));
  std::printf("rotary embedding     theta %g, positions divided by %g\n", c.rope_theta,
              c.rope_factor);
  std::printf("experts              %d of intermediate size %d (%s)\n", c.num_experts,
              c.intermediate_size, std::string(name(c.hidden_act)).c_str());
  std::printf("native routing       top-%d, weights %s\n", c.num_experts_per_tok,
              c.norm_topk_prob ? "renormalised" : "not renormalised");
  std::printf("vocabulary           %d%s\n", c.vocab_size,
              c.tie_word_embeddings ? ", embeddings tied" : "");
  std::printf("positions            %d\n\n", c.max_position_embeddings);

  const Checkpoint& checkpoint = model.checkpoint();
  Totals all;
  Totals experts;
  std::map<std::string, Totals> by_dtype;
  for (const std::string& tensor_name : checkpoint.names()) {
    const Tensor& tensor = checkpoint.at(tensor_name);
    all.add(tensor);
    by_dtype[std::string(name(tensor.dtype))].add(tensor);
    if (tensor_name.find(".mlp.experts.") != std::string::npos) experts.add(tensor);
  }
  std::printf("weight files         %zu\n", checkpoint.files().size());
  for (const auto& [dtype, totals] : by_dtype) {
    std::printf("%-20s %zu tensors, %" PRIu64 " parameters, %s\n", dtype.c_str(), totals.tensors,
                totals.parameters, human_bytes(static_cast<double>(totals.bytes)).c_str());
  }

  // A token multiplies with every weight but those of the experts not chosen and, unless it is the
  // output projection too, the embedding table.
  Totals unread = experts;
  if (!c.tie_word_embeddings) unread.add(checkpoint.at("model.embed_tokens.weight"));
  const double per_expert = 1.0 / c.num_experts;
  const auto active = [&](std::uint64_t total, std::uint64_t skipped, std::uint64_t in_experts) {
    return static_cast<double>(total - skipped) +
           static_cast<double>(in_experts) * per_expert * c.num_experts_per_tok;
  };
  std::printf("parameters           %" PRIu64 ", of which experts %" PRIu64 "\n", all.parameters,
              experts.parameters);
  std::printf("  active per token   %.0f at %d experts\n",
              active(all.parameters, unread.parameters, experts.parameters), c.num_experts_per_tok);
  std::printf(
      "bytes per token      %s at %d experts; one expert more or less in every layer is %s\n",
      human_bytes(active(all.bytes, unread.bytes, experts.bytes)).c_str(), c.num_experts_per_tok,
      human_bytes(static_cast<double>(experts.bytes) * per_expert).c_str());

  std::printf("instruction set      %s, of", std::string(name(kernels().isa)).c_str());
  for (const Isa isa : usable_isas()) std::printf(" %s", std::string(name(isa)).c_str());
  std::printf("\nbf16 dot product     %s\n", bf16_dot() != nullptr ? "present" : "not present");
}

}  // namespace

void add_inspect(CommandLine& line) {
  const Command command = line.subcommand("inspect", "Describe a checkpoint");
  const auto model = std::make_shared<std::string>();
  add_model_option(command, *model);
  add_kernel_options(command);
  command.runs([model] { run(*model); });
}

}  // namespace olmoe
