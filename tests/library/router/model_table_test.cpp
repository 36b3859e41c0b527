// The table of models against what transformers' own modules did: tests/golden/routers.

#include "fdroute/model_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/compile_once.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/parse.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/summary.hpp"
#include "fdroute/token_table.hpp"
#include "library/golden_routers.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
namespace presets = fdroute::presets;

namespace {

/// The settings of a recorded case. What it does not name has the value of the table.
class CaseSource {
 public:
  explicit CaseSource(const golden::Case& recorded) : case_(recorded) {}

  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    const std::string* const value = find(key);
    if (value == nullptr) return otherwise;
    return *value == "none" ? Number{} : static_cast<Number>(std::stod(*value));
  }
  bool flag(std::string_view key, bool otherwise) {
    const std::string* const value = find(key);
    return value == nullptr ? otherwise : *value == "true";
  }
  std::string_view choice(std::string_view key, std::initializer_list<std::string_view> accepted,
                          std::string_view otherwise) {
    const std::string* const value = find(key);
    if (value == nullptr) return otherwise;
    const auto found = std::ranges::find(accepted, *value);
    REQUIRE(found != accepted.end());
    return *found;
  }
  [[noreturn]] void lacks(std::string_view key) {
    throw std::invalid_argument("lacks " + std::string(key));
  }
  std::vector<float> bias() const { return case_.bias; }
  std::vector<float> expert_scale() const { return case_.expert_scale; }

  const std::set<std::string>& asked() const { return asked_; }

 private:
  const std::string* find(std::string_view key) {
    asked_.emplace(key);
    for (const auto& [name, value] : case_.settings)
      if (name == key) return &value;
    return nullptr;
  }

  const golden::Case& case_;
  std::set<std::string> asked_;
};

// One type for all weights and rankings: a Router of each would take long to compile.
struct TestWeights {
  std::function<void(std::span<const float>, std::span<const std::int32_t>, std::span<float>)> f;
  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    f(logits, experts, out);
  }
};
struct TestRanking {
  std::function<void(std::span<const float>, std::span<float>)> f;
  fd::TieOrder ties = fd::TieOrder::lowest_index;
  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    f(logits, keys);
  }
};
using TestRouter = fd::Router<fd::TopK, fd::Logit, fd::NoNull, TestWeights, TestRanking>;

TestRouter router_of(const presets::RouterSpec& spec) {
  return presets::visit_parts(spec, [&](const auto& weights, const auto& ranking) {
    fd::detail::validate_policy(weights, spec.experts);
    fd::detail::validate_policy(ranking, spec.experts);
    return TestRouter(spec.experts, fd::TopK{spec.top_k}, TestWeights{weights}, fd::ExpertBounds{},
                      TestRanking{ranking});
  });
}

const presets::ModelRouter& model_of(const std::string& name) {
  const presets::ModelRouter* const model = presets::find_model(name);
  REQUIRE_MESSAGE(model != nullptr, name);
  return *model;
}

const std::set<std::string> tables_of_tokens{"deepseek_v4_hash"};

/// A file of recorded rows is named like its model.
std::set<std::string> recorded_models() {
  std::set<std::string> names = golden::models();
  for (const std::string& name : tables_of_tokens) names.erase(name);
  return names;
}

std::string shape_name(presets::Shape shape) {
  switch (shape) {
    case presets::Shape::topk_softmax:
      return "topk_softmax";
    case presets::Shape::group_max_softmax:
      return "group_max_softmax";
    case presets::Shape::group_top2_softmax:
      return "group_top2_softmax";
    case presets::Shape::biased_softmax:
      return "biased_softmax";
    case presets::Shape::expert_scaled_softmax:
      return "expert_scaled_softmax";
    case presets::Shape::topk_sigmoid:
      return "topk_sigmoid";
    case presets::Shape::biased_sigmoid:
      return "biased_sigmoid";
    case presets::Shape::group_top2_sigmoid:
      return "group_top2_sigmoid";
    case presets::Shape::biased_sqrt_softplus:
      return "biased_sqrt_softplus";
    case presets::Shape::sparse_mixer:
      return "sparse_mixer";
  }
  return "?";
}

