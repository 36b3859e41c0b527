#include "forward/config.hpp"

#include <doctest/doctest.h>

#include <string>

#include "formats/json.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

using nlohmann::json;
using olmoe::Activation;
using olmoe::Config;

// The config.json of allenai/OLMoE-1B-7B-0924, as transformers 4.x wrote it.
json olmoe_1b_7b() {
  return json::parse(R"({
    "architectures": ["OlmoeForCausalLM"],
    "attention_bias": false,
    "attention_dropout": 0.0,
    "clip_qkv": null,
    "eos_token_id": 50279,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "max_position_embeddings": 4096,
    "model_type": "olmoe",
    "norm_topk_prob": false,
    "num_attention_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "output_router_logits": false,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": null,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "tie_word_embeddings": false,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0",
    "use_cache": true,
    "vocab_size": 50304
  })");
}

// OLMoE-1B-7B's config with some fields set; null removes a field (JSON merge patch, RFC 7396).
json with(const json& patch) {
  json config = olmoe_1b_7b();
  config.merge_patch(patch);
  return config;
}

Config load(const json& config) {
  const TempDir dir;
  dir.write("config.json", config.dump(2));
  return Config::load(dir.path());
}

// The message for config.json of these contents, less the path that begins it.
std::string text_error(const std::string& text) {
  const TempDir dir;
  const std::string path = dir.write("config.json", text).string();
  const std::string message = error_of([&] { Config::load(dir.path()); });
  return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
}

std::string config_error(const json& patch) {
  return text_error(with(patch).dump());
}

}  // namespace

TEST_CASE("the config of OLMoE-1B-7B") {
  const Config config = load(olmoe_1b_7b());
  CHECK(config.hidden_size == 2048);
  CHECK(config.intermediate_size == 1024);
  CHECK(config.num_hidden_layers == 16);
  CHECK(config.num_attention_heads == 16);
  CHECK(config.num_key_value_heads == 16);
  CHECK(config.head_dim() == 128);
  CHECK(config.num_experts == 64);
  CHECK(config.num_experts_per_tok == 8);
  CHECK_FALSE(config.norm_topk_prob);
  CHECK(config.vocab_size == 50304);
  CHECK(config.max_position_embeddings == 4096);
  CHECK(config.rms_norm_eps == 1e-5F);
  CHECK(config.hidden_act == Activation::Silu);
  CHECK(config.rope_theta == 10000);
  CHECK(config.rope_factor == 1);
  CHECK_FALSE(config.attention_bias);
  CHECK_FALSE(config.clip_qkv.has_value());
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK(config.eos_token_ids == std::vector<std::int64_t>{50279});
  CHECK_FALSE(config.bos_token_id.has_value());
  CHECK(config.pad_token_id == 1);
}

TEST_CASE("the form that transformers 5.x writes") {
  json document = with({{"torch_dtype", nullptr},
                        {"rope_theta", nullptr},
                        {"dtype", "bfloat16"},
                        {"bos_token_id", 0},
                        {"clip_qkv", 8.0},
                        {"attention_bias", true},
                        {"tie_word_embeddings", true},
                        {"norm_topk_prob", true},
                        {"num_key_value_heads", 4},
                        {"rope_parameters", {{"rope_theta", 500000.0}, {"rope_type", "default"}}},
                        {"transformers_version", "5.0.0"}});
  document.erase("rope_scaling");
  const Config config = load(document);
  CHECK(config.rope_theta == 500000);
  CHECK(config.rope_factor == 1);
  CHECK(config.bos_token_id == 0);
  CHECK(config.clip_qkv == 8.0F);
  CHECK(config.attention_bias);
  CHECK(config.tie_word_embeddings);
  CHECK(config.norm_topk_prob);
  CHECK(config.num_key_value_heads == 4);
}

