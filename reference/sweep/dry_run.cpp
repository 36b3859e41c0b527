#include "sweep/dry_run.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

#include "forward/generation.hpp"
#include "measure/at.hpp"
#include "measure/evaluation.hpp"
#include "measure/layer_counts.hpp"
#include "routing/routing.hpp"
#include "sweep/sweep_inputs.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

/// Evaluated tokens per second: windows of the texts, as many at once as there are threads.
double evaluation_speed(const SweepInputs& inputs, double seconds) {
  const auto routers = make_routers(inputs.model.config(), native_policy, std::filesystem::path());
  const std::vector<std::int32_t>& ids =
      std::ranges::max_element(inputs.texts, {}, [](const Text& t) { return t.ids.size(); })->ids;
  EvaluationOptions options = inputs.evaluation;
  const auto available = static_cast<std::int64_t>(ids.size()) - 1;
  options.window = std::min(options.window, available);
  options.stride = std::min(options.stride, options.window);
  const std::int64_t round =
      std::min(available, options.window * std::int64_t{omp_get_max_threads()});
  std::int64_t tokens = 0;
  std::int64_t first = 0;
  const double begin = now();
  do {
    if (first + round > available) first = 0;
    const auto piece = std::span(ids).subspan(at(first), at(round) + 1);
    const Text text{.name = "probe", .ids = {piece.begin(), piece.end()}, .sha256 = ""};
    evaluate(inputs.model, routers, std::span(&text, 1), options);
    tokens += round;
    first += round;
  } while (now() - begin < seconds);
  return static_cast<double>(tokens) / (now() - begin);
}

/// New tokens per second, with the prompts' own tokens in their time.
double generation_speed(const SweepInputs& inputs, int new_tokens, double seconds) {
  const auto routers = make_routers(inputs.model.config(), native_policy, std::filesystem::path());
  std::int64_t tokens = 0;
  const double begin = now();
  do {
    for (const TokenizedPrompt& prompt : inputs.prompts) {
      tokens += generate(inputs.model, routers, prompt.ids, {.max_new_tokens = new_tokens},
                         [](std::int32_t) {})
                    .new_tokens;
      if (now() - begin >= seconds) break;
    }
  } while (now() - begin < seconds);
  return static_cast<double>(tokens) / (now() - begin);
}

/// Hidden states of the baseline and of a configuration, counts of both, and the router logits of
/// the calibration texts, twice while solving.
double record_bytes(const SweepInputs& inputs) {
  const Config& c = inputs.model.config();
  const auto texts = static_cast<double>(tokens_of(inputs.texts));
  const auto calibration = static_cast<double>(tokens_of(inputs.calibration_texts));
  return 2.0 * texts * 4.0 * (c.hidden_size + c.num_hidden_layers) +
         2.0 * calibration * 4.0 * c.num_hidden_layers * (c.num_experts + 1.0);
}

double weight_bytes(const Model& model) {
  double bytes = 0.0;
  for (const std::string& name : model.checkpoint().names())
    bytes += static_cast<double>(model.checkpoint().at(name).bytes.size());
  return bytes;
}

}  // namespace

std::int64_t tokens_of(std::span<const Text> texts) {
  std::int64_t tokens = 0;
  for (const Text& text : texts) tokens += static_cast<std::int64_t>(text.ids.size());
  return tokens;
}

ConfigurationRuns runs_of(const Configuration& configuration, const SweepOptions& options) {
  const bool is_row = configuration.role == Configuration::Role::Row;
  const bool is_fixed =
      configuration.policy == native_policy || configuration.policy.starts_with("topk:");
  ConfigurationRuns runs{.texts = 1.0};
  if (is_row && !is_fixed && !repeats_16(configuration)) runs.texts += options.shuffles;
  if (is_row || (is_fixed && !configuration.is_open())) runs.calibration += 1.0;
  const bool is_solved =
      configuration.family != layers_family && configuration.policy.find('?') != std::string::npos;
  const double solving = is_solved ? solving_runs : 0.0;
  runs.calibration += solving;
  if (is_solved && !configuration.target) runs.calibration += 1.0;
  if (configuration.fit_mass) runs.calibration += fitting_runs + solving;
  if (is_row && options.new_tokens > 0) runs.prompts = 2.0;
  return runs;
}

SweepEstimate estimate_sweep(const SweepOptions& options, double probe_seconds) {
  check_sweep_options(options);
  const SweepInputs inputs(options);
  const SweepDirectory directory(options.out);
  directory.check_continues(inputs.plan, options.resume);
  SweepEstimate estimate;
  estimate.configurations = inputs.plan.configurations.size();
  ConfigurationRuns runs{.texts = 1.0};  // the baseline's record
  bool chooses_counts = false;
  for (const Configuration* configuration : of_shard(inputs.plan, options.shard, options.shards)) {
    if (options.resume && directory.has_result(configuration->name)) continue;
    ++estimate.pending;
    const ConfigurationRuns more = runs_of(*configuration, options);
    runs.texts += more.texts;
    runs.calibration += more.calibration;
    runs.prompts += more.prompts;
    chooses_counts = chooses_counts || configuration->family == layers_family;
  }
  if (chooses_counts) runs.calibration += layer_loss_runs(inputs.model.config());
  const auto times = [](double n, std::int64_t tokens) {
    return static_cast<std::int64_t>(std::llround(n * static_cast<double>(tokens)));
  };
  estimate.tokens = times(runs.texts, tokens_of(inputs.texts)) +
                    times(runs.calibration, tokens_of(inputs.calibration_texts));
  estimate.new_tokens =
      times(runs.prompts, static_cast<std::int64_t>(inputs.prompts.size()) * options.new_tokens);

  const double begin = now();
  const bool generates = estimate.new_tokens > 0;
  estimate.tokens_per_second = evaluation_speed(inputs, probe_seconds * (generates ? 0.8 : 1.0));
  estimate.seconds = static_cast<double>(estimate.tokens) / estimate.tokens_per_second;
  if (generates) {
    estimate.new_tokens_per_second =
        generation_speed(inputs, options.new_tokens, probe_seconds * 0.2);
    estimate.seconds += static_cast<double>(estimate.new_tokens) / estimate.new_tokens_per_second;
  }
  estimate.probe_seconds = now() - begin;
  estimate.weight_bytes = weight_bytes(inputs.model);
  estimate.record_bytes = record_bytes(inputs);
  return estimate;
}

std::string to_text(const SweepEstimate& estimate) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    std::array<char, 200> row;
    std::snprintf(row.data(), row.size(), "%-16s %s\n", name, value.c_str());
    text += row.data();
  };
  const auto speed = [](double per_second) {
    return std::to_string(std::llround(per_second)) + "/s";
  };
  line("configurations", std::to_string(estimate.configurations) + ", of which this run measures " +
                             std::to_string(estimate.pending));
  line("tokens", std::to_string(estimate.tokens) + " through the model, by the probe " +
                     speed(estimate.tokens_per_second));
  if (estimate.new_tokens > 0)
    line("new tokens", std::to_string(estimate.new_tokens) + " generated, by the probe " +
                           speed(estimate.new_tokens_per_second));
  line("time", "about " + duration_text(estimate.seconds) + ", by a probe of " +
                   duration_text(estimate.probe_seconds));
  line("memory", "about " + bytes_text(estimate.bytes()) + ": weights " +
                     bytes_text(estimate.weight_bytes) + ", records " +
                     bytes_text(estimate.record_bytes));
  return text;
}

}  // namespace olmoe