/// The keys that the model reads, each with its default.
std::string keys_of(const presets::ModelRouter& model) {
  std::string text = model.within.empty() ? "" : "`" + std::string(model.within) + "`: ";
  const auto add = [&](std::string_view key, const std::string& value) {
    const std::string separator = text.empty() || text.ends_with(": ") ? "" : ", ";
    text += separator + "`" + std::string(key) + (value.empty() ? "" : "=" + value) + "`";
  };
  const auto add_number = [&](const presets::Setting& setting) {
    const bool has_default = !std::isnan(setting.value);
    if (!setting.key.empty())
      add(setting.key, has_default ? fd::detail::to_text(setting.value) : "");
  };
  add_number(model.experts);
  add_number(model.zero_experts);
  add_number(model.top_k);
  if (!model.word.key.empty())
    add(model.word.key, std::string(model.word.first) + "/" + std::string(model.word.second));
  if (!model.normalize.key.empty())
    add(model.normalize.key, model.normalize.value > 0.0 ? "true" : "false");
  for (const auto* setting : {&model.floor, &model.power, &model.scale, &model.groups,
                              &model.kept_groups, &model.softcap, &model.jitter})
    add_number(*setting);
  if (!model.bias_flag.empty()) add(model.bias_flag, "true");
  return text;
}

/// The model's row in docs/presets.md, as far as the code knows it.
std::string row_of(const std::string& name) {
  const presets::ModelRouter& model = model_of(name);
  std::map<char, int> marks;
  for (const golden::Case& c : golden::read(name).cases)
    for (const golden::Row& row : c.rows) ++marks[row.mark];
  std::string shape = shape_name(model.shape);
  if (!model.word.key.empty()) shape += " / " + shape_name(model.word.shape_of_second);
  std::string tensor(model.bias.empty() ? model.expert_scale : model.bias);
  if (!tensor.empty()) tensor = "`" + tensor + "`";
  std::string counts;
  for (const char mark : {'=', '~', '!', 'n', 'x'})
    counts += (counts.empty() ? "" : " ") + std::to_string(marks[mark]);
  return "| `" + name + "` | " + shape + " | " + keys_of(model) + " | " + tensor + " | " + counts +
         " |";
}

}  // namespace

TEST_CASE("every model of the table has a recording, and every recording a model") {
  std::set<std::string> of_table;
  for (const presets::ModelRouter& model : presets::model_table) {
    std::string file(model.model_type);
    std::ranges::replace(file, '-', '_');
    of_table.insert(file);
    CHECK(presets::find_model(file) == &model);
    CHECK(presets::find_model(file + "_text") == &model);
  }
  CHECK(of_table.size() == presets::model_table.size());
  CHECK(of_table == recorded_models());
  CHECK(presets::find_model("gpt2") == nullptr);
  CHECK(presets::find_model("_text") == nullptr);
}

TEST_CASE("models route as transformers' modules do") {
  std::map<char, int> marks;
  for (const std::string& name : recorded_models()) {
    const golden::Model recorded = golden::read(name);
    CHECK(recorded.cases.size() >= 2);
    int determined = 0;
    for (const golden::Case& c : recorded.cases) {
      CaseSource source(c);
      const presets::RouterSpec spec = presets::read_spec(model_of(name), c.experts, source);
      const TestRouter router = router_of(spec);
      INFO(name, ", ", c.experts, " experts, top ", spec.top_k);
      REQUIRE(c.rows.size() >= 12);
      for (const golden::Row& row : c.rows) {
        ++marks[row.mark];
        determined += static_cast<int>(row.mark == '=');
        REQUIRE(row.experts.size() == static_cast<std::size_t>(spec.top_k));
        const fd::LogitsView<float> view(row.logits.data(), 1, c.experts);
        auto routing = test::routed(router, view);
        const auto k = static_cast<std::ptrdiff_t>(routing.counts[0]);
        CAPTURE(row.logits);
        golden::check_row(row, {routing.experts.data(), routing.experts.data() + k},
                          {routing.weights.data(), routing.weights.data() + k});
      }
    }
    CHECK_MESSAGE(determined >= 18, name);
  }
  MESSAGE("rows marked =: ", marks['='], ", ~: ", marks['~'], ", !: ", marks['!'],
          ", n: ", marks['n'], ", x: ", marks['x']);
}

