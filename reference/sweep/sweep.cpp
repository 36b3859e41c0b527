#include "sweep/sweep.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fdroute/any_router.hpp>
#include <fdroute/detail/number/to_text.hpp>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/atomic_file.hpp"
#include "formats/directory_lock.hpp"
#include "formats/error.hpp"
#include "forward/generation.hpp"
#include "measure/discoveries.hpp"
#include "measure/evaluation.hpp"
#include "measure/fit_mass.hpp"
#include "measure/layer_counts.hpp"
#include "measure/null_fit.hpp"
#include "measure/permuted_control.hpp"
#include "measure/recorded_logits.hpp"
#include "measure/solve_policy.hpp"
#include "routing/canonical_policy.hpp"
#include "routing/routing.hpp"
#include "sweep/claims.hpp"
#include "sweep/dry_run.hpp"
#include "sweep/evaluation_json.hpp"
#include "sweep/grid.hpp"
#include "sweep/model_digest.hpp"
#include "sweep/results_table.hpp"
#include "sweep/sweep_inputs.hpp"
#include "sweep/sweep_plan.hpp"
#include "sweep/sweep_results.hpp"
#include "terminal/progress.hpp"
#include "terminal/terminal.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;
using Routers = std::vector<fdroute::AnyRouter>;

namespace {

/// A configuration's routers, or why there can be none.
struct Solved {
  Routers routers;
  std::string unreachable;
};

/// A sweep whose inputs have been read and checked.
class Sweep {
 public:
  explicit Sweep(const SweepOptions& options);

  /// Measures what this shard has to, and is not there yet.
  void run();

 private:
  std::vector<const Configuration*> pending() const;
  void check_model_is_planned(const std::vector<std::string>& written) const;
  const std::vector<fdroute::TabulatedNull>& nulls(const std::string& key);
  std::vector<fdroute::TabulatedNull> fitted_nulls(const FittedNullKey& key);
  const RouterLogits& calibration_logits();
  double mean_on_development(const std::string& name);
  std::string layers_policy(double mean_experts);
  std::string with_fitted_mass(const Target& target, std::span<const fdroute::TabulatedNull> nulls);
  Solved solve(const Configuration& configuration);
  Json measure(const Configuration& configuration, const Routers& routers, Progress& progress,
               Json& timing);
  Json dealt(const Routers& routers, const RowCounts& counts, const EvaluationOptions& options);
  Json generations(const Routers& routers, Json& timing) const;
  /// What there is to run for a configuration, in runs over the texts.
  double weight_of(const Configuration& configuration) const;

  const SweepOptions& options_;
  SweepDirectory directory_;
  std::optional<DirectoryLock> lock_;
  SweepInputs inputs_;
  std::map<std::string, std::vector<fdroute::TabulatedNull>> nulls_;  // by key
  std::optional<RouterLogits> calibration_logits_;                    // (layers)
  std::vector<std::vector<double>> layer_losses_;                     // (layers) x (k); or empty
  Routers baseline_routers_;                                          // (layers)
  EvaluationRecord baseline_;
};

Sweep::Sweep(const SweepOptions& options)
    : options_(options),
      directory_(options.out),
      inputs_(options),
      nulls_{{given_nulls, inputs_.nulls}},
      baseline_routers_(
          make_routers(inputs_.model.config(), native_policy, std::filesystem::path())) {
  make_directories(options_.out);
  lock_.emplace(options_.out);
  directory_.check_continues(inputs_.plan, options_.resume);
  directory_.write_plan(inputs_.plan);
}

std::vector<const Configuration*> Sweep::pending() const {
  auto pending = of_shard(inputs_.plan, options_.shard, options_.shards);
  std::erase_if(pending, [&](const auto* c) { return directory_.has_result(c->name); });
  return pending;
}

const std::vector<fdroute::TabulatedNull>& Sweep::nulls(const std::string& key) {
  const auto [found, fresh] = nulls_.try_emplace(key);
  if (fresh && !key.empty()) found->second = fitted_nulls(FittedNullKey::parse(key));
  return found->second;
}

const RouterLogits& Sweep::calibration_logits() {
  if (!calibration_logits_) {
    const RecordingOptions recording{.window = inputs_.evaluation.window};
    calibration_logits_ =
        record_logits(inputs_.model, baseline_routers_, inputs_.calibration_texts, recording).fit;
  }
  return *calibration_logits_;
}

std::vector<fdroute::TabulatedNull> Sweep::fitted_nulls(const FittedNullKey& key) {
  const FittedNulls fitted =
      fit_nulls(calibration_logits(), {.score = key.score, .trim = key.trim},
                std::filesystem::weakly_canonical(options_.model).filename().string());
  make_directories(directory_.nulls());
  save_nulls(directory_.nulls() / (key.text() + ".safetensors"), fitted, inputs_.model);
  return fitted.nulls();
}

/// The mean experts of a configuration with a policy of its own, on the development text.
double Sweep::mean_on_development(const std::string& name) {
  const auto& all = inputs_.plan.configurations;
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& c) { return c.name == name; });
  const Routers routers = make_routers(inputs_.model.config(), found->policy, nulls(found->nulls),
                                       inputs_.selection_bias);
  double sum = 0.0;
  double rows = 0.0;
  for (const LayerLogits& layer : record_logits(inputs_.model, routers, inputs_.calibration_texts,
                                                {.window = inputs_.evaluation.window})
                                      .fit) {
    for (const std::int32_t count : layer.counts) sum += count;
    rows += static_cast<double>(layer.tokens());
  }
  return sum / rows;
}

