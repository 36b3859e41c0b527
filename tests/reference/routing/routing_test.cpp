#include "routing/routing.hpp"

#include <doctest/doctest.h>

#include <fdroute/compile_once.hpp>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/safetensors_writer.hpp"
#include "forward/model.hpp"
#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("per-layer values in a policy string") {
  const olmoe::Model model(tiny + "plain");
  const auto of_layers = routers(model, "bh:alpha=0.1/0.2,max_k=4,null=normal");
  REQUIRE(of_layers.size() == 2);
  CHECK(of_layers[0].policy() == routers(model, "bh:alpha=0.1,max_k=4,null=normal")[0].policy());
  CHECK(of_layers[1].policy() == routers(model, "bh:alpha=0.2,max_k=4,null=normal")[0].policy());
  const std::string all = olmoe::policy_of(of_layers);
  CHECK(all.starts_with("bh:alpha=0.1/0.2,min_k=1,max_k=4,"));
  CHECK(olmoe::policy_of(routers(model, all)) == all);
  CHECK(olmoe::policy_of(routers(model, "topk:k=2/2")) ==
        olmoe::policy_of(routers(model, "topk:k=2")));
  CHECK(routers(model, "topk:k=2,min_k=1/2")[1].bounds().min_k == 2);
  CHECK(routers(model, "topk:k=2/-")[1].capacity() == 8);

  // Layers of different nulls have different settings.
  const auto mixed = routers(model, "bh:alpha=0.1/0.2,null=normal/logistic,sd=2/-,scale=-/3");
  CHECK(mixed[0].policy().find(",sd=2") != std::string::npos);
  CHECK(mixed[1].policy().find(",scale=3") != std::string::npos);
  const std::string recorded = olmoe::policy_of(mixed);
  CHECK(recorded.find(",null=normal/logistic,") != std::string::npos);
  CHECK(recorded.find(",sd=2/-,") != std::string::npos);
  CHECK(recorded.find(",location=-/0,scale=-/3") != std::string::npos);
  CHECK(routers(model, recorded)[0].policy() == mixed[0].policy());
  CHECK(routers(model, recorded)[1].policy() == mixed[1].policy());

  const auto message = [&](const std::string& policy) -> std::string {
    try {
      routers(model, policy);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message("topk:k=1/2/3") == "policy 'topk:k=1/2/3': 'k' lists 3 values for 2 layers");
  CHECK(message("topk:k=1/x") == "policy 'topk:k=x', position 8: k takes an integer, got 'x'");
  CHECK(message("topk:k=1/").starts_with("policy 'topk:k=', position 6: key=value expected"));
}

TEST_CASE("a rule for a preset, with the selection bias of each layer from the nulls file") {
  const olmoe::Model model(tiny + "plain");
  const olmoe::Config& config = model.config();
  REQUIRE(config.num_hidden_layers == 2);
  REQUIRE(config.num_experts == 8);
  const TempDir directory;
  const auto path = directory.path() / "nulls.safetensors";
  const std::vector<std::vector<float>> biases{{0.1F, -0.2F, 0.3F, 0.0F, 0.5F, -0.5F, 0.2F, 0.1F},
                                               {0.0F, 0.2F, -0.3F, 0.4F, 0.1F, 0.5F, 0.0F, -0.1F}};
  const std::vector<double> score{-1.0, 1.0};
  const std::vector<double> log_sf{-0.5, -2.0};
  const auto write = [&](std::size_t with_bias, std::size_t experts) {
    std::vector<std::vector<float>> of_layers = biases;
    std::vector<olmoe::NamedTensor> tensors;
    for (std::size_t l = 0; l < 2; ++l) {
      const std::string prefix = "layer." + std::to_string(l) + ".";
      tensors.push_back(olmoe::NamedTensor::of(prefix + "score", {2}, score));
      tensors.push_back(olmoe::NamedTensor::of(prefix + "log_sf", {2}, log_sf));
      if (l >= with_bias) continue;
      of_layers[l].resize(experts);
      tensors.push_back(olmoe::NamedTensor::of(prefix + "selection_bias",
                                               {static_cast<std::int64_t>(experts)}, of_layers[l]));
    }
    olmoe::write_safetensors(path, tensors, {{"score", "zscore"}});
  };
  const std::string policy = "preset:deepseek-v3,n_group=2,topk_group=1,rule=bh,alpha=0.3/0.2";
  write(2, 8);
  const auto of_layers = olmoe::make_routers(config, policy, path);
  const std::vector<float> logits{2.0F, 0.5F, 0.4F, 0.3F, -1.0F, 1.0F, 0.9F, 0.8F};
  for (std::size_t l = 0; l < 2; ++l) {
    CAPTURE(l);
    const auto null =
        fdroute::TabulatedNull::from_log_survival({-1.0, 1.0}, {-0.5, -2.0}, {.score = "zscore"});
    const std::string of_layer = "preset:deepseek-v3,n_group=2,topk_group=1,rule=bh,alpha=" +
                                 std::string(l == 0 ? "0.3" : "0.2");
    const fdroute::AnyRouter expected = fdroute::parse_router(
        of_layer, 8, fdroute::ParseOptions<>{.null = &null, .selection_bias = biases[l]});
    CHECK(of_layers[l].policy() == expected.policy());
    std::vector<float> weights(8);
    std::vector<float> expected_weights(8);
    of_layers[l].route(fdroute::LogitsView{logits.data(), 1, 8},
                       fdroute::DenseView{weights.data(), 8});
    expected.route(fdroute::LogitsView{logits.data(), 1, 8},
                   fdroute::DenseView{expected_weights.data(), 8});
    CHECK(weights == expected_weights);
  }
  // What is recorded reads back.
  const std::string recorded = olmoe::policy_of(of_layers);
  CHECK(recorded.starts_with("deepseek-v3:n_group=2,"));
  CHECK(olmoe::policy_of(olmoe::make_routers(config, recorded, path)) == recorded);

  write(1, 8);
  CHECK(error_of([&] { olmoe::make_routers(config, policy, path); }) ==
        path.string() + ": holds a selection_bias for 1 of 2 layers");
  write(2, 7);
  CHECK(error_of([&] {
          olmoe::make_routers(config, policy, path);
        }).ends_with("has 7 values, the model has 8 experts"));
  write(0, 8);
  CHECK_THROWS_WITH_AS(olmoe::make_routers(config, policy, path),
                       "policy 'preset:deepseek-v3,n_group=2,topk_group=1,rule=bh,alpha=0.3' needs "
                       "a selection bias: give one value per expert, or selection_bias=none",
                       std::invalid_argument);
}
