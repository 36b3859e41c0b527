#include "sweep/sweep.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fdroute/version.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/sha256.hpp"
#include "forward/generation.hpp"
#include "measure/calibration.hpp"
#include "measure/evaluation.hpp"
#include "measure/null_control.hpp"
#include "routing/nulls.hpp"
#include "routing/routing.hpp"
#include "sweep/grid.hpp"
#include "sweep/progress.hpp"
#include "sweep/prompts.hpp"
#include "sweep/sweep_files.hpp"
#include "sweep/sweep_plan.hpp"
#include "sweep/sweep_results.hpp"
#include "tokenizer/tokenizer.hpp"
#include "tokenizer/unicode.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;
using Routers = std::vector<fdroute::AnyRouter>;

namespace {

std::string sha256_text(const std::string& text) {
  return sha256(std::as_bytes(std::span(text)));
}

/// Throws Error unless the sweep's files can hold `text` as a label.
void check_label(const std::string& text, const std::string& what) {
  require_utf8(text, what);
  if (!is_label(text))
    throw Error(what + " " + quote(text) + " is not 1 to 255 bytes without control characters");
}

/// Digest of everything that makes a model: config, tokenizer and weights.
std::string model_sha256(const std::filesystem::path& directory, const Checkpoint& checkpoint) {
  std::vector<std::filesystem::path> files = checkpoint.files();
  files.push_back(directory / "config.json");
  files.push_back(directory / "tokenizer.json");
  std::string digests;
  for (const auto& file : files) digests += sha256_file(file) + "\n";
  return sha256_text(digests);
}

Json texts_json(std::span<const Text> texts) {
  Json json = Json::array();
  for (const Text& text : texts) {
    const auto bytes = std::as_bytes(std::span(text.ids));
    json.push_back(
        {{"name", text.name}, {"tokens", text.ids.size()}, {"ids_sha256", sha256(bytes)}});
  }
  return json;
}

void cut(std::vector<Text>& texts, std::size_t longest) {
  for (Text& text : texts) {
    if (text.ids.size() > longest) text.ids.resize(longest);
  }
}

/// Moves the first quarter of every text to a text of its own.
std::vector<Text> split_off_calibration(std::vector<Text>& texts) {
  std::vector<Text> first = texts;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t quarter = texts[i].ids.size() / 4;
    first[i].ids.resize(quarter);
    texts[i].ids.erase(texts[i].ids.begin(),
                       texts[i].ids.begin() + static_cast<std::ptrdiff_t>(quarter));
  }
  return first;
}

/// A configuration's routers, or why there can be none.
struct Solved {
  Routers routers;
  std::string unreachable;
};

struct TokenizedPrompt {
  Prompt prompt;
  std::vector<std::int32_t> ids;
};

/// A sweep whose inputs have been read and checked.
class Sweep {
 public:
  explicit Sweep(const SweepOptions& options);

  /// Measures what this shard has to, and is not there yet.
  void run();

 private:
  void load_texts_and_prompts();
  void load_given_nulls();
  void make_plan();
  void open_directory();

  std::vector<const Configuration*> pending() const;
  void check_model_is_planned(const std::vector<std::string>& written) const;
  const std::vector<fdroute::TabulatedNull>& nulls(const std::string& key);
  std::vector<fdroute::TabulatedNull> fitted_nulls(const FittedNullKey& key);
  Solved solve(const Configuration& configuration);
  Json measure(const Configuration& configuration, const Routers& routers, Progress& progress,
               Json& timing);
  Json generations(const Routers& routers, Json& timing) const;

  bool needs_calibration() const { return options_.grid == "frontier"; }

  const SweepOptions& options_;
  SweepDirectory directory_;
  Model model_;
  Tokenizer tokenizer_;
  std::vector<Text> texts_;
  std::vector<Text> calibration_texts_;
  std::vector<TokenizedPrompt> prompts_;
  EvaluationOptions evaluation_;
  SweepPlan plan_;
  std::map<std::string, std::vector<fdroute::TabulatedNull>> nulls_;  // by key
  std::optional<RouterLogits> calibration_logits_;
  Routers baseline_routers_;
  EvaluationRecord baseline_;
};

