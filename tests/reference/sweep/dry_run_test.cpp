#include "sweep/dry_run.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "sweep/grid.hpp"
#include "sweep/sweep_inputs.hpp"
#include "sweep/sweep_plan.hpp"

namespace {

using olmoe::Configuration;

const std::filesystem::path bundled = FDROUTE_SOURCE_DIR "/reference/model";

olmoe::ConfigurationRuns runs(const Configuration& configuration, int shuffles, int new_tokens) {
  olmoe::SweepOptions options;
  options.shuffles = shuffles;
  options.new_tokens = new_tokens;
  return olmoe::runs_of(configuration, options);
}

}  // namespace

TEST_CASE("a configuration runs the texts, their shuffles, the calibration texts and the prompts") {
  Configuration fixed;
  fixed.policy = "topk:k=3";
  CHECK(runs(fixed, 10, 5).texts == 1.0);
  CHECK(runs(fixed, 10, 5).calibration == 1.0);
  CHECK(runs(fixed, 10, 5).prompts == 2.0);
  CHECK(runs(fixed, 10, 0).prompts == 0.0);
  Configuration adaptive = fixed;
  adaptive.policy = "top_p:p=0.5";
  CHECK(runs(adaptive, 10, 5).texts == 11.0);
  Configuration open = fixed;
  open.policy = "top_p:p=?";
  open.target = 4.0;
  CHECK(runs(open, 3, 5).texts == 4.0);
  CHECK(runs(open, 3, 5).calibration == 1.0 + olmoe::solving_runs);
  Configuration curve = open;
  curve.role = Configuration::Role::Curve;
  CHECK(runs(curve, 3, 5).texts == 1.0);
  CHECK(runs(curve, 3, 5).calibration == olmoe::solving_runs);
  CHECK(runs(curve, 3, 5).prompts == 0.0);
  Configuration rival = curve;
  rival.target.reset();
  rival.like = "bh";
  CHECK(runs(rival, 3, 5).calibration == olmoe::solving_runs + 1.0);
  Configuration mass = curve;
  mass.policy = "topk:k=3";
  mass.fit_mass = true;
  CHECK(runs(mass, 3, 5).calibration == olmoe::fitting_runs);
  Configuration by_layer = curve;
  by_layer.family = olmoe::layers_family;
  CHECK(runs(by_layer, 3, 5).calibration == 0.0);
}

TEST_CASE("a dry run counts what a sweep does, times the model and writes nothing") {
  const TempDir directory;
  std::string words;
  for (int i = 0; i < 60; ++i) words += "And the king said. ";
  olmoe::SweepOptions options;
  options.model = bundled;
  options.out = directory.path() / "out";
  options.grid = directory.write("grid.txt", "top_p:p=0.5\ntopk:k=3\n").string();
  options.texts = {directory.write("text.txt", words).string()};
  options.calibration_texts = {directory.write("fit.txt", words + words).string()};
  options.window = 32;
  options.new_tokens = 2;
  options.shuffles = 3;
  const auto estimate = olmoe::estimate_sweep(options, 0.05);
  CHECK_FALSE(std::filesystem::exists(options.out));
  CHECK(estimate.pending == estimate.configurations);
  CHECK(estimate.pending >= 3);
  CHECK(estimate.tokens_per_second > 0.0);
  CHECK(estimate.new_tokens_per_second > 0.0);
  CHECK(estimate.probe_seconds >= 0.05);
  CHECK(estimate.seconds ==
        doctest::Approx(static_cast<double>(estimate.tokens) / estimate.tokens_per_second +
                        static_cast<double>(estimate.new_tokens) / estimate.new_tokens_per_second));
  CHECK(estimate.weight_bytes == doctest::Approx(15.3e6).epsilon(0.01));

  // A shard has a part of the work, and no generation no new tokens.
  options.shards = 2;
  options.new_tokens = 0;
  const auto shard = olmoe::estimate_sweep(options, 0.05);
  CHECK(shard.configurations <= estimate.configurations);
  CHECK(shard.pending == olmoe::of_shard(olmoe::SweepInputs(options).plan, 1, 2).size());
  CHECK(shard.tokens < estimate.tokens);
  CHECK(shard.new_tokens == 0);

  const std::string text = olmoe::to_text(estimate);
  for (const char* name : {"configurations ", "\ntokens ", "\nnew tokens ", "\ntime ", "\nmemory "})
    CHECK(text.find(name) != std::string::npos);
  options.margin = 1.0;
  CHECK_THROWS_AS(olmoe::estimate_sweep(options, 0.05), std::invalid_argument);

  // What is in the way of a sweep is in that of its estimate.
  options.margin = 1.005;
  const olmoe::SweepDirectory held(options.out);
  held.write_plan(olmoe::SweepInputs(options).plan);
  CHECK(error_of([&] { olmoe::estimate_sweep(options, 0.05); }).find("holds a sweep") !=
        std::string::npos);
  options.resume = true;
  CHECK(olmoe::estimate_sweep(options, 0.05).pending == shard.pending);
  options.shuffles = 4;
  CHECK(error_of([&] {
          olmoe::estimate_sweep(options, 0.05);
        }).find("here, inputs.shuffles is 4") != std::string::npos);
}
