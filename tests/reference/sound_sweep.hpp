#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/atomic_file.hpp"
#include "forward/config.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "sweep/evaluation_json.hpp"
#include "sweep/grid.hpp"
#include "sweep/sweep_files.hpp"
#include "sweep/sweep_plan.hpp"
#include "sweep/sweep_results.hpp"

/// A small sweep as a machine without a fault would write it: one text of twelve documents, the
/// last of two windows, and one prompt.
inline constexpr int sound_documents = 12;

/// The inputs and the baseline; other configurations may be added.
inline olmoe::SweepPlan sound_plan(const olmoe::Config& config) {
  using Json = nlohmann::ordered_json;
  olmoe::SweepPlan plan;
  plan.stem = "grid";
  plan.inputs["fdroute"] = "0.1.0";
  plan.inputs["model"] = {{"sha256", "0123456789abcdef0123"},
                          {"layers", config.num_hidden_layers},
                          {"experts", config.num_experts},
                          {"native_k", config.num_experts_per_tok}};
  plan.inputs["compute"] = "f32";
  Json documents = Json::array();
  for (int d = 0; d < sound_documents; ++d)
    documents.push_back({{"name", "chapter " + std::to_string(d)}, {"tokens", 11}});
  plan.inputs["texts"] = Json::array(
      {{{"name", "prose.txt"}, {"tokens", 132}, {"ids_sha256", "abc"}, {"documents", documents}}});
  plan.inputs["window"] = 64;
  plan.inputs["stride"] = 64;
  plan.inputs["calibration_texts"] = plan.inputs["texts"];
  plan.inputs["calibration_is_first_quarter"] = true;
  plan.inputs["nulls"] = {{"sha256", "abc"}, {"score", "logit"}, {"trim", 2}, {"tokens", 100}};
  plan.inputs["margin"] = 1.005;
  plan.inputs["shuffles"] = 2;
  plan.inputs["new_tokens"] = 3;
  plan.inputs["prompts"] = Json::array({{{"class", "simple"}, {"text", "The sun"}}});
  plan.configurations = {olmoe::baseline(config)};
  return plan;
}

/// What was measured of a configuration: every row had one expert, or, if `varied`, one or two.
inline nlohmann::ordered_json sound_result(const olmoe::Config& config,
                                           const olmoe::Configuration& configuration,
                                           bool varied = false) {
  const auto experts = static_cast<std::size_t>(config.num_experts);
  const bool row = configuration.role == olmoe::Configuration::Role::Row;
  olmoe::CountStatistics counts;
  counts.rows = 128;
  counts.mean = varied ? 1.5 : 1.0;
  counts.std = varied ? 0.5 : 0.0;
  counts.min = 1;
  counts.max = varied ? 2 : 1;
  counts.histogram.assign(experts + 1, 0);
  counts.histogram[1] = varied ? 64 : 128;
  counts.histogram[2] = varied ? 64 : 0;
  olmoe::LayerStatistics layer;
  layer.counts = counts;
  layer.load.share.assign(experts, 1.0 / static_cast<double>(experts));
  layer.weight_mass = 0.5;
  olmoe::TextEvaluation text;
  text.name = "prose.txt";
  text.predicted_tokens = 128;
  text.nll = {1.5, 0.1};
  text.perplexity = {4.5, 0.4};
  if (row) text.baseline = olmoe::BaselineComparison{0.9, 0.01, {0.1, 0.02}, {0.1, 0.01}};
  text.routing.counts = counts;
  text.routing.layers.assign(static_cast<std::size_t>(config.num_hidden_layers), layer);
  // Losses of 1.5 on average; if varied, more by 0.1 on average, from 0.085 to 0.115.
  for (int d = 0; d < sound_documents; ++d) {
    const double more = varied ? 0.085 + 0.03 * d / (sound_documents - 1) : 0.0;
    text.windows.push_back({d + 1 < sound_documents ? 10 : 6, 0.0});
    text.windows.back().sum = static_cast<double>(text.windows.back().tokens) * (1.5 + more);
    text.windows_of.push_back(1);
  }
  text.windows.push_back({4, 4 * (varied ? 1.615 : 1.5)});
  text.windows_of.back() = 2;
  olmoe::Evaluation evaluation{{text}, text, {}, 1.5, 4.5};

  nlohmann::ordered_json result;
  result["policy"] = varied ? "top_p:p=0.5" : "topk:k=1,min_k=1";
  result["evaluation"] = olmoe::to_json(evaluation);
  result["development"] = olmoe::losses_json(evaluation);
  result["dealt"] = nlohmann::ordered_json::array();
  result["permuted"] = nullptr;
  result["discoveries"] = nullptr;
  result["generation"] = nullptr;
  if (varied) {
    result["dealt"] = {olmoe::losses_json(evaluation), olmoe::losses_json(evaluation)};
    const nlohmann::ordered_json moments = {{"mean", 1.5}, {"std", 0.5}};
    result["permuted"] = {{"recorded", moments}, {"permuted", moments}};
    result["discoveries"] = {{"selected", 1.5}, {"at_least", 0.75}};
  }
  if (row) {
    result["generation"] = {{"mean_experts", 1.0},
                            {"mean_experts_by_class", {{"simple", 1.0}}},
                            {"prompts", nlohmann::ordered_json::array({{{"class", "simple"},
                                                                        {"prompt", "The sun"},
                                                                        {"text", " rises"},
                                                                        {"prompt_tokens", 2},
                                                                        {"new_tokens", 3},
                                                                        {"mean_experts", 1.0}}})}};
  }
  return result;
}

