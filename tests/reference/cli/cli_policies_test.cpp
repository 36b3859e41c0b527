// Every policy that a string can name, through every subcommand that takes one.

#include <doctest/doctest.h>

#include <algorithm>
#include <fdroute/compile_once.hpp>
#include <filesystem>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cli/batch.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "forward/generation.hpp"
#include "forward/model.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"
#include "routing/canonical_policy.hpp"
#include "routing/routing.hpp"
#include "sanitizers.hpp"

namespace {

/// A policy of this name, as a model without a selection bias can run it.
std::string policy_of(std::string_view name) {
  const olmoe::Config config = olmoe::Config::load(nano);
  try {
    olmoe::make_routers(config, std::string(name), nano / "nulls.safetensors");
  } catch (const std::invalid_argument& error) {
    REQUIRE(std::string_view(error.what()).ends_with("or selection_bias=none"));
    return std::string(name) + ":selection_bias=none";
  }
  return std::string(name);
}

/// Under a sanitizer, every seventh.
std::vector<std::string> policies() {
  std::vector<std::string> all;
  for (const std::string_view name : fdroute::policy_names()) all.push_back(policy_of(name));
  // A rule in the place of a model's own, and parts put together by name.
  all.emplace_back("preset:deepseek-v3,selection_bias=none,rule=bh,alpha=0.1,null=normal,max_k=12");
  all.emplace_back("preset:mixtral,rule=hc,null=logistic");
  all.emplace_back(
      "relative:t=0.3,ranking=group_limited(sigmoid),groups=8,kept=4,selection_bias=none,"
      "ties=highest,weights=scaled(sigmoid),factor=2");
  all.emplace_back("topk:k=3,mass_exponent=0.4");
  std::erase_if(all,
                [i = 0](const std::string&) mutable { return ++i % test::stride_of_cases != 0; });
  return all;
}

/// The name that a policy is reported by.
std::string name_of(std::string policy) {
  constexpr std::string_view preset = "preset:";
  if (policy.starts_with(preset)) policy.erase(0, preset.size());
  return policy.substr(0, policy.find_first_of(":,")) + ":";
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
    CHECK(outcome.err.find(name_of(policy)) != std::string::npos);
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
    CHECK(perplexity.out.starts_with("policy " + name_of(policy)));
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
  const olmoe::Config config = olmoe::Config::load(nano);
  for (const std::string& policy : policies()) {
    CAPTURE(policy);
    olmoe::CanonicalPolicy full(
        olmoe::make_routers(config, policy, nano / "nulls.safetensors").front().policy());
    const auto open = [&](std::initializer_list<const char*> keys) {
      return std::find_if(keys.begin(), keys.end(),
                          [&](const char* key) { return full.arguments.contains(key); });
    };
    const std::initializer_list<const char*> of_counts{"alpha", "p", "t", "c", "search"};
    // A number that leaves the count as it is: any value will do.
    const std::initializer_list<const char*> of_weights{"routed_scaling_factor", "temperature"};
    const std::initializer_list<const char*> integers{"k", "num_experts_per_tok"};
    if (const auto key = open(of_counts); key != of_counts.end()) {
      // Not every rule reaches every mean: then the range that there is is said, or that the mean
      // jumps over it.
      full.arguments[*key] = "?";
      full.arguments["max_k"] = "16";
      const Outcome outcome = calibrate(full.text(), "4");
      CAPTURE(outcome.err);
      CHECK((outcome.code == 0 || outcome.err.find(" gives means from ") != std::string::npos ||
             outcome.err.find(" did not settle at a mean of ") != std::string::npos));
      continue;
    }
    const auto count = open(integers);
    REQUIRE(count != integers.end());
    if (const auto key = open(of_weights); key != of_weights.end()) {
      full.arguments[*count] = "8";
      full.arguments[*key] = "?";
      check_ran(calibrate(full.text(), "8"));
      const Outcome beyond = calibrate(full.text(), "7");
      CHECK(beyond.code == 1);
      CHECK(beyond.err.find("gives means from 8.0") != std::string::npos);
    } else {
      const std::string setting = full.name + ":" + *count + "=";
      check_error({"calibrate", "--model", nano.string(), "--text", text, "--out", out,
                   "--target-experts", full.arguments.at(*count), "--policy", setting + "?"},
                  2, {"policy '" + setting + "0.5'", "takes an integer"});
    }
  }
}

TEST_CASE("calibrate --fit-mass prints the losses and a policy that perplexity runs") {
  const TempDir directory;
  const std::string text = text_file(directory);
  const std::string out = (directory.path() / "nulls.safetensors").string();
  const auto calibrate = [&](std::vector<std::string> options) {
    std::vector<std::string> line{"calibrate", "--model",    nano.string(), "--text", text,
                                  "--out",     out,          "--window",    "64",     "--threads",
                                  "1",         "--fit-mass", "--policy"};
    line.insert(line.end(), options.begin(), options.end());
    return run_olmoe(line);
  };
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"topk:k=2"},
        std::vector<std::string>{"threshold:t=?,max_k=12", "--target-experts", "3"}}) {
    const Outcome outcome = calibrate(options);
    check_ran(outcome);
    CHECK(outcome.out.find("mass_exponent  nll (nats/token)") != std::string::npos);
    CHECK(outcome.out.find("  least") != std::string::npos);
    const std::size_t begin = outcome.out.find("--route '") + 9;
    const std::string policy = outcome.out.substr(begin, outcome.out.find('\'', begin) - begin);
    CAPTURE(policy);
    CHECK(policy.find(",mass_exponent=0.") != std::string::npos);
    CHECK(policy.ends_with(",mass_k=8"));
    check_ran(run_olmoe({"perplexity", "--model", nano.string(), "--text", text, "--window", "64",
                         "--nulls", out, "--route", policy}));
  }
  const auto error = [&](std::vector<std::string> options, const std::string& words) {
    const Outcome outcome = calibrate(options);
    CHECK(outcome.code == 2);
    CHECK(outcome.err.find(words) != std::string::npos);
  };
  error({"bh:alpha=?"}, "--fit-mass needs a --policy without '?', or --target-experts");
  error({"topk:k=2,mass_exponent=0.5"}, "has a mass_exponent, so there is none to fit");
  error({"topk:k=2,renormalize=true"}, "renormalize undoes mass_exponent");
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
