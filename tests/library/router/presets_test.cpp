// Presets against what transformers' own modules did: tests/golden/routers, recorded by
// reference/hf/capture_routers.py.

#include "fdroute/presets.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fdroute/summary.hpp"
#include "library/every_policy.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
namespace presets = fdroute::presets;
using test::index;

namespace {

struct Row {
  bool tied = false;
  std::vector<float> logits{};
  std::vector<int> experts{};
  std::vector<float> weights{};
};

struct Case {
  std::map<std::string, std::string> numbers{};
  std::vector<float> bias{};
  std::vector<Row> rows{};
  std::optional<double> loss{};

  int integer(const std::string& key) const { return std::stoi(numbers.at(key)); }
  int experts() const { return integer("experts"); }
  int top_k() const { return integer("top_k"); }
  bool norm() const { return integer("norm_topk_prob") != 0; }
  float scale() const { return std::stof(numbers.at("routed_scaling_factor")); }
};

std::vector<float> floats(std::istream& in) {
  std::vector<float> values;
  for (std::string text; in >> text;) values.push_back(std::strtof(text.c_str(), nullptr));
  return values;
}

/// The format is described in capture_routers.py.
std::vector<Case> golden(const std::string& model) {
  const std::string path = FDROUTE_SOURCE_DIR "/tests/golden/routers/" + model + ".txt";
  std::ifstream file(path);
  REQUIRE_MESSAGE(file, path);
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    if (word == "case") {
      cases.emplace_back();
      for (std::string pair; in >> pair;)
        cases.back().numbers[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
    } else if (word == "bias") {
      cases.back().bias = floats(in);
    } else if (word == "row") {
      cases.back().rows.push_back({.tied = line == "row tied=1"});
    } else if (word == "logits") {
      cases.back().rows.back().logits = floats(in);
    } else if (word == "experts") {
      for (int expert = 0; in >> expert;) cases.back().rows.back().experts.push_back(expert);
    } else if (word == "weights") {
      cases.back().rows.back().weights = floats(in);
    } else if (word == "loss") {
      cases.back().loss = static_cast<double>(floats(in)[0]);
    } else {
      REQUIRE(word == "#");
    }
  }
  return cases;
}

template <class T>
std::vector<T> sorted(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return values;
}

/// transformers computes weights in several float operations, each rounded: the largest distance
/// seen in the recorded rows is 4 ulp.
constexpr std::int64_t weight_ulps = 6;

template <class AnyPolicy, class K>
void check_row(const Row& row, const AnyPolicy& router, const K& ranking) {
  const int k = static_cast<int>(row.experts.size());
  REQUIRE(router.capacity() == k);
  const fd::LogitsView<float> view(row.logits.data(), 1, static_cast<int>(row.logits.size()));
  auto routing = test::routed(router, view);
  REQUIRE(routing.counts[0] == k);
  std::vector<int> experts(routing.experts.data(), routing.experts.data() + k);
  std::vector<float> weights(routing.weights.data(), routing.weights.data() + k);

  std::vector<float> expected_weights = row.weights;
  if (row.tied) {
    // Any of several equal experts may have been taken: only the keys and the weights are given.
    std::vector<float> keys(row.logits.size());
    ranking(row.logits, keys);
    const auto keys_of = [&](const std::vector<int>& chosen) {
      std::vector<float> result;
      for (const int expert : chosen) result.push_back(keys[index(expert)]);
      return sorted(result);
    };
    CHECK(keys_of(experts) == keys_of(row.experts));
    weights = sorted(weights);
    expected_weights = sorted(expected_weights);
  } else {
    REQUIRE(sorted(experts) == sorted(row.experts));
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const auto there = std::find(row.experts.begin(), row.experts.end(), experts[i]);
      expected_weights[i] = row.weights[index(there - row.experts.begin())];
    }
  }
  for (std::size_t i = 0; i < weights.size(); ++i)
    CHECK(oracle::ulps_between(weights[i], expected_weights[i]) <= weight_ulps);
}

/// The loss over the untied rows, from the routing that transformers did.
double loss_of(const Case& recorded) {
  test::Batch batch{recorded.experts()};
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  for (const Row& row : recorded.rows) {
    if (row.tied) continue;
    batch.add(row.logits);
    experts.insert(experts.end(), row.experts.begin(), row.experts.end());
    weights.insert(weights.end(), row.weights.begin(), row.weights.end());
  }
  std::vector<std::int32_t> counts(index(batch.tokens()), recorded.top_k());
  return fd::load_balancing_loss(
      batch.view(),
      fd::RoutingView<>{experts.data(), weights.data(), counts.data(), recorded.top_k()},
      fd::LoadBalance::transformers);
}

/// `preset` makes the router of a case.
template <class Preset>
void check_model(const std::string& model, const Preset& preset) {
  int untied = 0;
  int tied = 0;
  for (const Case& recorded : golden(model)) {
    INFO(model, ", ", recorded.experts(), " experts, top ", recorded.top_k());
    const auto router = preset(recorded);
    for (const Row& row : recorded.rows) {
      (row.tied ? tied : untied)++;
      check_row(row, router, router.ranking());
    }
    if (recorded.loss) CHECK(loss_of(recorded) == doctest::Approx(*recorded.loss).epsilon(1e-6));
  }
  CHECK(untied >= 36);
  CHECK(tied >= 12);
}

}  // namespace

TEST_CASE("olmoe") {
  check_model("olmoe", [](const Case& c) {
    return presets::olmoe({c.experts(), c.top_k(), c.norm()});
  });
}

TEST_CASE("qwen3_moe") {
  check_model("qwen3_moe", [](const Case& c) {
    return presets::qwen3_moe({c.experts(), c.top_k(), c.norm()});
  });
}

TEST_CASE("mixtral") {
  check_model("mixtral", [](const Case& c) { return presets::mixtral({c.experts(), c.top_k()}); });
}

TEST_CASE("gpt_oss") {
  check_model("gpt_oss", [](const Case& c) { return presets::gpt_oss({c.experts(), c.top_k()}); });
}

TEST_CASE("llama4") {
  check_model("llama4", [](const Case& c) { return presets::llama4({c.experts(), c.top_k()}); });
}

TEST_CASE("deepseek_v2") {
  check_model("deepseek_v2", [](const Case& c) {
    return presets::deepseek_v2(
        {c.experts(), c.top_k(), c.integer("n_group"), c.integer("topk_group"), c.scale()});
  });
}

TEST_CASE("deepseek_v3") {
  check_model("deepseek_v3", [](const Case& c) {
    return presets::deepseek_v3({c.experts(), c.top_k(), c.integer("n_group"),
                                 c.integer("topk_group"), c.norm(), c.scale()},
                                c.bias);
  });
}

TEST_CASE("glm4_moe") {
  check_model("glm4_moe", [](const Case& c) {
    return presets::glm4_moe({c.experts(), c.top_k(), c.integer("n_group"), c.integer("topk_group"),
                              c.norm(), c.scale()},
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
        "policy 'llama4:k=1', position 8: unknown key 'k'; llama4 accepts num_experts_per_tok");
  CHECK(test::rejection_of([&] { fd::parse_router("deepseek-v2:n_group=4,topk_group=1", 16); }) ==
        "policy 'deepseek-v2:n_group=4,topk_group=1': num_experts_per_tok 6 exceeds the 4 experts "
        "of topk_group 1");
}
