#include "sweep/sweep_files.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <set>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/limits.hpp"
#include "formats/regular_file.hpp"
#include "sweep/sweep_plan.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t any = std::numeric_limits<std::size_t>::max();

/// The extents that the arrays of a result have.
struct Extents {
  std::vector<std::size_t> documents;              // (texts)
  std::vector<std::size_t> development_documents;  // (calibration texts)
  std::size_t layers;
  std::size_t experts;
};

Extents extents_of(const Field& inputs) {
  const auto extent = [](const Field& field, std::int64_t largest) {
    return static_cast<std::size_t>(field.integer(1, largest));
  };
  const auto documents = [](const Field& texts) {
    std::vector<std::size_t> sizes;
    for (const Field& text : texts.elements(1, any))
      sizes.push_back(text["documents"].elements(1, any).size());
    return sizes;
  };
  return {documents(inputs["texts"]), documents(inputs["calibration_texts"]),
          extent(inputs["model"]["layers"], Limits::sweep_layers),
          extent(inputs["model"]["experts"], Limits::experts)};
}

void check_texts_of(const Field& texts) {
  for (const Field& text : texts.elements(1, any)) {
    text["name"].label();
    text["tokens"].integer(0, most);
    text["ids_sha256"].name();
    for (const Field& document : text["documents"].elements(1, any)) {
      document["name"].label();
      document["tokens"].integer(0, most);
    }
  }
}

void check_estimate(const Field& estimate, double lowest) {
  estimate["value"].number(lowest, HUGE_VAL);
  if (!estimate["error"].is_null()) estimate["error"].number(0.0, HUGE_VAL);
}

void check_counts(const Field& counts, const Extents& extents) {
  const auto experts = static_cast<std::int64_t>(extents.experts);
  counts["mean"].number(0.0, static_cast<double>(experts));
  counts["std"].number(0.0, static_cast<double>(experts));
  counts["min"].integer(0, experts);
  counts["max"].integer(0, experts);
  counts["floor_rate"].number(0.0, 1.0);
  counts["ceiling_rate"].number(0.0, 1.0);
  const Field histogram = counts["histogram"];
  std::int64_t left = counts["rows"].integer(1, most);
  for (const Field& rows : histogram.elements(extents.experts + 1, extents.experts + 1))
    left = std::max(left - rows.integer(0, most), std::int64_t{-1});
  if (left != 0) histogram.fail("as many rows as 'rows' says");
}

void check_routing(const Field& routing, const Extents& extents) {
  check_counts(routing["experts"], extents);
  for (const char* key : {"load_cv", "load_gini", "weight_mass", "expert_bytes_per_token"})
    routing[key].number(0.0, HUGE_VAL);
  for (const Field& layer : routing["layers"].elements(extents.layers, extents.layers)) {
    check_counts(layer["experts"], extents);
    for (const Field& share : layer["load"]["share"].elements(extents.experts, extents.experts))
      share.number(0.0, 1.0);
    layer["load"]["cv"].number(0.0, HUGE_VAL);
    layer["load"]["gini"].number(0.0, 1.0);
    layer["weight_mass"].number(0.0, HUGE_VAL);
  }
}

/// Checks the evaluation of one text, or of all texts together.
void check_text_evaluation(const Field& text, bool against_baseline) {
  text["name"].label();
  text["predicted_tokens"].integer(1, most);
  check_estimate(text["nll"], 0.0);
  check_estimate(text["perplexity"], 0.0);
  const Field baseline = text["baseline"];
  if (!against_baseline && baseline.is_null()) return;
  baseline["argmax_agreement"].number(0.0, 1.0);
  baseline["kl"].number();
  for (const char* key : {"nll_difference", "nll_difference_by_windows"})
    check_estimate(baseline[key], -HUGE_VAL);
}

/// A pair [tokens, sum of losses].
void check_sum(const Field& sum) {
  const auto pair = sum.elements(2, 2);
  pair[0].integer(1, most);
  pair[1].number();
}