Sweep::Sweep(const SweepOptions& options)
    : options_(options),
      directory_(options.out),
      model_(options.model, options.compute),
      tokenizer_(Tokenizer::load(options.model / "tokenizer.json")),
      baseline_routers_(make_routers(model_.config(), native_policy, std::filesystem::path())) {
  load_texts_and_prompts();
  load_given_nulls();
  make_plan();
  open_directory();
}

void Sweep::load_texts_and_prompts() {
  const auto texts =
      options_.texts.empty() ? std::vector{(options_.model / "text").string()} : options_.texts;
  texts_ = load_texts(texts, tokenizer_);
  for (const Text& text : texts_) check_label(text.name, "the name of text");
  if (!options_.calibration_texts.empty()) {
    if (!needs_calibration())
      throw std::invalid_argument("--calibration-text goes with --grid frontier only");
    calibration_texts_ = load_texts(options_.calibration_texts, tokenizer_);
    for (const Text& text : calibration_texts_) check_label(text.name, "the name of text");
  } else if (needs_calibration()) {
    calibration_texts_ = split_off_calibration(texts_);
    if (options_.max_tokens > 0) {
      constexpr std::int64_t least = 64;
      cut(calibration_texts_, static_cast<std::size_t>(std::max(options_.max_tokens / 4, least)));
    }
  }
  // The last token is predicted only, so one more than are predicted from.
  if (options_.max_tokens > 0) cut(texts_, static_cast<std::size_t>(options_.max_tokens) + 1);
  constexpr std::int64_t longest_window = 512;
  evaluation_.window = options_.window > 0
                           ? options_.window
                           : std::min(default_window(model_.config()), longest_window);
  evaluation_.stride = options_.stride > 0 ? options_.stride : evaluation_.window;
  check_texts(model_.config(), texts_, evaluation_);

  const auto prompts =
      options_.prompts.empty() ? default_prompts() : read_prompts(options_.prompts);
  std::set<std::string> classes;
  for (const Prompt& prompt : prompts) {
    check_label(prompt.group, "the class of a prompt,");
    classes.insert(prompt.group);
    prompts_.push_back({prompt, tokenizer_.encode(prompt.text)});
    const std::size_t length =
        prompts_.back().ids.size() + static_cast<std::size_t>(options_.new_tokens);
    if (length > static_cast<std::size_t>(model_.config().max_position_embeddings))
      throw Error("prompt " + std::to_string(prompts_.size()) + " with " +
                  std::to_string(options_.new_tokens) +
                  " new tokens exceeds max_position_embeddings, " +
                  std::to_string(model_.config().max_position_embeddings));
  }
  constexpr std::size_t most_classes = 256;  // as many as an object in a sweep's file may name
  if (classes.size() > most_classes)
    throw Error(options_.prompts.string() + ": has prompts of more than " +
                std::to_string(most_classes) + " classes");
}

void Sweep::load_given_nulls() {
  std::filesystem::path path = options_.nulls;
  const auto beside = options_.model / "nulls.safetensors";
  if (path.empty() && std::filesystem::exists(beside)) path = beside;
  if (needs_calibration()) {
    if (!options_.nulls.empty())
      throw std::invalid_argument("--grid frontier fits its own nulls; --nulls cannot be given");
    return;
  }
  if (path.empty()) {
    nulls_[given_nulls] = {};
    return;
  }
  check_nulls_model(path, model_);
  nulls_[given_nulls] = load_nulls(path, model_.config().num_hidden_layers);
  const fdroute::NullProvenance& provenance = nulls_[given_nulls].front().provenance();
  plan_.inputs["nulls"] = {{"sha256", sha256_file(path)},
                           {"score", provenance.score},
                           {"trim", provenance.trim},
                           {"tokens", provenance.tokens}};
}