std::string Sweep::layers_policy(double mean_experts) {
  if (layer_losses_.empty())
    layer_losses_ = layer_losses(inputs_.model, inputs_.calibration_texts, inputs_.evaluation);
  const auto layers = static_cast<double>(layer_losses_.size());
  return topk_policy(
      cheapest_counts(layer_losses_, static_cast<int>(std::lround(mean_experts * layers))));
}

/// The scale of the nulls' exponential tails, beyond the largest log-softmax score: their mean.
double tail_scale(std::span<const fdroute::TabulatedNull> nulls) {
  double sum = 0.0;
  for (const fdroute::TabulatedNull& null : nulls)
    sum += 1.0 / (std::log(null(0.0)) - std::log(null(1.0)));
  return sum / static_cast<double>(nulls.size());
}

/// A policy with its mass_exponent fitted on the development text; solved for the target if it has
/// an open parameter.
std::string Sweep::with_fitted_mass(const Target& target,
                                    std::span<const fdroute::TabulatedNull> nulls) {
  const Model& model = inputs_.model;
  const EvaluationOptions options{.window = inputs_.evaluation.window,
                                  .stride = inputs_.evaluation.window};
  const auto& texts = inputs_.calibration_texts;
  if (target.policy.find('?') != std::string::npos)
    return solve_with_mass(model, target, nulls, texts, options, inputs_.selection_bias)
        .solved.policy;
  const MassFit fit = fit_mass(model, target.policy, nulls, texts, options, inputs_.selection_bias);
  return with_mass(target.policy, fit.exponent, model.config().num_experts_per_tok);
}

Solved Sweep::solve(const Configuration& configuration) {
  const auto& tables = nulls(configuration.nulls);
  std::string policy = configuration.policy;
  if (configuration.family == layers_family) policy = layers_policy(*configuration.target);
  if (!configuration.is_open() || configuration.family == layers_family)
    return {make_routers(inputs_.model.config(), policy, tables, inputs_.selection_bias), {}};
  if (const std::size_t place = policy.find(tail_sigma); place != std::string::npos)
    policy.replace(place, std::string_view(tail_sigma).size(),
                   "sigma=" + fdroute::detail::to_text(tail_scale(tables)));
  const Target target{.policy = policy,
                      .mean_experts = configuration.target
                                          ? *configuration.target
                                          : mean_on_development(configuration.like),
                      .per_layer = configuration.per_layer};
  try {
    const std::string solved =
        configuration.fit_mass
            ? with_fitted_mass(target, tables)
            : solve_policy(inputs_.model, target, tables, inputs_.calibration_texts,
                           {.window = inputs_.evaluation.window}, inputs_.selection_bias)
                  .policy;
    return {make_routers(inputs_.model.config(), solved, tables, inputs_.selection_bias), {}};
  } catch (const Unreachable& error) {
    // A family may not reach every mean; that is a result, not the end of the sweep.
    return {{}, error.what()};
  }
}

/// The routing weights of all layers, if they are softmax ones and the same, and experts rank by
/// logit: otherwise counts cannot be dealt.
std::optional<fdroute::SoftmaxWeights> common_weights(const Routers& routers) {
  const fdroute::SoftmaxWeights* const weights = routers.front().softmax_weights();
  if (weights == nullptr) return std::nullopt;
  for (const fdroute::AnyRouter& router : routers) {
    const fdroute::SoftmaxWeights* const other = router.softmax_weights();
    if (other == nullptr || *other != *weights) return std::nullopt;
    // Counts are dealt to the largest logits, lower index first. A preset, which has no bounds or
    // names a rule, may rank by what its string does not say.
    const auto arguments = CanonicalPolicy(router.policy()).arguments;
    if (!arguments.contains("min_k") || arguments.contains("rule") ||
        arguments.contains("ranking") || arguments.contains("ties"))
      return std::nullopt;
  }
  return *weights;
}

