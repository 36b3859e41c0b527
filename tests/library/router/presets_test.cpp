// Presets against what transformers' own modules did: tests/golden/routers.

#include "fdroute/presets.hpp"

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "library/every_policy.hpp"
#include "library/golden_routers.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
namespace presets = fdroute::presets;

namespace {

/// The settings of a recorded case, by their names in config.json.
struct Numbers {
  std::map<std::string, std::string> values{};

  explicit Numbers(const golden::Case& recorded)
      : values(recorded.settings.begin(), recorded.settings.end()) {}

  int integer(const std::string& key) const { return std::stoi(values.at(key)); }
  int top_k() const { return integer("num_experts_per_tok"); }
  bool norm() const { return values.at("norm_topk_prob") == "true"; }
  float scale() const { return std::stof(values.at("routed_scaling_factor")); }
};

/// `preset` makes the router of a case from its numbers.
template <class Preset>
void check_model(const std::string& model, const Preset& preset) {
  for (const golden::Case& recorded : golden::read(model).cases) {
    const auto router = preset(recorded, Numbers(recorded));
    INFO(model, ", ", recorded.experts, " experts, top ", router.capacity());
    for (const golden::Row& row : recorded.rows) {
      const fd::LogitsView<float> view(row.logits.data(), 1, recorded.experts);
      auto routing = test::routed(router, view);
      REQUIRE(routing.counts[0] == router.capacity());
      golden::check_row(row, {routing.experts.data(), routing.experts.data() + router.capacity()},
                        {routing.weights.data(), routing.weights.data() + router.capacity()});
    }
  }
}

}  // namespace

TEST_CASE("presets route as transformers' modules do") {
  using golden::Case;
  check_model("olmoe", [](const Case& c, const Numbers& n) {
    return presets::olmoe({c.experts, n.top_k(), n.norm()});
  });
  check_model("qwen3_moe", [](const Case& c, const Numbers& n) {
    return presets::qwen3_moe({c.experts, n.top_k(), n.norm()});
  });
  check_model("mixtral", [](const Case& c, const Numbers& n) {
    return presets::mixtral({c.experts, n.top_k()});
  });
  check_model("gpt_oss", [](const Case& c, const Numbers& n) {
    return presets::gpt_oss({c.experts, n.top_k()});
  });
  check_model("llama4", [](const Case& c, const Numbers& n) {
    return presets::llama4({c.experts, n.top_k()});
  });
  check_model("deepseek_v2", [](const Case& c, const Numbers& n) {
    return presets::deepseek_v2(
        {c.experts, n.top_k(), n.integer("n_group"), n.integer("topk_group"), n.scale()});
  });
  check_model("deepseek_v3", [](const Case& c, const Numbers& n) {
    return presets::deepseek_v3(
        {c.experts, n.top_k(), n.integer("n_group"), n.integer("topk_group"), n.norm(), n.scale()},
        c.bias);
  });
  check_model("glm4_moe", [](const Case& c, const Numbers& n) {
    return presets::glm4_moe(
        {c.experts, n.top_k(), n.integer("n_group"), n.integer("topk_group"), n.norm(), n.scale()},
        c.bias);
  });
}