void Sweep::make_plan() {
  const Config& config = model_.config();
  const Json given = plan_.inputs.contains("nulls") ? plan_.inputs["nulls"] : Json(nullptr);
  Json& inputs = plan_.inputs = Json::object();
  inputs["fdroute"] = std::to_string(FDROUTE_VERSION_MAJOR) + "." +
                      std::to_string(FDROUTE_VERSION_MINOR) + "." +
                      std::to_string(FDROUTE_VERSION_PATCH);
  inputs["model"] = {{"sha256", model_sha256(options_.model, model_.checkpoint())},
                     {"layers", config.num_hidden_layers},
                     {"experts", config.num_experts},
                     {"native_k", config.num_experts_per_tok}};
  inputs["compute"] = std::string(name(options_.compute));
  inputs["texts"] = texts_json(texts_);
  inputs["window"] = evaluation_.window;
  inputs["stride"] = evaluation_.stride;
  inputs["calibration_texts"] =
      needs_calibration() ? texts_json(calibration_texts_) : Json(nullptr);
  inputs["calibration_is_first_quarter"] =
      needs_calibration() && options_.calibration_texts.empty();
  inputs["nulls"] = given;
  inputs["new_tokens"] = options_.new_tokens;
  inputs["prompts"] = Json::array();
  for (const TokenizedPrompt& p : prompts_)
    inputs["prompts"].push_back({{"class", p.prompt.group}, {"text", p.prompt.text}});

  if (needs_calibration()) {
    plan_.stem = "frontier";
    plan_.configurations = frontier_grid(config);
    return;
  }
  const auto in_full = [&](const std::string& policy) {
    return policy_of(make_routers(config, policy, nulls_.at(given_nulls)));
  };
  if (options_.grid == "bh21") {
    plan_.stem = "bh_routing";
    plan_.configurations = bh21_grid(config);
    for (const Configuration& c : plan_.configurations) in_full(c.policy);
  } else {
    plan_.stem = "grid";
    plan_.configurations = file_grid(options_.grid, config, in_full);
  }
  for (Configuration& fixed : top_k_curve(config, Configuration::Role::Curve)) {
    fixed.name += "_curve";
    plan_.configurations.push_back(std::move(fixed));
  }
  check_names_unique(plan_.configurations);
}

void Sweep::open_directory() {
  if (directory_.has_plan()) {
    const std::string where = options_.out.string();
    if (!options_.resume)
      throw Error(where + ": holds a sweep; go on with it by --resume, or give another --out");
    const std::string change = difference(plan_, directory_.read_plan());
    if (!change.empty())
      throw Error(where + ": holds another sweep: here, " + change + "; give another --out");
    directory_.check_no_strangers(plan_);
    for (const Configuration& c : plan_.configurations) {
      if (directory_.has_result(c.name)) directory_.read_result(plan_, c);
    }
  }
  directory_.write_plan(plan_);
}

std::vector<const Configuration*> Sweep::pending() const {
  std::vector<const Configuration*> pending;
  const auto step = static_cast<std::size_t>(options_.shards);
  for (auto i = static_cast<std::size_t>(options_.shard - 1); i < plan_.configurations.size();
       i += step) {
    const Configuration& c = plan_.configurations[i];
    if (!directory_.has_result(c.name)) pending.push_back(&c);
  }
  return pending;
}

const std::vector<fdroute::TabulatedNull>& Sweep::nulls(const std::string& key) {
  const auto [found, fresh] = nulls_.try_emplace(key);
  if (fresh && !key.empty()) found->second = fitted_nulls(FittedNullKey::parse(key));
  return found->second;
}

