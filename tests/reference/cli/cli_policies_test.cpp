// Every policy that a string can name, through every subcommand that takes one.

#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "cli/batch.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

/// The library's own list of names, from its message.
std::vector<std::string> policy_names() {
  const Outcome unknown =
      run_olmoe({"generate", "--model", nano.string(), "--prompt", "x", "--route", "?"});
  CHECK(unknown.code == 2);
  const std::string before = "accepted are ";
  const std::size_t start = unknown.err.find(before);
  REQUIRE(start != std::string::npos);
  std::istringstream text(unknown.err.substr(start + before.size()));
  std::vector<std::string> names;
  for (std::string name; text >> name;) {
    if (name.back() == ',') name.pop_back();
    names.push_back(name);
  }
  REQUIRE(names.size() > 23);
  return names;
}

/// A policy of this name that a model without a selection bias can run.
std::string policy_of(const std::string& name) {
  const bool biased = name == "deepseek-v3" || name == "glm4-moe";
  return biased ? name + ":selection_bias=none" : name;
}

std::vector<std::string> policies() {
  std::vector<std::string> all;
  for (const std::string& name : policy_names()) all.push_back(policy_of(name));
  return all;
}

/// A little text that the bundled model knows.
std::string text_file(const TempDir& directory) {
  return directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 700)).string();
}

void check_ran(const Outcome& outcome) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
}

}  // namespace

TEST_CASE("generate runs every policy that a string can name") {
  for (const std::string& policy : policies()) {
    CAPTURE(policy);
    const Outcome outcome =
        run_olmoe({"generate", "--model", nano.string(), "--prompt", "x", "--max-new-tokens", "2",
                   "--threads", "1", "--route", policy});
    check_ran(outcome);
    CHECK(outcome.err.find(policy.substr(0, policy.find(':')) + ":") != std::string::npos);
    CHECK(outcome.err.find(" experts per token") != std::string::npos);
  }
}

TEST_CASE("logits and perplexity run every policy that a string can name") {
  const TempDir directory;
  const std::string text = text_file(directory);
  const std::string out = (directory.path() / "out.safetensors").string();
  for (const std::string& policy : policies()) {
    CAPTURE(policy);
    check_ran(run_olmoe({"logits", "--model", nano.string(), "--text", "In the beginning", "--out",
                         out, "--threads", "1", "--route", policy}));
    const Outcome perplexity = run_olmoe({"perplexity", "--model", nano.string(), "--text", text,
                                          "--window", "32", "--threads", "1", "--route", policy});
    check_ran(perplexity);
    CHECK(perplexity.out.starts_with("policy " + policy.substr(0, policy.find(':')) + ":"));
  }
}

TEST_CASE("sweep measures every policy that a string can name") {
  const TempDir directory;
  std::string grid = "bh:null=logistic\n";
  int rows = 2;  // with the baseline
  for (const std::string& policy : policies()) {
    if (policy == "topk") continue;  // it is the baseline
    grid += policy + "\n";
    ++rows;
  }
  const std::string out = (directory.path() / "out").string();
  const Outcome outcome =
      run_olmoe({"sweep", "--model", nano.string(), "--out", out, "--grid",
                 directory.write("grid.txt", grid).string(), "--text", text_file(directory),
                 "--window", "32", "--new-tokens", "1", "--max-tokens", "64", "--threads", "1"});
  check_ran(outcome);
  std::istringstream summary(read(directory.path() / "out/grid_summary.csv"));
  int lines = -1;  // without the head
  for (std::string line; std::getline(summary, line);) ++lines;
  CHECK(lines == rows);
}