TEST_CASE("rope in every form") {
  const auto rope = [](const json& patch) {
    const Config config = load(with(patch));
    return std::pair(config.rope_theta, config.rope_factor);
  };
  using Rope = std::pair<double, double>;
  CHECK(rope({{"rope_theta", 500000}}) == Rope{500000, 1});
  CHECK(rope({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}) == Rope{10000, 2});
  CHECK(rope({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4}}}}) == Rope{10000, 4});
  CHECK(rope({{"rope_scaling", {{"rope_type", "linear"}, {"type", "linear"}, {"factor", 4}}}}) ==
        Rope{10000, 4});
  CHECK(rope({{"rope_scaling", {{"type", "default"}}}}) == Rope{10000, 1});
  const json linear = {{"rope_type", "linear"}, {"factor", 2.5}, {"rope_theta", 700.0}};
  CHECK(rope({{"rope_theta", nullptr}, {"rope_parameters", linear}}) == Rope{700, 2.5});
  CHECK(rope({{"rope_theta", 700}, {"rope_parameters", linear}}) == Rope{700, 2.5});
  CHECK(rope({{"rope_theta", 700},
              {"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}},
              {"rope_parameters", linear}}) == Rope{700, 2.5});
  CHECK(rope({{"rope_parameters", {{"rope_type", "default"}}}}) == Rope{10000, 1});
  CHECK(rope({{"rope_theta", nullptr}, {"rope_parameters", {{"rope_theta", 500.0}}}}) ==
        Rope{500, 1});
  CHECK(rope({{"rope_scaling", json::object()}}) == Rope{10000, 1});
  CHECK(rope({{"rope_parameters", json::object()}}) == Rope{10000, 1});
  CHECK(rope({{"rope_parameters", {{"partial_rotary_factor", 1.0}}}}) == Rope{10000, 1});
  json nulls = olmoe_1b_7b();
  nulls["rope_scaling"] = {{"rope_type", nullptr}, {"factor", nullptr}};
  CHECK(load(nulls).rope_factor == 1);

  CHECK(config_error({{"rope_theta", nullptr}}) ==
        "field 'rope_theta' is missing, also from 'rope_parameters'");
  CHECK(config_error({{"rope_parameters", linear}}) ==
        "contradictory rope_theta: 10000.0 and 700.0");
  CHECK(config_error({{"rope_theta", 700},
                      {"rope_scaling", {{"type", "default"}}},
                      {"rope_parameters", linear}}) == "contradictory rope factors: 1.0 and 2.5");
  CHECK(config_error({{"rope_theta", 0}}) == "field 'rope_theta' must be a positive number, got 0");

  const auto scaling_error = [](const json& scaling) {
    return config_error({{"rope_scaling", scaling}});
  };
  CHECK(scaling_error("linear") == "field 'rope_scaling' must be an object, got \"linear\"");
  const auto unknown = [](const std::string& key, const std::string& value) {
    return "unknown key '" + key + "', which may change the model's numbers: " + value;
  };
  CHECK(scaling_error({{"factor", 2}}) == unknown("rope_scaling.factor", "2"));
  CHECK(scaling_error({{"full_attention", {{"rope_type", "default"}}}}) ==
        unknown("rope_scaling.full_attention", R"({"rope_type":"default"})"));
  CHECK(scaling_error({{"type", "linear"}}) == "field 'rope_scaling.factor' is missing");
  CHECK(scaling_error({{"type", "linear"}, {"factor", -2}}) ==
        "field 'rope_scaling.factor' must be a positive number, got -2");
  CHECK(scaling_error({{"type", "linear"}, {"rope_type", "default"}, {"factor", 2}}) ==
        "rope types 'linear' and 'default' contradict each other");
  CHECK(scaling_error({{"rope_type", "yarn"}, {"factor", 2}}) ==
        "unknown rope type 'yarn'; accepted are default, linear");
  CHECK(scaling_error({{"rope_type", "default"}, {"factor", 2}}) ==
        unknown("rope_scaling.factor", "2"));
  CHECK(scaling_error({{"rope_type", "linear"}, {"factor", 2}, {"beta_fast", 32}}) ==
        unknown("rope_scaling.beta_fast", "32"));
}

