// forward/config: a config.json that is read keeps what config.hpp promises; and
// routing/model_config: a router that it describes can be made and describes itself.

#include "forward/config.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fdroute/any_router.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "formats/json.hpp"
#include "fuzz/fuzz.hpp"
#include "routing/model_config.hpp"

namespace config_target {

void check(const olmoe::Config& c) {
  constexpr int largest = 1 << 24;
  for (const int size :
       {c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads,
        c.num_key_value_heads, c.vocab_size, c.max_position_embeddings})
    fuzz::require(size >= 1 && size <= largest, "a size is in its range");
  fuzz::require(c.num_experts >= 1 && c.num_experts <= 1024, "experts are 1 to 1024");
  fuzz::require(c.num_experts_per_tok >= 1 && c.num_experts_per_tok <= c.num_experts,
                "experts per token are 1 to all");
  fuzz::require(c.hidden_size % c.num_attention_heads == 0 && c.head_dim() % 2 == 0 &&
                    c.num_attention_heads % c.num_key_value_heads == 0,
                "heads divide");
  const auto positive = [](double x) { return std::isfinite(x) && x > 0.0; };
  fuzz::require(positive(static_cast<double>(c.rms_norm_eps)) && positive(c.rope_theta) &&
                    positive(c.rope_factor) &&
                    (!c.clip_qkv || positive(static_cast<double>(*c.clip_qkv))),
                "numbers are positive");
  fuzz::require(!olmoe::name(c.hidden_act).empty(), "an activation has a name");
}

}  // namespace config_target

FUZZ_TARGET(config) {
  const auto path = fuzz::file_of("config.json", input);
  fuzz::accepted([&] { config_target::check(olmoe::Config::read(path)); }, "config.json");
  // A router of many experts takes long to make.
  constexpr int most_experts = 256;
  fuzz::accepted(
      [&] {
        const nlohmann::json config = olmoe::read_json(path);
        const auto described = olmoe::configured_router(config, 0, "config.json");
        if (described.experts > most_experts) return;
        const auto router = olmoe::router_from_config(path, 0);
        fuzz::require(router.experts() == described.experts, "the router has its experts");
      },
      "config.json");
}