TEST_CASE("a preset refuses what its config cannot mean") {
  const std::vector<float> bias(16);
  const auto v3 = [&](const presets::DeepseekV3Config& config, std::span<const float> given) {
    return test::rejection_of([&] { presets::deepseek_v3(config, given); });
  };
  CHECK(v3({.n_routed_experts = 16, .num_experts_per_tok = 8, .n_group = 4, .topk_group = 2},
           bias) == "no error");
  CHECK(v3({.n_routed_experts = 16, .num_experts_per_tok = 9, .n_group = 4, .topk_group = 2},
           bias) == "num_experts_per_tok 9 exceeds the 8 experts of topk_group 2");
  CHECK(v3({.n_routed_experts = 16, .n_group = 3, .topk_group = 2}, bias) ==
        "GroupLimited: groups must divide the 16 experts, got 3");
  CHECK(v3({.n_routed_experts = 16, .n_group = 0, .topk_group = 2}, bias) ==
        "GroupLimited: groups must divide the 16 experts, got 0");
  // However large: nothing overflows on the way to the message.
  for (const int kept : {-2147483647, -1, 0, 5, 1 << 30, 2147483647}) {
    const std::string words =
        "GroupLimited: kept must lie in [1, 4], the number of groups, got " + std::to_string(kept);
    CHECK(v3({.n_routed_experts = 16, .n_group = 4, .topk_group = kept}, bias) == words);
    CHECK(test::rejection_of([&] {
            presets::deepseek_v2({.n_routed_experts = 16, .n_group = 4, .topk_group = kept});
          }) == words);
  }
  CHECK(v3({}, bias) == "BySigmoid: bias has 16 values for 256 experts");
  CHECK(v3({}, {}) == "deepseek_v3: e_score_correction_bias has 0 values for 256 experts");
  CHECK(test::rejection_of([] { presets::mixtral({.num_experts_per_tok = 9}); }) ==
        "TopK: k must lie in [1, 8], the number of experts, got 9");
}

TEST_CASE("a preset's string makes the same router") {
  test::Random random(6);
  const test::Batch batch = test::batch_of_every_kind(16, 8, random);
  std::vector<float> bias(16);
  for (float& b : bias) b = random.normal();
  std::set<std::string> compared;
  const auto alike = [&](const std::string& policy, const auto& router) {
    compared.insert(policy.substr(0, policy.find(':')));
    const fd::AnyRouter parsed = fd::parse_router(policy, 16, bias);
    CHECK(fd::parse_router(parsed.policy(), 16, bias).policy() == parsed.policy());
    return test::routed(parsed, batch.view()) == test::routed(router, batch.view());
  };
  CHECK(alike("olmoe:num_experts_per_tok=3", presets::olmoe({16, 3})));
  CHECK(alike("olmoe:norm_topk_prob=true", presets::olmoe({16, 8, true})));
  CHECK(alike("mixtral", presets::mixtral({16, 2})));
  CHECK(alike("qwen3-moe", presets::qwen3_moe({16, 8, true})));
  CHECK(alike("gpt-oss", presets::gpt_oss({16, 4})));
  CHECK(alike("llama4:num_experts_per_tok=2", presets::llama4({16, 2})));
  CHECK(alike("deepseek-v2:n_group=4,topk_group=2", presets::deepseek_v2({16, 6, 4, 2, 16.0F})));
  CHECK(alike("deepseek-v3:n_group=4,topk_group=2",
              presets::deepseek_v3({16, 8, 4, 2, true, 2.5F}, bias)));
  CHECK(alike("glm4-moe:norm_topk_prob=false,routed_scaling_factor=1",
              presets::glm4_moe({16, 8, 1, 1, false, 1.0F}, bias)));
  const auto names = test::names_of_presets();
  CHECK(compared == std::set(names.begin(), names.end()));
  CHECK(test::rejection_of([] { fd::parse_router("glm4-moe", 16); }) ==
        "policy 'glm4-moe' needs a selection bias: give one value per expert, or "
        "selection_bias=none");
  const std::vector<float> zeros(16);
  CHECK(alike("glm4-moe:selection_bias=none", presets::glm4_moe({.n_routed_experts = 16}, zeros)));
  CHECK(fd::parse_router("glm4-moe:selection_bias=none", 16).policy() ==
        "glm4-moe:num_experts_per_tok=8,n_group=1,topk_group=1,norm_topk_prob=true,"
        "routed_scaling_factor=2.5,selection_bias=none");
  CHECK(test::rejection_of([&] { fd::parse_router("llama4:k=1", 16, bias); }) ==
        "policy 'llama4:k=1', position 8: unknown key 'k'; llama4 accepts rule, "
        "num_experts_per_tok, ties");
  CHECK(test::rejection_of([&] { fd::parse_router("deepseek-v2:n_group=4,topk_group=1", 16); }) ==
        "policy 'deepseek-v2:n_group=4,topk_group=1': num_experts_per_tok 6 exceeds the 4 experts "
        "of topk_group 1");
}