TEST_CASE("activations by transformers' names") {
  const auto activation = [](const char* name) {
    return load(with({{"hidden_act", name}})).hidden_act;
  };
  for (const char* name : {"silu", "swish"}) CHECK(activation(name) == Activation::Silu);
  for (const char* name : {"gelu", "gelu_python"}) CHECK(activation(name) == Activation::Gelu);
  for (const char* name : {"gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate"}) {
    CHECK(activation(name) == Activation::GeluTanh);
  }
  CHECK(activation("relu") == Activation::Relu);
  CHECK(name(Activation::Silu) == "silu");
  CHECK(name(Activation::Gelu) == "gelu");
  CHECK(name(Activation::GeluTanh) == "gelu_pytorch_tanh");
  CHECK(name(Activation::Relu) == "relu");
  CHECK(config_error({{"hidden_act", "mish"}}) ==
        "unknown hidden_act 'mish'; accepted are silu, swish, gelu, gelu_python, "
        "gelu_pytorch_tanh, gelu_new, gelu_fast, gelu_accurate, relu");
  CHECK(config_error({{"hidden_act", 1}}) == "field 'hidden_act' must be a string, got 1");
}

TEST_CASE("token ids") {
  using Ids = std::vector<std::int64_t>;
  CHECK(load(with({{"eos_token_id", {5, 7}}})).eos_token_ids == Ids{5, 7});
  CHECK(load(with({{"eos_token_id", nullptr}})).eos_token_ids.empty());
  json document = olmoe_1b_7b();
  document["eos_token_id"] = nullptr;
  CHECK(load(document).eos_token_ids.empty());
  CHECK(config_error({{"eos_token_id", "</s>"}}) ==
        "field 'eos_token_id' must be token ids, got \"</s>\"");
  CHECK(config_error({{"eos_token_id", {5, 0.5}}}) ==
        "field 'eos_token_id' must be token ids, got [5,0.5]");
  CHECK(config_error({{"bos_token_id", {1}}}) ==
        "field 'bos_token_id' must be a token id, got [1]");
}

TEST_CASE("what may be absent, and what may not") {
  const Config config = load(with({{"num_key_value_heads", nullptr},
                                   {"pad_token_id", nullptr},
                                   {"transformers_version", nullptr}}));
  CHECK(config.num_key_value_heads == 16);
  CHECK_FALSE(config.pad_token_id.has_value());

  for (const std::string field :
       {"attention_bias", "hidden_act", "hidden_size", "intermediate_size",
        "max_position_embeddings", "model_type", "norm_topk_prob", "num_attention_heads",
        "num_experts", "num_experts_per_tok", "num_hidden_layers", "rms_norm_eps",
        "tie_word_embeddings", "vocab_size"}) {
    CHECK(config_error({{field, nullptr}}) == "field '" + field + "' is missing");
  }
}

TEST_CASE("refused: what follows a NUL byte, and UTF-16") {
  using namespace std::string_literals;
  const std::string sound = olmoe_1b_7b().dump();
  CHECK(text_error(sound + "\n") == "no error");
  CHECK(text_error(sound + "\0{\"not\":\"json\",,}"s) ==
        "bad JSON: byte " + std::to_string(sound.size()) + " is NUL");
  CHECK(text_error("\0"s + sound) == "bad JSON: byte 0 is NUL");
  CHECK(text_error("{\0}\0"s) == "bad JSON: byte 1 is NUL");
  CHECK(text_error("\xff\xfe{\0}\0"s) == "is UTF-16, and JSON must be UTF-8");
  CHECK(text_error("\xfe\xff\0{\0}"s) == "is UTF-16, and JSON must be UTF-8");
}

