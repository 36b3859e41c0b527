#include "sweep/sweep_inputs.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/score/log_softmax.hpp>
#include <filesystem>
#include <iterator>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/limits.hpp"
#include "formats/sha256.hpp"
#include "measure/windows.hpp"
#include "routing/nulls.hpp"
#include "routing/nulls_model.hpp"
#include "routing/routing.hpp"
#include "sweep/grid.hpp"
#include "sweep/model_digest.hpp"
#include "sweep/provenance.hpp"
#include "sweep/sweep_files.hpp"
#include "tokenizer/unicode.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

bool fits_nulls(const SweepOptions& options) {
  return options.grid == "frontier" || is_loads_grid(options.grid);
}

/// Throws Error unless the sweep's files can hold `text` as a label.
void check_label(const std::string& text, const std::string& what) {
  require_utf8(text, what);
  if (!is_label(text))
    throw Error(what + " " + quote(text) + " is not 1 to 255 bytes without control characters");
}

Json texts_json(std::span<const Text> texts) {
  Json json = Json::array();
  for (const Text& text : texts) {
    const auto bytes = std::as_bytes(std::span(text.ids));
    Json documents = Json::array();
    for (const Document& document : text.all_documents())
      documents.push_back({{"name", document.name}, {"tokens", document.tokens}});
    json.push_back({{"name", text.name},
                    {"tokens", text.ids.size()},
                    {"ids_sha256", sha256(bytes)},
                    {"documents", documents}});
  }
  return json;
}

/// The nulls file that was given, or else the model directory's; empty if there is neither.
std::filesystem::path nulls_file(const SweepOptions& options) {
  const std::filesystem::path beside = options.model / "nulls.safetensors";
  return options.nulls.empty() && std::filesystem::exists(beside) ? beside : options.nulls;
}

Json nulls_json(const std::filesystem::path& path, const fdroute::TabulatedNull& null) {
  const fdroute::NullProvenance& provenance = null.provenance();
  return {{"sha256", sha256_file(path)},
          {"score", provenance.score},
          {"trim", provenance.trim},
          {"tokens", provenance.tokens}};
}

/// Throws Error unless a sweep's files can name the texts and their documents.
void check_names(std::span<const Text> texts) {
  for (const Text& text : texts) {
    check_label(text.name, "the name of text");
    for (const Document& document : text.documents)
      check_label(document.name, text.name + ": the name of document");
  }
}

void cut(std::vector<Text>& texts, std::int64_t tokens) {
  for (Text& text : texts) text = first_tokens(std::move(text), tokens);
}

}  // namespace

SweepInputs::SweepInputs(const SweepOptions& options)
    : model(options.model, options.compute),
      tokenizer(Tokenizer::load(options.model / "tokenizer.json")) {
  load_texts(options);
  load_prompts(options);
  load_given_nulls(options);
  record_inputs(options);
  choose_configurations(options);
}

void SweepInputs::load_texts(const SweepOptions& options) {
  const auto own = options.model / "text";
  if (options.texts.empty() && !std::filesystem::is_directory(own))
    throw Error(own.string() + ": there is no such directory; name texts to evaluate, --text FILE");
  const auto paths = options.texts.empty() ? std::vector{own.string()} : options.texts;
  texts = olmoe::load_texts(paths, tokenizer);
  check_names(texts);
  const auto beside = options.model / "development";
  auto development = options.calibration_texts;
  if (development.empty() && options.texts.empty() && std::filesystem::is_directory(beside))
    development = {beside.string()};
  if (!development.empty()) {
    calibration_texts = olmoe::load_texts(development, tokenizer);
    check_names(calibration_texts);
  } else {
    for (Text& text : texts) calibration_texts.push_back(split_off_quarter(text));
    calibration_is_first_quarter = true;
    constexpr std::int64_t least = 64;
    if (options.max_tokens > 0) cut(calibration_texts, std::max(options.max_tokens / 4, least));
  }
  for (Text& text : calibration_texts) text.documents = text.all_documents();
  // The last token is predicted only, so one more than are predicted from.
  if (options.max_tokens > 0) cut(texts, options.max_tokens + 1);
  constexpr std::int64_t longest_window = 512;
  evaluation.window = options.window > 0 ? options.window
                                         : std::min(default_window(model.config()), longest_window);
  evaluation.stride = options.stride > 0 ? options.stride : evaluation.window;
  if (options.max_tokens > 0 && options.max_tokens < evaluation.window)
    throw std::invalid_argument("--max-tokens " + std::to_string(options.max_tokens) +
                                " is less than a window of " + std::to_string(evaluation.window) +
                                " tokens; give a smaller --window, too");
  check_texts(model.config(), texts, evaluation);
  check_texts(model.config(), calibration_texts, evaluation);
}