TEST_CASE("the table has transformers' defaults and reads what their configs have") {
  for (const std::string& name : recorded_models()) {
    const golden::Model recorded = golden::read(name);
    const presets::ModelRouter& model = model_of(name);
    INFO(name);
    const auto is_default = [&](const presets::Setting& setting) {
      if (setting.key.empty()) return;
      const auto found = recorded.defaults.find(std::string(setting.key));
      REQUIRE_MESSAGE(found != recorded.defaults.end(), setting.key);
      CAPTURE(setting.key);
      if (found->second == "none") {
        // 1 group where a config without groups has none.
        CHECK((std::isnan(setting.value) || setting.key.ends_with("group")));
      } else {
        const bool is_flag = found->second == "true" || found->second == "false";
        const double value = is_flag ? double(found->second == "true") : std::stod(found->second);
        CHECK(setting.value == value);
      }
    };
    for (const auto* setting :
         {&model.experts, &model.top_k, &model.normalize, &model.epsilon, &model.floor,
          &model.power, &model.scale, &model.groups, &model.kept_groups, &model.softcap,
          &model.jitter, &model.zero_experts})
      is_default(*setting);
    if (!model.word.key.empty())
      CHECK(recorded.defaults.at(std::string(model.word.key)) == model.word.first);
    // A key that the table did not read would change nothing.
    std::set<std::string> read;
    for (const golden::Case& c : recorded.cases) {
      CaseSource source(c);
      presets::read_spec(model, c.experts, source);
      read.insert(source.asked().begin(), source.asked().end());
    }
    read.emplace(model.experts.key);
    if (!model.zero_experts.key.empty()) read.emplace(model.zero_experts.key);
    for (const auto& setting : recorded.defaults) {
      const auto& key = setting.first;
      // Doge divides a softmax by its sum, which is 1.
      if (name != "doge" || key != "norm_topk_prob") CHECK_MESSAGE(read.count(key) == 1, key);
    }
  }
}

TEST_CASE("docs/presets.md has the table") {
  std::ifstream file(FDROUTE_SOURCE_DIR "/docs/presets.md");
  REQUIRE(file);
  std::set<std::string> rows;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("| `")) rows.insert(line);
  for (const std::string& name : recorded_models()) {
    const std::string expected = row_of(name);
    const bool found = std::ranges::any_of(
        rows, [&](const std::string& row) { return row.starts_with(expected); });
    CHECK_MESSAGE(found, expected);
  }
  const auto of_models = std::ranges::count_if(
      rows, [](const std::string& row) { return std::ranges::count(row, '|') == 7; });
  CHECK(of_models == std::ssize(recorded_models()));
}

TEST_CASE("a model's string makes its router") {
  for (const std::string& name : recorded_models()) {
    const golden::Case c = golden::read(name).cases[0];
    std::string policy = "preset:" + name;
    for (const auto& [key, value] : c.settings) {
      const bool unread = key == "zero_expert_num" || (name == "doge" && key == "norm_topk_prob");
      if (!unread) policy += "," + key + "=" + value;
    }
    CAPTURE(policy);
    const fd::ParseOptions<> options{.selection_bias = c.bias, .expert_scale = c.expert_scale};
    const fd::AnyRouter router = fd::parse_router(policy, c.experts, options);
    CHECK(fd::parse_router(router.policy(), c.experts, options).policy() == router.policy());
    CaseSource source(c);
    const TestRouter expected = router_of(presets::read_spec(model_of(name), c.experts, source));
    test::Batch batch{c.experts};
    for (const golden::Row& row : c.rows) batch.add(row.logits);
    CHECK(test::routed(router, batch.view()) == test::routed(expected, batch.view()));
  }
}

TEST_CASE("a model's string with another rule keeps its ranking and weights") {
  const golden::Case c = golden::read("ernie4_5_moe").cases[0];
  const fd::ParseOptions<> options{.selection_bias = c.bias};
  CaseSource source(c);
  const presets::RouterSpec spec = presets::read_spec(model_of("ernie4_5_moe"), 16, source, false);
  CHECK(source.asked().count("moe_k") == 0);
  test::Batch batch{16};
  for (const golden::Row& row : c.rows) batch.add(row.logits);
  const fd::NormalNull null{};
  const fd::BenjaminiHochberg rule{0.2};
  const auto expected = presets::visit_parts(spec, [&](const auto& weights, const auto& ranking) {
    return test::routed(fd::Router(16, rule, fd::ZScore{}, null, TestWeights{weights},
                                   fd::ExpertBounds{1, 5}, TestRanking{ranking}),
                        batch.view());
  });
  const fd::AnyRouter router =
      fd::parse_router("preset:ernie4_5_moe,rule=bh,alpha=0.2,null=normal,max_k=5", 16, options);
  CHECK(test::routed(router, batch.view()) == expected);
}

