#include "forward/memory.hpp"

#include <doctest/doctest.h>

#include "forward/experts.hpp"
#include "reference/error_of.hpp"

namespace {

olmoe::Config largest_config() {
  olmoe::Config config{};
  config.hidden_size = config.intermediate_size = config.vocab_size = 1 << 24;
  config.num_hidden_layers = 1 << 24;
  config.num_attention_heads = config.num_key_value_heads = 1 << 10;
  config.num_experts = config.num_experts_per_tok = 1024;
  return config;
}

}  // namespace

TEST_CASE("What does not fit the machine is refused with both figures") {
  CHECK(error_of([] { olmoe::require_memory(68.72e9, "model", 25.16e9); }) ==
        "model: needs at least 68.7 GB of memory, and this machine has 25.2 GB");
  CHECK(error_of([] { olmoe::require_memory(25e9, "model", 25e9); }) == "no error");
  CHECK(olmoe::machine_memory() > 1e8);
}

TEST_CASE("The memory of a model is counted, and the largest config overflows nothing") {
  olmoe::Config config{};
  config.hidden_size = 2048;
  config.intermediate_size = 1024;
  config.num_hidden_layers = 16;
  config.num_attention_heads = config.num_key_value_heads = 16;
  config.num_experts = 64;
  config.num_experts_per_tok = 8;
  config.vocab_size = 50304;
  // Vectors of 4 x 2048 in 16 layers, 10 rows of 7 x 2048 + 64 + 8 (1024 + 2048) floats, and the
  // tables of experts.
  CHECK(olmoe::working_memory(config, 10) ==
        4.0 * (16 * 4 * 2048 + 10 * (7 * 2048 + 64 + 8 * (1024 + 2048))) +
            16.0 * 64 * sizeof(olmoe::ExpertWeights));
  CHECK(olmoe::working_memory(config, 512) == olmoe::working_memory(config, 100'000));
  CHECK(olmoe::result_memory(config, 3) == 4.0 * 3 * (50304 + 17 * 2048 + 16 * 64));

  CHECK(olmoe::cache_memory(config, olmoe::Storage::f32, 3) == 3.0 * 262'144);
  CHECK(olmoe::cache_memory(config, olmoe::Storage::f16, 3) == 3.0 * 131'072);
  CHECK(olmoe::cache_memory(config, olmoe::Storage::bf16, 4096) == 4096.0 * 131'072);
  config.num_key_value_heads = 4;
  CHECK(olmoe::cache_memory(config, olmoe::Storage::f32, 1) == 65'536);

  const olmoe::Config largest = largest_config();
  CHECK(olmoe::working_memory(largest, 1) > 1e15);
  CHECK(olmoe::result_memory(largest, 1'000'000'000) > 1e24);
  CHECK(error_of([&] {
          olmoe::require_memory(olmoe::working_memory(largest, 1), "largest");
        }).starts_with("largest: needs at least "));
}