TEST_CASE("a message is one printable line, bounded, whatever the file says") {
  const auto well = [](const std::string& message) {
    CAPTURE(message);
    CHECK(message != "no error");
    CHECK(message.size() <= olmoe::message_limit);
    CHECK(message == olmoe::one_line(message, olmoe::message_limit));
  };
  const std::string wild = std::string(100'000, '\n') + "\x1b[2J\u202e";
  for (const std::string& text :
       {wild, "\"" + std::string(100'000, 'x'), std::string("{\"\xff\xfe\x1b[2J\":1}"),
        json(wild).dump(), json{{"model_type", wild}}.dump(), with({{wild + "_norm", 1}}).dump(),
        with({{"hidden_act", wild}}).dump(), with({{"hidden_size", wild}}).dump(),
        with({{"rope_scaling", {{"type", wild}}}}).dump()})
    well(text_error(text));
  const TempDir dir;
  well(error_of([&] { Config::read(dir.path() / wild); }));
}

TEST_CASE("refused: files that are no OLMoE's config.json") {
  const TempDir dir;
  CHECK(error_of([&] { Config::load(dir.path()); }) ==
        (dir.path() / "config.json").string() + ": No such file or directory");
  CHECK(text_error("").starts_with("bad JSON: "));
  CHECK(text_error("{").starts_with("bad JSON: "));
  CHECK(text_error("[]") == "no JSON object");
  CHECK(text_error(R"({"model_type":"olmoe","model_type":"olmoe"})") ==
        "repeated key 'model_type'");
  CHECK(config_error({{"model_type", "mixtral"}}) == "model_type is 'mixtral', expected 'olmoe'");
  CHECK(config_error({{"model_type", 7}}) == "field 'model_type' must be a string, got 7");
}

TEST_CASE("refused: a key that might change the numbers") {
  const auto refused = [](const std::string& key, const json& value) {
    CAPTURE(key);
    CHECK(config_error({{key, value}}) ==
          "unknown key '" + key + "', which may change the model's numbers: " + value.dump());
  };
  refused("sliding_window", 4096);
  refused("quantization_config", {{"bits", 4}});
  refused("attn_logit_softcapping", 50.0);
  refused("final_logit_softcapping", 30.0);
  refused("attention_chunk_size", 8192);
  refused("partial_rotary_factor", 0.5);
  refused("residual_multiplier", 0.22);
  refused("n_shared_experts", 1);
  refused("first_k_dense_replace", 1);
  refused("layer_types", {"full_attention", "sliding_attention"});
  refused("scoring_func", "sigmoid");
  refused("routed_scaling_factor", 2.5);
  refused("mlp_bias", true);
  refused("is_causal", false);
  refused("use_qk_norm", false);
  refused("RoPE_scale", 2);
  refused("swiglu_limit", 7);
  refused("apply_layernorm_1p", true);
  refused("normalization", "layernorm");
  refused("prenorm", true);
  refused("useSlidingWindow", true);
  refused("numSharedExperts", 3);
  refused("compression_config", {{"format", "int4"}});
  CHECK(config_error({{"num_local_experts", 64}}) == "no error");
  CHECK(config_error({{"num_local_experts", 8}}) == "num_local_experts is not num_experts, 64");
  CHECK(config_error({{"head_dim", 128}}) == "no error");
  CHECK(config_error({{"head_dim", 64}}) == "head_dim is not hidden_size / num_attention_heads");
}

TEST_CASE("ignored: null, what is as good as absent, and the keys of trainers and hubs") {
  json document = olmoe_1b_7b();
  for (const char* key : {"sliding_window", "quantization_config", "head_dim", "layer_types",
                          "rope_parameters", "attn_logit_softcapping"})
    document[key] = nullptr;
  document["layer_types"] = {"full_attention", "full_attention"};
  document["num_beam_groups"] = 1;
  document["no_repeat_ngram_size"] = 0;
  document["encoder_no_repeat_ngram_size"] = 0;
  document["max_window_layers"] = 28;
  document["use_flash_attention_2"] = true;
  document["rotary_pct"] = 1.0;
  document["logit_scale"] = 1.0;
  document["attn_logit_softcapping"] = 0.0;
  document["num_nextn_predict_layers"] = 0;
  document["mlp_bias"] = false;
  document["use_sliding_window"] = false;
  document["n_shared_experts"] = 0;
  document["pruned_heads"] = json::object();
  document["partial_rotary_factor"] = 1.0;
  document["is_causal"] = true;
  document["unsloth_version"] = "2025.9.1";
  document["unsloth_fixed"] = true;
  document["auto_map"] = {{"AutoConfig", "configuration_olmoe.OlmoeConfig"}};
  document["use_bfloat16"] = false;
  document["model_name"] = "mine";
  document["transformers.js_config"] = {{"dtype", "q4"}};
  document["_commit_hash"] = "0123";
  document["_experts_implementation"] = "grouped_mm";
  document["finetuning_task"] = "chat";
  document["task_specific_params"] = {{"a", 1}};
  document["temperature"] = 0.7;
  document["top_k"] = 50;
  document["router_z_loss_coef"] = 0.001;
  document["hidden_dropout"] = 0.1;
  document["torchscript"] = false;
  CHECK(load(document).rope_theta == 10000);
}

TEST_CASE("refused: wrong types and values out of range") {
  const std::string size = "field 'hidden_size' must be an integer from 1 to 16777216, got ";
  CHECK(config_error({{"hidden_size", 0}}) == size + "0");
  CHECK(config_error({{"hidden_size", -2048}}) == size + "-2048");
  CHECK(config_error({{"hidden_size", 2048.0}}) == size + "2048.0");
  CHECK(config_error({{"hidden_size", "2048"}}) == size + "\"2048\"");
  CHECK(config_error({{"hidden_size", 16777217}}) == size + "16777217");
  CHECK(config_error({{"hidden_size", 1ULL << 63}}) == size + "9223372036854775808");
  CHECK(config_error({{"num_experts", 1025}}) ==
        "field 'num_experts' must be an integer from 1 to 1024, got 1025");
  CHECK(config_error({{"num_experts_per_tok", 0}}) ==
        "field 'num_experts_per_tok' must be an integer from 1 to 1024, got 0");
  CHECK(config_error({{"norm_topk_prob", 0}}) ==
        "field 'norm_topk_prob' must be true or false, got 0");
  CHECK(config_error({{"rms_norm_eps", "1e-5"}}) ==
        "field 'rms_norm_eps' must be a positive number, got \"1e-5\"");
  CHECK(config_error({{"rms_norm_eps", 1e-60}}) ==
        "field 'rms_norm_eps' must be a positive number, got 1e-60");
  CHECK(config_error({{"clip_qkv", -1}}) == "field 'clip_qkv' must be a positive number, got -1");
  CHECK(config_error({{"clip_qkv", 1e60}}) ==
        "field 'clip_qkv' must be a positive number, got 1e+60");
}

TEST_CASE("refused: sizes that do not fit together") {
  CHECK(config_error({{"num_attention_heads", 15}}) ==
        "num_attention_heads 15 does not divide hidden_size 2048");
  CHECK(config_error({{"num_key_value_heads", 3}}) ==
        "num_key_value_heads 3 does not divide num_attention_heads 16");
  CHECK(config_error({{"hidden_size", 48}}) ==
        "the head size 3 (hidden_size / num_attention_heads) is odd, which rotary embedding "
        "excludes");
  CHECK(config_error({{"num_experts", 7}}) == "num_experts_per_tok 8 exceeds num_experts 7");
  CHECK(load(with({{"num_experts", 8}})).num_experts_per_tok == 8);
}