void check_evaluation(const Field& evaluation, const Extents& extents, bool against_baseline) {
  check_text_evaluation(evaluation["total"], against_baseline);
  check_routing(evaluation["total"]["routing"], extents);
  evaluation["macro_nll"].number(0.0, HUGE_VAL);
  evaluation["macro_perplexity"].number(0.0, HUGE_VAL);
  const std::size_t texts = extents.documents.size();
  const auto domains = evaluation["domains"].elements(texts, texts);
  for (std::size_t t = 0; t < texts; ++t) {
    const Field& domain = domains[t];
    check_text_evaluation(domain, against_baseline);
    check_counts(domain["experts"], extents);
    const auto windows = domain["windows"].elements(1, any);
    for (const Field& window : windows) check_sum(window);
    std::int64_t left = static_cast<std::int64_t>(windows.size());
    for (const Field& n : domain["documents"].elements(extents.documents[t], extents.documents[t]))
      left -= n.integer(1, left);
    if (left != 0) domain["documents"].fail("a number of windows for each, all together,");
  }
}

/// Checks the losses of all documents, as losses_json() writes them.
void check_losses(const Field& losses, const std::vector<std::size_t>& documents,
                  const Extents& extents) {
  losses["mean_experts"].number(0.0, static_cast<double>(extents.experts));
  const auto texts = losses["documents"].elements(documents.size(), documents.size());
  for (std::size_t t = 0; t < texts.size(); ++t) {
    for (const Field& document : texts[t].elements(documents[t], documents[t])) check_sum(document);
  }
}

void check_moments(const Field& moments, const Extents& extents) {
  moments["mean"].number(0.0, static_cast<double>(extents.experts));
  moments["std"].number(0.0, static_cast<double>(extents.experts));
}

void check_generation(const Field& generation, const Field& inputs, const Extents& extents) {
  const auto experts = static_cast<double>(extents.experts);
  generation["mean_experts"].number(0.0, experts);
  const auto prompts = inputs["prompts"].elements(1, any);
  const Field by_class = generation["mean_experts_by_class"];
  std::set<std::string> classes;
  for (const Field& prompt : prompts) classes.insert(prompt["class"].label());
  for (const std::string& name : classes) by_class[name.c_str()].number(0.0, experts);
  if (by_class.json().size() != classes.size()) by_class.fail("no other class than the prompts'");
  for (const Field& prompt : generation["prompts"].elements(prompts.size(), prompts.size())) {
    prompt["class"].label();
    prompt["prompt"].text();
    prompt["text"].text();
    prompt["prompt_tokens"].integer(0, most);
    prompt["new_tokens"].integer(0, most);
    prompt["mean_experts"].number(0.0, experts);
  }
}

bool is_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

}  // namespace

Json read_sweep_file(const std::filesystem::path& path) {
  constexpr std::size_t most_members = Limits::sweep_members;
  const std::string text = read_file(path, Limits::sweep_file_bytes);
  check_json_shape(text, {.outer_members = most_members, .members = most_members}, path.string());
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    const std::string_view what = error.what();  // "[json.exception.KIND.ID] FACT"
    throw Error(path.string() + ": bad JSON: " + std::string(what.substr(what.find("] ") + 2)));
  }
}

bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= Limits::label_bytes && is_line(text);
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= Limits::name_bytes && text.front() != '.' &&
         text.front() != '-' && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return c < 0x80 &&
                  (std::isalnum(c) != 0 ||
                   std::string_view("_-.=+").find(static_cast<char>(c)) != std::string_view::npos);
         });
}

void Field::fail(const std::string& expected) const {
  throw Error(place_ + ": " + expected + " is expected, got " + show(*json_));
}

Field Field::operator[](const char* key) const {
  if (!json_->is_object()) fail("an object");
  const auto found = json_->find(key);
  if (found == json_->end()) throw Error(place_ + ": has no '" + key + "'");
  return {*found, place_ + (root_ ? ": " : ".") + key, false};
}

Field::Elements Field::elements(std::size_t least, std::size_t most_elements) const {
  if (!json_->is_array() || json_->size() < least || json_->size() > most_elements) {
    fail(least == most_elements ? "an array of " + std::to_string(least) + " elements"
         : least > 0            ? "an array with elements"
                                : "an array");
  }
  return Elements(*this);
}

Field Field::Elements::operator[](std::size_t index) const {
  return {(*array_.json_)[index],
          array_.place_ + (array_.root_ ? ": [" : "[") + std::to_string(index) + "]", false};
}

double Field::number(double low, double high) const {
  const double value = json_->is_number() ? json_->get<double>() : std::nan("");
  if (!std::isfinite(value) || value < low || value > high)
    fail(std::isfinite(high)  ? "a number from " + show(low) + " to " + show(high)
         : std::isfinite(low) ? "a number not below " + show(low)
                              : "a number");
  return value;
}