std::vector<fdroute::TabulatedNull> Sweep::fitted_nulls(const FittedNullKey& key) {
  if (!calibration_logits_) {
    const RecordingOptions recording{.window = evaluation_.window};
    calibration_logits_ =
        record_logits(model_, baseline_routers_, calibration_texts_, recording).fit;
  }
  const FittedNulls fitted =
      fit_nulls(*calibration_logits_, {.score = key.score, .trim = key.trim},
                std::filesystem::weakly_canonical(options_.model).filename().string());
  make_directories(directory_.nulls());
  save_nulls(directory_.nulls() / (key.text() + ".safetensors"), fitted, model_);
  return fitted.nulls();
}

Solved Sweep::solve(const Configuration& configuration) {
  const auto& tables = nulls(configuration.nulls);
  if (!configuration.target)
    return {make_routers(model_.config(), configuration.policy, tables), {}};
  const Target target{.policy = configuration.policy,
                      .mean_experts = *configuration.target,
                      .per_layer = configuration.per_layer};
  try {
    const SolvedPolicy solved =
        solve_policy(model_, target, tables, calibration_texts_, {.window = evaluation_.window});
    return {make_routers(model_.config(), solved.policy, tables), {}};
  } catch (const Unreachable& error) {
    // A family may not reach every mean; that is a result, not the end of the sweep.
    return {{}, error.what()};
  }
}

/// The routing weights of all layers, if they are softmax ones and the same: with others, counts
/// cannot be dealt.
std::optional<fdroute::SoftmaxWeights> common_weights(const Routers& routers) {
  const fdroute::SoftmaxWeights* const weights = routers.front().softmax_weights();
  if (weights == nullptr) return std::nullopt;
  for (const fdroute::AnyRouter& router : routers) {
    const fdroute::SoftmaxWeights* const other = router.softmax_weights();
    if (other == nullptr || other->temperature != weights->temperature ||
        other->renormalize != weights->renormalize)
      return std::nullopt;
  }
  return *weights;
}

