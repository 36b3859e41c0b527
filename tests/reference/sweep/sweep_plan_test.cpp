#include "sweep/sweep_plan.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "reference/error_of.hpp"
#include "reference/sound_sweep.hpp"
#include "reference/temp_dir.hpp"
#include "sweep/grid.hpp"

namespace {

using olmoe::Configuration;

olmoe::Config config_of(int experts, int native_k) {
  olmoe::Config config{};
  config.num_hidden_layers = 2;
  config.num_experts = experts;
  config.num_experts_per_tok = native_k;
  return config;
}

}  // namespace

TEST_CASE("Each configuration is in one shard, the layers' in one together") {
  const olmoe::Config config = config_of(64, 8);
  olmoe::SweepPlan plan = sound_plan(config);
  plan.configurations = olmoe::bh21_grid(config);
  for (const Configuration& c : olmoe::layers_curve(config)) plan.configurations.push_back(c);
  for (const int shards : {1, 2, 5, 64}) {
    CAPTURE(shards);
    std::multiset<std::string> names;
    int with_layers = 0;
    for (int shard = 1; shard <= shards; ++shard) {
      bool layers = false;
      for (const Configuration* c : olmoe::of_shard(plan, shard, shards)) {
        names.insert(c->name);
        layers = layers || c->family == olmoe::layers_family;
      }
      with_layers += layers ? 1 : 0;
    }
    CHECK(with_layers == 1);
    CHECK(names.size() == plan.configurations.size());
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  }
  const auto third = olmoe::of_shard(plan, 3, 10);  // of 21, then eleven of layers in shard 2
  REQUIRE(third.size() == 2);
  CHECK(third[0]->name == plan.configurations[2].name);
  CHECK(third[1]->name == plan.configurations[12].name);
}

TEST_CASE("A plan survives its file, and everything in it is in the fingerprint") {
  const TempDir dir;
  const olmoe::SweepDirectory directory(dir.path());
  olmoe::SweepPlan plan = sound_plan(config_of(64, 8));
  plan.configurations = olmoe::frontier_grid(config_of(64, 8));
  directory.write_plan(plan);
  const olmoe::SweepPlan back = directory.read_plan();
  CHECK(olmoe::difference(plan, back).empty());

  std::set<std::string> fingerprints;
  for (const Configuration& c : plan.configurations) {
    fingerprints.insert(plan.fingerprint(c));
    CHECK(plan.fingerprint(c).size() == 64);
  }
  CHECK(fingerprints.size() == plan.configurations.size());

  const Configuration& first = plan.baseline();
  const auto result = sound_result(config_of(64, 8), first);
  directory.write_result(plan, first, result);
  CHECK(directory.read_result(plan, first) == result);
  olmoe::SweepPlan other = plan;
  other.inputs["window"] = 32;
  CHECK(olmoe::difference(plan, other) == "inputs.window is 64, there it is 32");
  CHECK(error_of([&] {
          directory.read_result(other, first);
        }).find("was measured under another plan") != std::string::npos);

  CHECK(error_of([&] { directory.check_no_strangers(plan); }) == "no error");
  plan.configurations.erase(plan.configurations.begin());
  CHECK(error_of([&] {
          directory.check_no_strangers(plan);
        }).find("is not a configuration of this sweep") != std::string::npos);
  CHECK(error_of([&] {
          olmoe::check_complete(other, "here",
                                [](const std::string& name) { return name != "topk_8_baseline"; });
        }) == "here: 1 of 100 configurations are missing: topk_8_baseline");
}