/// The timings of a configuration.
inline nlohmann::ordered_json sound_timing() {
  const nlohmann::ordered_json seconds = {{"prefill_tokens", 2},
                                          {"prefill_seconds", 0.5},
                                          {"decode_steps", 2},
                                          {"decode_seconds", 0.25}};
  return nlohmann::ordered_json::array({{{"policy", seconds}, {"baseline", seconds}}});
}

/// Two layers of four experts, top-1.
inline olmoe::Config small_config() {
  olmoe::Config config{};
  config.num_hidden_layers = 2;
  config.num_experts = 4;
  config.num_experts_per_tok = 1;
  return config;
}

/// A sweep's directory with a baseline, an adaptive row, one that is not reached, and top-2.
class SmallSweep {
 public:
  SmallSweep() : directory_(dir_.path() / "sweep"), plan_(sound_plan(small_config())) {
    plan_.configurations.push_back({.name = "top_p_mean2",
                                    .family = "top_p",
                                    .policy = "top_p:p=?",
                                    .nulls = {},
                                    .target = 2});
    plan_.configurations.push_back(
        {.name = "bh_mean3", .family = "bh", .policy = "bh:alpha=?", .nulls = {}, .target = 3});
    plan_.configurations.push_back({.name = "topk_2",
                                    .family = "top-k",
                                    .policy = "topk:k=2",
                                    .nulls = {},
                                    .target = {},
                                    .role = olmoe::Configuration::Role::Curve});
    directory_.write_plan(plan_);
    const auto& c = plan_.configurations;
    directory_.write_result(plan_, c[0], sound_result(small_config(), c[0]));
    directory_.write_result(plan_, c[1], sound_result(small_config(), c[1], true));
    directory_.write_result(plan_, c[2], {{"unreachable", "means from 1 to 2"}});
    directory_.write_result(plan_, c[3], sound_result(small_config(), c[3]));
    olmoe::write_atomically(directory_.timing_file(c[1].name), sound_timing().dump());
  }

  const olmoe::SweepDirectory& directory() const { return directory_; }
  const olmoe::SweepPlan& plan() const { return plan_; }
  const std::filesystem::path& scratch() const { return dir_.path(); }

  std::vector<std::filesystem::path> files() const {
    return {directory_.plan_file(), directory_.config_file("topk_1_baseline"),
            directory_.config_file("top_p_mean2"), directory_.config_file("bh_mean3"),
            directory_.timing_file("top_p_mean2")};
  }

  /// All that results are made of, without pictures; the message of its error, or "no error".
  std::string error() const {
    return error_of([&] {
      const olmoe::SweepResults results = olmoe::read_results(directory_);
      olmoe::full_results(results);
      olmoe::summary_csv(results);
      olmoe::timings_csv(results, directory_);
      olmoe::report(results, olmoe::Pictures::none);
      olmoe::gnuplot_script(olmoe::plot_data(results), results.plan.stem);
    });
  }

  /// error() with a file's contents replaced.
  std::string error_with(const std::filesystem::path& file, const std::string& contents) const {
    const std::string before = olmoe::json_text(olmoe::read_sweep_file(file));
    overwrite(file, contents);
    const std::string message = error();
    overwrite(file, before);
    return message;
  }

  /// error() with one value of a file replaced.
  std::string error_with(const std::filesystem::path& file, const std::string& pointer,
                         const nlohmann::ordered_json& value) const {
    nlohmann::ordered_json json = olmoe::read_sweep_file(file);
    json.at(nlohmann::ordered_json::json_pointer(pointer)) = value;
    return error_with(file, json.dump());
  }

 private:
  // Thousands of times, and so not to the disk.
  static void overwrite(const std::filesystem::path& file, const std::string& contents) {
    std::ofstream(file, std::ios::binary) << contents;
  }

  TempDir dir_;
  olmoe::SweepDirectory directory_;
  olmoe::SweepPlan plan_;
};