Json Sweep::measure(const Configuration& configuration, const Routers& routers, Progress& progress,
                    Json& timing) {
  constexpr std::uint64_t dealing_seed = 1;
  EvaluationOptions options = evaluation_;
  options.on_progress = [&](std::int64_t done, std::int64_t all) {
    progress.advance(static_cast<double>(done) / static_cast<double>(all));
  };
  EvaluationRecord record;
  const bool is_row = configuration.role == Configuration::Role::Row;
  const Evaluation evaluation =
      evaluate(model_, routers, texts_, options, is_row ? &baseline_ : nullptr, &record);
  record.hidden_states = {};

  Json result;
  result["policy"] = policy_of(routers);
  result["evaluation"] = to_json(evaluation);
  result["dealt"] = nullptr;
  result["null_control"] = nullptr;
  result["generation"] = nullptr;
  const auto weights = common_weights(routers);
  if (evaluation.total.routing.counts.std > 0.0 && weights) {
    result["dealt"] = to_json(evaluate_counts(
        model_, deal_counts(std::move(record.counts), dealing_seed), *weights, texts_, options));
  }
  if (const auto noise = null_control(routers))
    result["null_control"] = {
        {"mean", noise->mean}, {"std", noise->sd}, {"rejecting", noise->rejecting}};
  if (is_row && options_.new_tokens > 0) result["generation"] = generations(routers, timing);
  return result;
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
  for (const TokenizedPrompt& p : prompts_) {
    std::vector<std::int32_t> ids;
    // Baseline and policy by turns, so that a slower or faster minute of the machine meets both.
    const auto baseline = generate(model_, baseline_routers_, p.ids, options, [](std::int32_t) {});
    const auto policy =
        generate(model_, routers, p.ids, options, [&](std::int32_t id) { ids.push_back(id); });
    StreamDecoder decoder(tokenizer_);
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

double weight_of(const Configuration& configuration) {
  // An adaptive configuration is evaluated twice, its counts being dealt to random tokens too; one
  // with an open parameter is solved before.
  if (configuration.target) return 4.0;
  return configuration.nulls.empty() ? 1.0 : 2.0;
}

/// A file can change and keep its size and time. Results of this run are then of no model that the
/// plan names: they are removed.
void Sweep::check_model_is_planned(const std::vector<std::string>& written) const {
  const auto planned = plan_.inputs["model"]["sha256"].get<std::string>();
  if (model_sha256(options_.model, model_.checkpoint()) == planned) return;
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
  const std::size_t all = plan_.configurations.size();
  std::fprintf(stderr, "%zu configurations, of which %zu are left to this run\n", all, work.size());
  if (!work.empty()) {
    Progress progress(work.size(), total);
    progress.start("baseline");
    evaluate(model_, baseline_routers_, texts_, evaluation_, nullptr, &baseline_);
    for (const Configuration* c : work) {
      progress.start(c->name);
      Json timing;
      const Solved solved = solve(*c);
      const Json result = solved.unreachable.empty() ? measure(*c, solved.routers, progress, timing)
                                                     : Json{{"unreachable", solved.unreachable}};
      model_.checkpoint().check_unchanged();
      // The result last: its presence says that the configuration is finished.
      if (!timing.is_null()) write_atomically(directory_.timing_file(c->name), json_text(timing));
      directory_.write_result(plan_, *c, result);
      written.push_back(c->name);
      progress.finish(outcome(result), weight_of(*c));
    }
    check_model_is_planned(written);
  }
  const bool finished =
      std::all_of(plan_.configurations.begin(), plan_.configurations.end(),
                  [&](const Configuration& c) { return directory_.has_result(c.name); });
  if (finished) {
    std::printf("%s\n", write_results(directory_).c_str());
  } else {
    std::printf(
        "shard %d of %d is done; bring the shards together by: olmoe merge --out DIR %s "
        "...\n",
        options_.shard, options_.shards, options_.out.c_str());
  }
}

}  // namespace

void run_sweep(const SweepOptions& options) {
  if (options.shards < 1 || options.shard < 1 || options.shard > options.shards)
    throw std::invalid_argument("--shard I/N needs 1 <= I <= N");
  Sweep(options).run();
}

void merge_sweeps(const std::filesystem::path& out,
                  const std::vector<std::filesystem::path>& shards,
                  const std::filesystem::path& model) {
  const SweepDirectory merged(out);
  if (merged.has_plan()) throw Error(out.string() + ": holds a sweep; give another --out");
  const SweepPlan plan = SweepDirectory(shards.front()).read_plan();
  const auto planned = plan.inputs["model"]["sha256"].get<std::string>();
  if (!model.empty() && model_sha256(model, Checkpoint(model)) != planned)
    throw Error(shards.front().string() + ": was measured on another model than " + model.string());
  std::map<std::string, Json> results;
  std::map<std::string, std::filesystem::path> origins;
  for (const std::filesystem::path& path : shards) {
    const SweepDirectory shard(path);
    const std::string change = difference(plan, shard.read_plan());
    if (!change.empty())
      throw Error(shards.front().string() + " and " + path.string() +
                  " are not shards of one sweep: in the former, " + change);
    shard.check_no_strangers(plan);
    for (const Configuration& c : plan.configurations) {
      if (!shard.has_result(c.name)) continue;
      Json result = shard.read_result(plan, c);
      const auto [found, fresh] = results.try_emplace(c.name, result);
      if (!fresh && found->second != result)
        throw Error(origins.at(c.name).string() + " and " + path.string() +
                    " hold different results of " + c.name);
      if (fresh) origins.emplace(c.name, path);
    }
  }
  check_complete(plan, "the shards",
                 [&](const std::string& name) { return results.contains(name); });
  merged.write_plan(plan);
  for (const Configuration& c : plan.configurations) {
    merged.write_result(plan, c, results.at(c.name));
    const SweepDirectory origin(origins.at(c.name));
    if (origin.has_timing(c.name))
      write_atomically(merged.timing_file(c.name), json_text(origin.read_timing(c.name)));
  }
  std::printf("%s\n", write_results(merged).c_str());
}

}  // namespace olmoe
