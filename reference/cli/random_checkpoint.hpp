#pragma once

#include <cstdint>
#include <filesystem>

#include "formats/safetensors_writer.hpp"

namespace olmoe {

struct RandomCheckpointOptions {
  std::filesystem::path config;  ///< a config.json
  std::filesystem::path out;     ///< a directory, made if need be
  std::uint64_t seed = 0;
  DType dtype = DType::BF16;                     ///< F32, F16 or BF16
  std::uint64_t max_shard_size = 5'000'000'000;  ///< bytes of the elements in a file
};

/// Writes a Hugging Face checkpoint of the config's shape with random weights, for work on
/// performance: config.json (its dtype set), model.safetensors or shards with their index, no
/// tokenizer.
///
/// Matrices and biases have mean 0 and standard deviation 0.02 (a sum of four uniform numbers, so
/// at most 0.07), the weights of norms are 1. A weight depends on the seed, its tensor's name and
/// its place alone: neither threads nor shards change it. Memory stays bounded. Shows its progress
/// on stderr. Throws Error; a directory that holds weights already is refused.
void make_random_checkpoint(const RandomCheckpointOptions& options);

}  // namespace olmoe