Json Sweep::measure(const Configuration& configuration, const Routers& routers, Progress& progress,
                    Json& timing) {
  EvaluationOptions options = inputs_.evaluation;
  double before = weight_of(configuration) - runs_of(configuration, options_).texts;
  options.on_progress = [&](const EvaluationProgress& now) {
    progress.advance(before + static_cast<double>(now.done) / static_cast<double>(now.all));
    if (now.done == now.all) before += 1.0;
  };
  EvaluationRecord record;
  const bool is_row = configuration.role == Configuration::Role::Row;
  const Evaluation evaluation = evaluate(inputs_.model, routers, inputs_.texts, options,
                                         is_row ? &baseline_ : nullptr, &record);
  record.hidden_states = {};

  Json result;
  result["policy"] = policy_of(routers);
  result["evaluation"] = to_json(evaluation);
  result["development"] = nullptr;
  result["dealt"] = Json::array();
  result["permuted"] = nullptr;
  result["discoveries"] = nullptr;
  result["generation"] = nullptr;
  if (is_row || (configuration.policy.starts_with("topk:") && !configuration.is_open()))
    result["development"] = losses_json(
        evaluate(inputs_.model, routers, inputs_.calibration_texts, inputs_.evaluation));
  if (is_row && evaluation.total.routing.counts.std > 0.0) {
    if (!repeats_16(configuration)) result["dealt"] = dealt(routers, record.counts, options);
    constexpr std::uint64_t seed = 1;
    const PermutedControl control = permuted_control(routers, calibration_logits(), seed);
    result["permuted"] = {{"recorded", to_json(control.recorded)},
                          {"permuted", to_json(control.permuted)}};
    if (const auto& tables = nulls(configuration.nulls); !tables.empty())
      result["discoveries"] =
          to_json(check_discoveries(routers, tables, calibration_logits(), claim_level));
  }
  if (is_row && options_.new_tokens > 0) result["generation"] = generations(routers, timing);
  return result;
}

/// The losses with a policy's counts dealt to random tokens, several times.
Json Sweep::dealt(const Routers& routers, const RowCounts& counts,
                  const EvaluationOptions& options) {
  Json losses = Json::array();
  const auto weights = common_weights(routers);
  if (!weights) return losses;
  for (int seed = 1; seed <= options_.shuffles; ++seed)
    losses.push_back(losses_json(
        evaluate_counts(inputs_.model, deal_counts(counts, static_cast<std::uint64_t>(seed)),
                        *weights, inputs_.texts, options)));
  return losses;
}

Json Sweep::generations(const Routers& routers, Json& timing) const {
  const GenerationOptions options{.max_new_tokens = options_.new_tokens};
  struct Sum {
    double experts = 0.0;
    double tokens = 0.0;
    void add(double mean, double n) {
      experts += mean * n;
      tokens += n;
    }
    double mean() const { return experts / tokens; }
  };
  Sum all;
  std::map<std::string, Sum> classes;
  Json texts = Json::array();
  timing = Json::array();
  for (const TokenizedPrompt& p : inputs_.prompts) {
    std::vector<std::int32_t> ids;
    // Baseline and policy by turns, so that a slower or faster minute of the machine meets both.
    const auto baseline =
        generate(inputs_.model, baseline_routers_, p.ids, options, [](std::int32_t) {});
    const auto policy = generate(inputs_.model, routers, p.ids, options,
                                 [&](std::int32_t id) { ids.push_back(id); });
    StreamDecoder decoder(inputs_.tokenizer);
    std::string text;
    for (const std::int32_t id : ids) text += decoder.push(id);
    text += decoder.finish();

    const auto run = static_cast<double>(policy.prompt_tokens + policy.decode_steps);
    all.add(policy.experts.mean(), run);
    classes[p.prompt.group].add(policy.experts.mean(), run);
    texts.push_back({{"class", p.prompt.group},
                     {"prompt", p.prompt.text},
                     {"text", text},
                     {"prompt_tokens", policy.prompt_tokens},
                     {"new_tokens", policy.new_tokens},
                     {"mean_experts", policy.experts.mean()}});
    const auto seconds = [](const GenerationStatistics& s) {
      return Json{{"prefill_tokens", s.prompt_tokens},
                  {"prefill_seconds", s.prefill_seconds},
                  {"decode_steps", s.decode_steps},
                  {"decode_seconds", s.decode_seconds}};
    };
    timing.push_back({{"policy", seconds(policy)}, {"baseline", seconds(baseline)}});
  }
  Json by_class = Json::object();
  for (const auto& [name, sum] : classes) by_class[name] = sum.mean();
  return {{"mean_experts", all.mean()}, {"mean_experts_by_class", by_class}, {"prompts", texts}};
}