void SweepInputs::load_prompts(const SweepOptions& options) {
  const auto given = options.prompts.empty() ? default_prompts() : read_prompts(options.prompts);
  std::set<std::string> classes;
  for (const Prompt& prompt : given) {
    check_label(prompt.group, "the class of a prompt,");
    classes.insert(prompt.group);
    prompts.push_back({prompt, tokenizer.encode(prompt.text)});
    const std::size_t length =
        prompts.back().ids.size() + static_cast<std::size_t>(options.new_tokens);
    if (length > static_cast<std::size_t>(model.config().max_position_embeddings))
      throw Error("prompt " + std::to_string(prompts.size()) + " with " +
                  std::to_string(options.new_tokens) +
                  " new tokens exceeds max_position_embeddings, " +
                  std::to_string(model.config().max_position_embeddings));
  }
  constexpr std::size_t most_classes = Limits::sweep_members;  // named by one object of a file
  if (classes.size() > most_classes)
    throw Error(options.prompts.string() + ": has prompts of more than " +
                std::to_string(most_classes) + " classes");
}

void SweepInputs::load_given_nulls(const SweepOptions& options) {
  if (fits_nulls(options)) {
    if (!options.nulls.empty())
      throw std::invalid_argument("--grid " + options.grid +
                                  " fits its own nulls; --nulls cannot be given");
    return;
  }
  const std::filesystem::path path = nulls_file(options);
  if (path.empty()) return;
  check_nulls_model(path, model);
  const Config& config = model.config();
  nulls = load_nulls(path, config.num_hidden_layers);
  selection_bias = load_selection_bias(path, config.num_hidden_layers, config.num_experts);
}

void SweepInputs::record_inputs(const SweepOptions& options) {
  const Config& config = model.config();
  Json& inputs = plan.inputs = Json::object();
  inputs["fdroute"] = fdroute_version();
  inputs["model"] = {{"sha256", model_sha256(options.model, model.checkpoint())},
                     {"layers", config.num_hidden_layers},
                     {"experts", config.num_experts},
                     {"native_k", config.num_experts_per_tok}};
  inputs["compute"] = std::string(name(options.compute));
  inputs["texts"] = texts_json(texts);
  inputs["window"] = evaluation.window;
  inputs["stride"] = evaluation.stride;
  inputs["calibration_texts"] = texts_json(calibration_texts);
  inputs["calibration_is_first_quarter"] = calibration_is_first_quarter;
  inputs["nulls"] = nulls.empty() ? Json(nullptr) : nulls_json(nulls_file(options), nulls.front());
  inputs["margin"] = options.margin;
  inputs["shuffles"] = options.shuffles;
  inputs["new_tokens"] = options.new_tokens;
  inputs["prompts"] = Json::array();
  for (const TokenizedPrompt& p : prompts)
    inputs["prompts"].push_back({{"class", p.prompt.group}, {"text", p.prompt.text}});
}

void SweepInputs::choose_configurations(const SweepOptions& options) {
  const Config& config = model.config();
  const auto in_full = [&](const std::string& policy) {
    return policy_of(make_routers(config, policy, nulls, selection_bias));
  };
  const auto add = [&](std::vector<Configuration> more) {
    std::move(more.begin(), more.end(), std::back_inserter(plan.configurations));
  };
  if (is_loads_grid(options.grid)) return;  // a grid of other configurations
  if (fits_nulls(options)) {
    plan.stem = "frontier";
    plan.configurations = frontier_grid(config);
  } else {
    if (options.grid == "bh21") {
      plan.stem = "bh_routing";
      plan.configurations = bh21_grid(config);
      for (const Configuration& c : plan.configurations) in_full(c.policy);
    } else {
      plan.stem = "grid";
      plan.configurations = file_grid(options.grid, config, in_full);
    }
    auto curve = top_k_curve(config, Configuration::Role::Curve);
    for (Configuration& fixed : curve) fixed.name += "_curve";
    add(std::move(curve));
    const bool with_slope =
        !nulls.empty() && nulls.front().provenance().score == fdroute::LogSoftmax::name;
    add(rivals(plan.configurations, with_slope, in_full));
  }
  add(layers_curve(config));
  check_names_unique(plan.configurations);
}

}  // namespace olmoe
