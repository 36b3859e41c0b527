#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/json_output.hpp"
#include "forward/memory.hpp"
#include "forward/model.hpp"
#include "kernels/isa.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

using Json = nlohmann::ordered_json;

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

/// What a checkpoint holds, and what a token needs of it.
struct Contents {
  explicit Contents(const Model& model) {
    const Config& c = model.config();
    const Checkpoint& checkpoint = model.checkpoint();
    for (const std::string& tensor_name : checkpoint.names()) {
      const Tensor& tensor = checkpoint.at(tensor_name);
      all.add(tensor);
      by_dtype[std::string(name(tensor.dtype))].add(tensor);
      if (tensor_name.find(".mlp.experts.") != std::string::npos) experts.add(tensor);
    }
    // A token multiplies with every weight but those of the experts not chosen and, unless it is
    // the output projection too, the embedding table.
    Totals unread = experts;
    if (!c.tie_word_embeddings) unread.add(checkpoint.at("model.embed_tokens.weight"));
    const double per_expert = 1.0 / c.num_experts;
    const auto active = [&](std::uint64_t total, std::uint64_t skipped, std::uint64_t in_experts) {
      return static_cast<double>(total - skipped) +
             static_cast<double>(in_experts) * per_expert * c.num_experts_per_tok;
    };
    active_parameters = active(all.parameters, unread.parameters, experts.parameters);
    bytes_per_token = active(all.bytes, unread.bytes, experts.bytes);
    bytes_per_expert = static_cast<double>(experts.bytes) * per_expert;
  }

  Totals all{};
  Totals experts{};
  std::map<std::string, Totals> by_dtype{};
  double active_parameters = 0.0;
  double bytes_per_token = 0.0;
  double bytes_per_expert = 0.0;  ///< one in every layer
};

void print_text(const std::string& directory, const Model& model) {
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

  const Contents contents(model);
  std::printf("weight files         %zu\n", model.checkpoint().files().size());
  for (const auto& [dtype, totals] : contents.by_dtype) {
    std::printf("%-20s %zu tensors, %" PRIu64 " parameters, %s\n", dtype.c_str(), totals.tensors,
                totals.parameters, bytes_text(static_cast<double>(totals.bytes)).c_str());
  }
  std::printf("parameters           %" PRIu64 ", of which experts %" PRIu64 "\n",
              contents.all.parameters, contents.experts.parameters);
  std::printf("  active per token   %.0f at %d experts\n", contents.active_parameters,
              c.num_experts_per_tok);
  std::printf(
      "bytes per token      %s at %d experts; one expert more or less in every layer is %s\n",
      bytes_text(contents.bytes_per_token).c_str(), c.num_experts_per_tok,
      bytes_text(contents.bytes_per_expert).c_str());

  std::printf("keys and values      %s a position in f32, %s in f16 and bf16\n",
              bytes_text(cache_memory(c, Storage::f32, 1)).c_str(),
              bytes_text(cache_memory(c, Storage::bf16, 1)).c_str());
  std::printf("instruction set      %s, of", std::string(name(kernels().isa)).c_str());
  for (const Isa isa : usable_isas()) std::printf(" %s", std::string(name(isa)).c_str());
  std::printf("\nbf16 products        %s\n", std::string(bf16_unit()).c_str());
}

void print_document(const std::string& directory, const Model& model) {
  const Config& c = model.config();
  const Contents contents(model);
  Json dtypes = Json::object();
  for (const auto& [dtype, totals] : contents.by_dtype)
    dtypes[dtype] = {
        {"tensors", totals.tensors}, {"parameters", totals.parameters}, {"bytes", totals.bytes}};
  Json isas = Json::array();
  for (const Isa isa : usable_isas()) isas.push_back(std::string(name(isa)));
  print_json("inspect", {{"model", directory},
                         {"layers", c.num_hidden_layers},
                         {"hidden_size", c.hidden_size},
                         {"attention_heads", c.num_attention_heads},
                         {"head_size", c.head_dim()},
                         {"key_value_heads", c.num_key_value_heads},
                         {"attention_bias", c.attention_bias},
                         {"clip_qkv", c.clip_qkv ? Json(*c.clip_qkv) : Json()},
                         {"rope_theta", c.rope_theta},
                         {"rope_factor", c.rope_factor},
                         {"experts", c.num_experts},
                         {"intermediate_size", c.intermediate_size},
                         {"activation", std::string(name(c.hidden_act))},
                         {"experts_per_token", c.num_experts_per_tok},
                         {"weights_renormalized", c.norm_topk_prob},
                         {"vocabulary", c.vocab_size},
                         {"embeddings_tied", c.tie_word_embeddings},
                         {"positions", c.max_position_embeddings},
                         {"weight_files", model.checkpoint().files().size()},
                         {"dtypes", dtypes},
                         {"parameters", contents.all.parameters},
                         {"expert_parameters", contents.experts.parameters},
                         {"active_parameters", contents.active_parameters},
                         {"bytes_per_token", contents.bytes_per_token},
                         {"bytes_per_expert", contents.bytes_per_expert},
                         {"kv_bytes_per_position",
                          {{"f32", cache_memory(c, Storage::f32, 1)},
                           {"f16", cache_memory(c, Storage::f16, 1)},
                           {"bf16", cache_memory(c, Storage::bf16, 1)}}},
                         {"instruction_set", std::string(name(kernels().isa))},
                         {"instruction_sets", isas},
                         {"bf16_dot_product", bf16_dot() != nullptr},
                         {"bf16_products", std::string(bf16_unit())}});
}

}  // namespace

void add_inspect(CommandLine& line) {
  const Command command = line.subcommand("inspect", "Describe a checkpoint");
  const auto directory = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  add_model_option(command, *directory);
  add_json_option(command, *json);
  add_kernel_options(command);
  command.example("olmoe inspect -m reference/model");
  command.runs([directory, json] {
    const Model model(*directory);
    (*json ? print_document : print_text)(*directory, model);
  });
}

}  // namespace olmoe