/// A result in a few words.
std::string outcome(const Json& result) {
  if (result.contains("unreachable")) return result["unreachable"].get<std::string>();
  const Json& total = result["evaluation"]["total"];
  std::array<char, 80> text;
  std::snprintf(text.data(), text.size(), "perplexity %.4f at %.3f experts",
                total["perplexity"]["value"].get<double>(),
                total["routing"]["experts"]["mean"].get<double>());
  return text.data();
}

double Sweep::weight_of(const Configuration& configuration) const {
  const ConfigurationRuns runs = runs_of(configuration, options_);
  return runs.texts + runs.calibration * static_cast<double>(tokens_of(inputs_.calibration_texts)) /
                          static_cast<double>(tokens_of(inputs_.texts));
}

/// A file can change and keep its size and time. Results of this run are then of no model that the
/// plan names: they are removed.
void Sweep::check_model_is_planned(const std::vector<std::string>& written) const {
  const auto planned = inputs_.plan.inputs["model"]["sha256"].get<std::string>();
  if (model_sha256(options_.model, inputs_.model.checkpoint()) == planned) return;
  for (const std::string& name : written) {
    std::filesystem::remove(directory_.config_file(name));
    std::filesystem::remove(directory_.timing_file(name));
  }
  throw Error(options_.model.string() + ": was changed during the sweep; the " +
              std::to_string(written.size()) + " results of this run are removed");
}

void Sweep::run() {
  const auto work = pending();
  std::vector<std::string> written;
  double total = 0.0;
  for (const Configuration* c : work) total += weight_of(*c);
  const std::size_t all = inputs_.plan.configurations.size();
  if (!Progress::silenced())
    std::fprintf(stderr, "%zu configurations, %zu of them to be measured by this run\n", all,
                 work.size());
  if (!work.empty()) {
    Progress progress({.what = "sweep",
                       .unit = "configurations",
                       .total = static_cast<double>(work.size()),
                       .weight = total});
    progress.start("baseline");
    evaluate(inputs_.model, baseline_routers_, inputs_.texts, inputs_.evaluation, nullptr,
             &baseline_);
    for (const Configuration* c : work) {
      progress.start(c->name);
      Json timing;
      const Solved solved = solve(*c);
      const Json result = solved.unreachable.empty() ? measure(*c, solved.routers, progress, timing)
                                                     : Json{{"unreachable", solved.unreachable}};
      inputs_.model.checkpoint().check_unchanged();
      // The result last: its presence says that the configuration is finished.
      if (!timing.is_null()) write_atomically(directory_.timing_file(c->name), json_text(timing));
      directory_.write_result(inputs_.plan, *c, result);
      written.push_back(c->name);
      progress.finish(outcome(result), weight_of(*c));
    }
    check_model_is_planned(written);
  }
  const bool finished =
      std::all_of(inputs_.plan.configurations.begin(), inputs_.plan.configurations.end(),
                  [&](const Configuration& c) { return directory_.has_result(c.name); });
  if (finished) {
    const std::filesystem::path report = write_results(directory_);
    if (is_terminal(stdout))
      std::fputs(
          results_table(read_results(directory_),
                        static_cast<std::size_t>(terminal_columns(stdout)), wants_color(stdout))
              .c_str(),
          stdout);
    std::printf("%s\n", report.c_str());
  } else {
    std::printf(
        "shard %d of %d is done; unite the shards with: olmoe merge --out DIR %s "
        "...\n",
        options_.shard, options_.shards, options_.out.c_str());
  }
}

}  // namespace

void check_sweep_options(const SweepOptions& options) {
  if (options.shards < 1 || options.shard < 1 || options.shard > options.shards)
    throw std::invalid_argument("--shard I/N needs 1 <= I <= N");
  if (!(options.margin > 1.0) || options.shuffles < 0)
    throw std::invalid_argument("--margin must be above 1, --shuffles at least 0");
}

void run_sweep(const SweepOptions& options) {
  check_sweep_options(options);
  Sweep(options).run();
}

}  // namespace olmoe
