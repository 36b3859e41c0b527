// The oracle, by its definition in plain loops over a checkpoint's tensors.

#include "forward/oracle_routing.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "reference/captured_models.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Model;

/// What the oracle was told, asked and gave in a layer.
struct Asked {
  int layer;
  std::vector<float> x;                   // (tokens, hidden)
  std::vector<float> logits;              // (tokens, experts)
  std::vector<std::vector<int>> experts;  // (tokens) x (count)
  std::vector<std::vector<float>> weights;
};

/// Listens to an oracle.
class Listener final : public olmoe::RoutingSource {
 public:
  Listener(const Model& model, std::span<const fdroute::AnyRouter> routers)
      : oracle_(model, routers) {}
  int layers() const override { return oracle_.layers(); }
  int capacity(int layer) const override { return oracle_.capacity(layer); }
  int floor(int layer) const override { return oracle_.floor(layer); }
  void see(int layer, std::span<const float> x) override {
    asked.push_back({layer, {x.begin(), x.end()}, {}, {}, {}});
    oracle_.see(layer, x);
  }
  void route(int layer, std::span<const olmoe::Stretch> stretches,
             fdroute::LogitsView<float> logits, fdroute::RoutingView<std::int32_t> out) override {
    oracle_.route(layer, stretches, logits, out);
    Asked& last = asked.back();
    CHECK(last.layer == layer);
    last.logits.assign(logits.data, logits.data + logits.tokens * logits.experts);
    for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
      const auto token = out.from(t);
      last.experts.emplace_back(token.experts, token.experts + token.counts[0]);
      last.weights.emplace_back(token.weights, token.weights + token.counts[0]);
    }
  }
  std::vector<Asked> asked;

 private:
  olmoe::OracleRouting oracle_;
};

/// W x, W (rows, cols).
std::vector<double> times(const std::vector<float>& w, const std::vector<double>& x) {
  std::vector<double> y(w.size() / x.size());
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (std::size_t c = 0; c < x.size(); ++c)
      y[r] += static_cast<double>(w[r * x.size() + c]) * x[c];
  }
  return y;
}

/// Every expert's softmax and the norm of its output down(silu(gate x) * up x).
void contributions(const Model& model, int layer, const std::vector<double>& x,
                   std::vector<double>& softmax, std::vector<double>& norms) {
  const std::string mlp = "model.layers." + std::to_string(layer) + ".mlp.";
  const auto tensor = [&](const std::string& name) {
    return model.checkpoint().at(mlp + name + ".weight").to_float();
  };
  softmax = times(tensor("gate"), x);
  double sum = 0.0;
  for (double& value : softmax) sum += value = std::exp(value);
  for (double& value : softmax) value /= sum;
  norms.clear();
  for (int e = 0; e < model.config().num_experts; ++e) {
    const std::string expert = "experts." + std::to_string(e) + ".";
    std::vector<double> inner = times(tensor(expert + "gate_proj"), x);
    const std::vector<double> up = times(tensor(expert + "up_proj"), x);
    for (std::size_t i = 0; i < inner.size(); ++i) inner[i] *= up[i] / (1.0 + std::exp(-inner[i]));
    double squares = 0.0;
    for (const double value : times(tensor(expert + "down_proj"), inner)) squares += value * value;
    norms.push_back(std::sqrt(squares));
  }
}

}  // namespace

TEST_CASE("the oracle takes the experts of the largest softmax times norm of their output") {
  std::size_t unlike_topk = 0;
  for (const auto& directory : captured_models()) {
    const Model model(directory);
    const olmoe::Config& config = model.config();
    if (config.num_experts > 16 || config.hidden_act != olmoe::Activation::Silu) continue;
    CAPTURE(directory.filename().string());
    const auto routers = olmoe::make_routers(config, "topk:k=3", std::filesystem::path());
    Listener oracle(model, routers);
    std::vector<std::int32_t> ids;
    for (std::int32_t i = 0; i < 20; ++i) ids.push_back(i * i * 7 % config.vocab_size);
    olmoe::KvCache cache;
    const olmoe::Sequence sequence{ids, &cache};
    model.forward({&sequence, 1}, oracle, Model::LogitsOf::last_token);
    REQUIRE(oracle.asked.size() == model.layers().size());
    for (const Asked& asked : oracle.asked) {
      const auto hidden = static_cast<std::size_t>(config.hidden_size);
      REQUIRE(asked.x.size() == ids.size() * hidden);
      for (std::size_t t = 0; t < ids.size(); ++t) {
        const std::vector<double> x(
            asked.x.begin() + static_cast<std::ptrdiff_t>(t * hidden),
            asked.x.begin() + static_cast<std::ptrdiff_t>((t + 1) * hidden));
        std::vector<double> softmax, norms;
        contributions(model, asked.layer, x, softmax, norms);
        const auto of = [&](int e) {
          return softmax[static_cast<std::size_t>(e)] * norms[static_cast<std::size_t>(e)];
        };
        std::vector<int> order(norms.size());
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](int a, int b) { return of(a) > of(b); });
        order.resize(3);
        CHECK(asked.experts[t] == order);
        double sum = 0.0;
        for (const int e : order) sum += softmax[static_cast<std::size_t>(e)];
        for (std::size_t i = 0; i < order.size(); ++i) {
          const double weight = softmax[static_cast<std::size_t>(order[i])];
          CHECK(static_cast<double>(asked.weights[t][i]) ==
                doctest::Approx(config.norm_topk_prob ? weight / sum : weight).epsilon(1e-4));
        }
        std::vector<int> by_logits(norms.size());
        std::iota(by_logits.begin(), by_logits.end(), 0);
        const float* row = asked.logits.data() + t * norms.size();
        std::stable_sort(by_logits.begin(), by_logits.end(),
                         [&](int a, int b) { return row[a] > row[b]; });
        by_logits.resize(3);
        unlike_topk += by_logits != order;
      }
    }
  }
  CHECK(unlike_topk > 20);
}

TEST_CASE("the oracle that takes all experts is the policy that does") {
  const Model model(source_dir / "reference/model");
  const auto routers = olmoe::make_routers(model.config(), "topk:k=64", std::filesystem::path());
  const std::vector<std::int32_t> ids{5, 300, 71, 9};
  const auto logits_of = [&](olmoe::RoutingSource& source) {
    olmoe::KvCache cache;
    const olmoe::Sequence sequence{ids, &cache};
    return model.forward({&sequence, 1}, source, Model::LogitsOf::every_token);
  };
  olmoe::OracleRouting oracle(model, routers);
  olmoe::PolicyRouting policy(routers);
  CHECK(distance(logits_of(oracle), logits_of(policy)) <= 1e-4);
}
