#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/safetensors_writer.hpp"
#include "forward/config.hpp"

/// The tensors of a checkpoint, each layer's experts stacked in two, as transformers 5 has them in
/// memory: gate_up_proj (experts, gate's rows and then up's, hidden) and down_proj (experts,
/// hidden, intermediate). The last tensor is a down_proj.
struct FusedExperts {
  std::vector<olmoe::NamedTensor> tensors;

  /// `original`, whose experts are a tensor per matrix, must outlive this.
  FusedExperts(const olmoe::Checkpoint& original, const olmoe::Config& config) {
    for (const std::string& name : original.names()) {
      if (name.find(".mlp.experts.") != std::string::npos) continue;
      const olmoe::Tensor tensor = original.at(name);
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    }
    for (int l = 0; l < config.num_hidden_layers; ++l) {
      const std::string prefix = "model.layers." + std::to_string(l) + ".mlp.experts.";
      std::vector<std::byte>& gate_up = stacked_.emplace_back();
      std::vector<std::byte>& down = stacked_.emplace_back();
      olmoe::DType dtype{};
      for (int e = 0; e < config.num_experts; ++e) {
        for (const std::string part : {"gate", "up", "down"}) {
          const auto matrix = original.at(prefix + std::to_string(e) + "." + part + "_proj.weight");
          std::vector<std::byte>& to = part == "down" ? down : gate_up;
          to.insert(to.end(), matrix.bytes.begin(), matrix.bytes.end());
          dtype = matrix.dtype;
        }
      }
      tensors.push_back({prefix + "gate_up_proj",
                         dtype,
                         {config.num_experts, 2 * config.intermediate_size, config.hidden_size},
                         gate_up});
      tensors.push_back({prefix + "down_proj",
                         dtype,
                         {config.num_experts, config.hidden_size, config.intermediate_size},
                         down});
    }
  }

 private:
  std::list<std::vector<std::byte>> stacked_;  // what the fused tensors' bytes are
};