TEST_CASE("what a model's string needs, and what it refuses") {
  const auto refused = [](const std::string& policy) {
    return test::rejection_of([&] { fd::parse_router(policy, 16); });
  };
  CHECK(refused("preset:dots1") == "policy 'preset:dots1' needs num_experts_per_tok");
  CHECK(refused("preset:dots1,num_experts_per_tok=2") ==
        "policy 'preset:dots1,num_experts_per_tok=2' needs a selection bias: give one value per "
        "expert, or selection_bias=none");
  CHECK(refused("preset:gemma4,top_k_experts=2") ==
        "policy 'preset:gemma4,top_k_experts=2' needs the experts' own factors: give one value per "
        "expert, or expert_scale=none");
  CHECK(refused("preset:gemma4,top_k_experts=2,expert_scale=none") == "no error");
  CHECK(refused("preset:qwen3_moe,norm_topk=true").find("unknown key 'norm_topk'") !=
        std::string::npos);
  CHECK(refused("preset:phimoe,num_experts_per_tok=3") ==
        "policy 'preset:phimoe,num_experts_per_tok=3': num_experts_per_tok of a sparse mixer is 2, "
        "got 3");
  CHECK(refused("preset:qwen4_moe").find("qwen3_moe") != std::string::npos);
}

TEST_CASE("DeepSeek-V4's layers by a table of tokens") {
  int rows = 0;
  for (const golden::Case& c : golden::read("deepseek_v4_hash").cases) {
    CaseSource source(c);
    const presets::RouterSpec spec = presets::read_spec(model_of("deepseek_v4"), c.experts, source);
    const fd::Scaled<fd::SqrtSoftplusWeights> weights{
        .weights = {.renormalize = spec.normalize, .epsilon = spec.epsilon}, .factor = spec.scale};
    const fd::TokenTable router(c.experts, c.table, spec.top_k, weights);
    CHECK(router.vocabulary() == 8);
    std::int32_t token = 0;
    for (const golden::Row& row : c.rows) {
      std::vector<int> experts(row.experts.size(), -1);
      std::vector<float> ours(row.experts.size());
      std::int32_t count = 0;
      const std::int32_t id = token++ % router.vocabulary();
      router.route(fd::LogitsView<float>(row.logits.data(), 1, c.experts), {&id, 1},
                   fd::RoutingView<>{experts.data(), ours.data(), &count, router.capacity()});
      CHECK(count == router.capacity());
      CHECK(row.mark == '=');
      CHECK(experts == row.experts);
      for (std::size_t i = 0; i < ours.size(); ++i) golden::check_weight(ours[i], row.weights[i]);
      ++rows;
    }
  }
  CHECK(rows >= 50);
}

TEST_CASE("the load-balancing loss over the first rows") {
  int losses = 0;
  for (const std::string& name : recorded_models()) {
    for (const golden::Case& c : golden::read(name).cases) {
      if (c.loss == 0.0) continue;
      ++losses;
      test::Batch batch{c.experts};
      std::vector<std::int32_t> experts;
      std::vector<float> weights;
      for (const golden::Row& row : std::span(c.rows).first(10)) {
        if (row.mark != '=') continue;
        batch.add(row.logits);
        experts.insert(experts.end(), row.experts.begin(), row.experts.end());
        weights.insert(weights.end(), row.weights.begin(), row.weights.end());
      }
      const auto k = static_cast<int>(c.rows[0].experts.size());
      std::vector<std::int32_t> counts(static_cast<std::size_t>(batch.tokens()), k);
      const double loss = fd::load_balancing_loss(
          batch.view(), fd::RoutingView<>{experts.data(), weights.data(), counts.data(), k},
          fd::LoadBalance::transformers);
      CHECK_MESSAGE(loss == doctest::Approx(c.loss).epsilon(1e-6), name);
    }
  }
  CHECK(losses >= 30);
}