double Field::number() const {
  return number(-HUGE_VAL, HUGE_VAL);
}

std::int64_t Field::integer(std::int64_t low, std::int64_t high) const {
  // What nlohmann reads as unsigned may be beyond std::int64_t; what is negative is signed.
  const bool fits = json_->is_number_unsigned()
                        ? json_->get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                        : json_->is_number_integer();
  if (!fits || json_->get<std::int64_t>() < low || json_->get<std::int64_t>() > high)
    fail("an integer from " + std::to_string(low) +
         (high == most ? " on" : " to " + std::to_string(high)));
  return json_->get<std::int64_t>();
}

bool Field::flag() const {
  if (!json_->is_boolean()) fail("true or false");
  return json_->get<bool>();
}

const std::string& Field::text() const {
  if (!json_->is_string()) fail("a text");
  return json_->get_ref<const std::string&>();
}

const std::string& Field::line() const {
  if (!is_line(text())) fail("a text of one line");
  return text();
}

const std::string& Field::label() const {
  if (!is_label(text())) fail("a text of one line and 1 to 255 bytes");
  return text();
}

const std::string& Field::name() const {
  if (!is_name(text())) fail("a name of up to 128 letters, digits and _-.=+");
  return text();
}

void check_inputs(const Field& inputs) {
  const Extents extents = extents_of(inputs);
  inputs["fdroute"].name();
  inputs["model"]["sha256"].name();
  inputs["model"]["native_k"].integer(1, static_cast<std::int64_t>(extents.experts));
  inputs["compute"].name();
  check_texts_of(inputs["texts"]);
  inputs["window"].integer(1, most);
  inputs["stride"].integer(1, most);
  check_texts_of(inputs["calibration_texts"]);
  inputs["calibration_is_first_quarter"].flag();
  if (const Field nulls = inputs["nulls"]; !nulls.is_null()) {
    nulls["sha256"].name();
    nulls["score"].label();
    nulls["trim"].integer(0, most);
    nulls["tokens"].integer(0, most);
  }
  inputs["margin"].number(1.0, HUGE_VAL);
  inputs["shuffles"].integer(0, most);
  inputs["new_tokens"].integer(0, most);
  for (const Field& prompt : inputs["prompts"].elements(1, any)) {
    prompt["class"].label();
    prompt["text"].text();
  }
}

void check_result(const Field& result, const SweepPlan& plan, const Configuration& configuration) {
  if (result.has("unreachable")) {
    result["unreachable"].line();
    if (!configuration.is_open()) result["unreachable"].fail("no such field, without a target,");
    return;
  }
  const Field inputs(plan.inputs, "inputs");
  const Extents extents = extents_of(inputs);
  const bool row = configuration.role == Configuration::Role::Row;
  if (result["policy"].line().empty()) result["policy"].fail("a policy");
  check_evaluation(result["evaluation"], extents, row);
  if (const Field development = result["development"]; row || !development.is_null())
    check_losses(development, extents.development_documents, extents);
  for (const Field& dealt : result["dealt"].elements(0, any))
    check_losses(dealt, extents.documents, extents);
  if (const Field control = result["permuted"]; !control.is_null()) {
    check_moments(control["recorded"], extents);
    check_moments(control["permuted"], extents);
  }
  if (const Field found = result["discoveries"]; !found.is_null()) {
    const double selected = found["selected"].number(0.0, static_cast<double>(extents.experts));
    found["at_least"].number(0.0, selected);
  }
  if (row && inputs["new_tokens"].integer(0, most) > 0) {
    check_generation(result["generation"], inputs, extents);
  } else if (!result["generation"].is_null()) {
    result["generation"].fail("null");
  }
}

void check_timing(const Field& timing) {
  for (const Field& prompt : timing.elements(1, any)) {
    for (const char* who : {"policy", "baseline"}) {
      const Field seconds = prompt[who];
      seconds["prefill_tokens"].integer(0, most);
      seconds["prefill_seconds"].number(0.0, HUGE_VAL);
      seconds["decode_steps"].integer(0, most);
      seconds["decode_seconds"].number(0.0, HUGE_VAL);
    }
  }
}

}  // namespace olmoe
