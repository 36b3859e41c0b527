// Routers from config.json: tests/golden/routers has configs as transformers writes them.

#include "routing/model_config.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <fdroute/compile_once.hpp>
#include <fdroute/model_table.hpp>
#include <fdroute/views.hpp>
#include <string>
#include <vector>

#include "formats/json.hpp"
#include "library/golden_routers.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

olmoe::ConfiguredRouter configured(const std::string& config, int layer = 5) {
  return olmoe::configured_router(olmoe::parse_json(config, "c"), layer, "c");
}

std::string error(const std::string& config, int layer = 5) {
  return error_of([&] { configured(config, layer); });
}

/// Routes every recorded row by a router made from the case's config.json.
void check_case(const fdroute::AnyRouter& router, const golden::Case& recorded) {
  REQUIRE(router.experts() == recorded.experts);
  const auto k = static_cast<std::size_t>(router.capacity());
  for (const golden::Row& row : recorded.rows) {
    std::vector<std::int32_t> experts(k);
    std::vector<float> weights(k);
    std::int32_t count = 0;
    router.route(fdroute::LogitsView<float>(row.logits.data(), 1, recorded.experts),
                 fdroute::RoutingView<>{experts.data(), weights.data(), &count, router.capacity()});
    REQUIRE(count == router.capacity());
    golden::check_row(row, experts, weights);
  }
}

}  // namespace

TEST_CASE("every model's config.json makes its router") {
  const TempDir directory;
  int cases = 0;
  for (const std::string& name : golden::models()) {
    if (name == "deepseek_v4_hash") continue;
    for (const golden::Case& recorded : golden::read(name).cases) {
      INFO(name, " ", recorded.config);
      const auto path = directory.write("config.json", recorded.config);
      const auto router = olmoe::router_from_config(path, 5, recorded.bias, recorded.expert_scale);
      check_case(router, recorded);
      const auto of_config = configured(recorded.config);
      CHECK(of_config.bias.empty() == recorded.bias.empty());
      CHECK(of_config.expert_scale.empty() == recorded.expert_scale.empty());
      ++cases;
    }
  }
  CHECK(cases >= 106);
}

TEST_CASE("what a config.json leaves out has transformers' default") {
  CHECK(configured(R"({"model_type": "olmoe"})").policy ==
        "preset:olmoe,num_experts_per_tok=8,norm_topk_prob=false");
  CHECK(configured(R"({"model_type": "olmoe"})").experts == 64);
  const auto v3 = configured(R"({"model_type": "deepseek_v3", "n_group": 4})");
  CHECK(v3.policy ==
        "preset:deepseek_v3,num_experts_per_tok=8,norm_topk_prob=true,routed_scaling_factor=2.5,"
        "n_group=4,topk_group=4");
  CHECK(v3.experts == 256);
  CHECK(v3.bias == "e_score_correction_bias");
  const auto longcat = configured(R"({"model_type": "longcat_flash", "zero_expert_num": 128})");
  CHECK(longcat.experts == 640);
  CHECK(longcat.zero_experts == 128);
  CHECK(configured(R"({"model_type": "longcat_flash", "zero_expert_num": null})").experts == 512);
  CHECK(configured(R"({"model_type": "lfm2_moe", "use_expert_bias": false})").bias.empty());
  CHECK(configured(R"({"model_type": "lfm2_moe"})").bias == "expert_bias");
}

TEST_CASE("other names, other places, lists of layers") {
  // The name by which transformers saves it, and the one of published checkpoints.
  CHECK(configured(R"({"model_type": "qwen3_moe", "num_local_experts": 32})").experts == 32);
  CHECK(configured(R"({"model_type": "qwen3_moe", "num_experts": 48})").experts == 48);
  // A text part on its own.
  const std::string text = R"("num_local_experts": 128, "num_experts_per_tok": 2)";
  const auto whole = configured(R"({"model_type": "llama4", "text_config": {)" + text + "}}");
  const auto part = configured(R"({"model_type": "llama4_text", )" + text + "}");
  CHECK(whole.policy == part.policy);
  CHECK(whole.experts == 128);
  CHECK(part.experts == 128);
  const std::string lists =
      R"({"model_type": "hunyuan_v1_moe", "num_experts": [1, 16], "moe_topk": [1, 4]})";
  CHECK(configured(lists, 1).experts == 16);
  CHECK(configured(lists, 1).policy == "preset:hunyuan_v1_moe,moe_topk=4");
  CHECK(error(lists, 2) == "c: field 'num_experts' lists 2 values, none for layer 2");
}

TEST_CASE("layers by a table of tokens have no router") {
  const std::string v4 = R"({"model_type": "deepseek_v4")";
  CHECK(error(v4 + "}", 2) ==
        "c: layer 2 takes its experts from a table of tokens (field 'mlp_layer_types')");
  CHECK(configured(v4 + "}", 3).experts == 256);
  const std::string types = v4 + R"(, "mlp_layer_types": ["moe", "hash_moe"]})";
  CHECK(configured(types, 0).experts == 256);
  CHECK(error(types, 1).starts_with("c: layer 1 takes its experts"));
}

TEST_CASE("refused configs name the key") {
  CHECK(error("[]") == "c must be a JSON object");
  CHECK(error("{}") == "c: field 'model_type' must be a string");
  CHECK(error(R"({"model_type": "gpt2"})") ==
        "c: field 'model_type': no router is known of 'gpt2'");
  CHECK(error(R"({"model_type": "gemma4"})") == "c: field 'text_config' must be an object");
  CHECK(error(R"({"model_type": "gemma4_text"})") == "c: field 'num_experts' is missing");
  CHECK(error(R"({"model_type": "gemma4_text", "num_experts": 8})") ==
        "c: field 'top_k_experts' is missing");
  CHECK(error(R"({"model_type": "gemma4_text", "num_experts": 8, "top_k_experts": null})") ==
        "c: field 'top_k_experts' is missing");
  CHECK(error(R"({"model_type": "olmoe", "num_experts": "64"})") ==
        "c: field 'num_experts' must be an integer that is not negative, got \"64\"");
  CHECK(error(R"({"model_type": "olmoe", "num_experts_per_tok": -1})") ==
        "c: field 'num_experts_per_tok' must be an integer that is not negative, got -1");
  CHECK(error(R"({"model_type": "olmoe", "norm_topk_prob": 1})") ==
        "c: field 'norm_topk_prob' must be true or false, got 1");
  CHECK(error(R"({"model_type": "deepseek_v3", "routed_scaling_factor": true})") ==
        "c: field 'routed_scaling_factor' must be a number, got true");
  CHECK(error(R"({"model_type": "cohere2_moe", "expert_selection_fn": "relu"})") ==
        "c: field 'expert_selection_fn' must be 'softmax' or 'sigmoid', got \"relu\"");
  CHECK(error(R"({"model_type": "phimoe", "num_experts_per_tok": 4})") ==
        "c: num_experts_per_tok of a sparse mixer is 2, got 4");
  const TempDir directory;
  const auto path = directory.write("config.json", R"({"model_type": "olmoe", "num_experts": 4})");
  CHECK(error_of([&] { olmoe::router_from_config(path, 0); }).find("TopK: k must lie in [1, 4]") !=
        std::string::npos);
  directory.write("config.json", R"({"model_type": "deepseek_v3"})");
  CHECK(error_of([&] { olmoe::router_from_config(path, 0); }).find("needs a selection bias") !=
        std::string::npos);
}