TEST_CASE("calibrate solves every policy that a string can name, or says why it cannot") {
  const TempDir directory;
  const std::string text = text_file(directory);
  const std::string out = (directory.path() / "nulls.safetensors").string();
  const auto calibrate = [&](const std::string& policy, const std::string& experts) {
    return run_olmoe({"calibrate", "--model", nano.string(), "--text", text, "--out", out,
                      "--window", "64", "--threads", "1", "--target-experts", experts, "--policy",
                      policy});
  };
  const std::map<std::string, std::string> open{
      {"top_p", "p"}, {"relative", "t"}, {"threshold", "t"}, {"hc", "search"}, {"bj", "search"}};
  // A number that leaves the count as it is: any value will do.
  const std::map<std::string, std::string> fixed{
      {"topk", "topk:k=8,temperature=?"},
      {"deepseek-v2", "deepseek-v2:num_experts_per_tok=8,routed_scaling_factor=?"},
      {"deepseek-v3", "deepseek-v3:selection_bias=none,routed_scaling_factor=?"},
      {"glm4-moe", "glm4-moe:selection_bias=none,routed_scaling_factor=?"}};
  // All their numbers are integers.
  const std::map<std::string, std::string> integers{
      {"olmoe", "8"}, {"mixtral", "2"}, {"qwen3-moe", "8"}, {"gpt-oss", "4"}, {"llama4", "1"}};
  for (const std::string& name : policy_names()) {
    CAPTURE(name);
    if (integers.contains(name)) {
      check_error(
          {"calibrate", "--model", nano.string(), "--text", text, "--out", out, "--target-experts",
           integers.at(name), "--policy", name + ":num_experts_per_tok=?"},
          2, {"policy '" + name + ":num_experts_per_tok=0.5'", "takes an integer"});
      continue;
    }
    if (fixed.contains(name)) {
      check_ran(calibrate(fixed.at(name), "8"));
      const Outcome beyond = calibrate(fixed.at(name), "7");
      CHECK(beyond.code == 1);
      CHECK(beyond.err.find("gives means from 8.0") != std::string::npos);
      continue;
    }
    const std::string key = open.contains(name) ? open.at(name) : "alpha";
    // Not every rule reaches every mean: then the range that there is is said, or that the mean
    // jumps over it.
    const Outcome outcome = calibrate(name + ":" + key + "=?,min_k=1,max_k=16", "4");
    CAPTURE(outcome.err);
    CHECK((outcome.code == 0 || outcome.err.find(" gives means from ") != std::string::npos ||
           outcome.err.find(" did not settle at a mean of ") != std::string::npos));
  }
}

TEST_CASE("verify runs every policy that a string can name") {
  const olmoe::Model model(nano);
  const auto nulls = nano / "nulls.safetensors";
  const olmoe::SafetensorsFile original(nano / "capture.safetensors");
  const olmoe::TokenBatch batch{"ids", {11, 12, 13, 14, 15, 16}, 1, 6};
  for (const std::string& policy : policies()) {
    CAPTURE(policy);
    // What this model computes, as a capture: native, and the policy in the place of BH.
    std::vector<olmoe::BatchResult> results;
    std::vector<std::vector<std::int32_t>> greedy;
    for (const std::string& route : {std::string(olmoe::native_policy), policy}) {
      const auto routers = olmoe::make_routers(model.config(), route, nulls);
      results.push_back(olmoe::run_batch(model, batch, routers));
      olmoe::generate(model, routers, batch.ids, {.max_new_tokens = 3, .stop_at_eos = false},
                      [&, &ids = greedy.emplace_back()](std::int32_t id) { ids.push_back(id); });
    }
    std::vector<olmoe::NamedTensor> tensors;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const std::string prefix = i == 0 ? "" : "bh.";
      const olmoe::BatchResult& result = results[i];
      tensors.push_back(olmoe::NamedTensor::of(prefix + "logits", {1, 6, model.config().vocab_size},
                                               result.logits));
      tensors.push_back(olmoe::NamedTensor::of(prefix + "greedy_ids", {1, 3}, greedy[i]));
      for (std::size_t l = 0; l < result.trace.routing.size(); ++l) {
        const olmoe::ExecutedRouting& routing = result.trace.routing[l];
        const std::string suffix = "." + std::to_string(l);
        tensors.push_back(
            olmoe::NamedTensor::of(prefix + "router_logits" + suffix, {6, 64}, routing.logits));
        tensors.push_back(
            olmoe::NamedTensor::of(prefix + "expert_counts" + suffix, {6}, routing.counts));
        tensors.push_back(olmoe::NamedTensor::of(prefix + "selected_experts" + suffix,
                                                 {6, routing.capacity}, routing.experts));
        tensors.push_back(olmoe::NamedTensor::of(prefix + "routing_weights" + suffix,
                                                 {6, routing.capacity}, routing.weights));
      }
    }
    tensors.push_back(olmoe::NamedTensor::of("input_ids", {1, 6}, batch.ids));
    auto metadata = original.metadata();
    metadata["bh.policy"] = policy;
    const TempDir directory;
    const auto capture = directory.path() / "capture.safetensors";
    olmoe::write_safetensors(capture, tensors, metadata);
    const Outcome outcome =
        run_olmoe({"verify", "--model", nano.string(), "--capture", capture.string()});
    check_ran(outcome);
    CHECK(outcome.out.find("route " + policy) != std::string::npos);
    CHECK(outcome.out.find("FAILED") == std::string::npos);
  }
}
