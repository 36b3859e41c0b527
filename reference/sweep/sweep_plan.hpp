#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sweep/grid.hpp"

namespace olmoe {

/// What a sweep is to measure: everything that determines its numbers, and nothing else. Equal
/// plans give equal results, wherever and in whatever order the configurations are run.
struct SweepPlan {
  /// What every file of a sweep says its format is.
  static constexpr const char* schema = "fdroute-sweep/2";

  std::string stem;               ///< the result files' names begin with it
  nlohmann::ordered_json inputs;  ///< versions, digests of model, texts, prompts and null tables
  std::vector<Configuration> configurations;  ///< the baseline first

  const Configuration& baseline() const { return configurations.front(); }

  nlohmann::ordered_json to_json() const;
  /// Throws Error, naming the field, if the document, called `origin` in the message, is no plan:
  /// besides types and ranges, names are checked to be fit for file names and to differ, and the
  /// first configuration to be a baseline.
  static SweepPlan from_json(const nlohmann::ordered_json& json, const std::string& origin);

  /// SHA-256 of the inputs and one configuration.
  std::string fingerprint(const Configuration& configuration) const;
};

nlohmann::ordered_json to_json(const Configuration& configuration);

/// Where two plans first differ, for a message: "inputs.window: 512 here, 256 there". Empty if they
/// are equal.
std::string difference(const SweepPlan& here, const SweepPlan& there);

/// The configurations of shard 1 ... `shards`: every `shards`-th one. The fixed counts of layers
/// are all in the shard of the first of them, since they come from the same losses, which take long
/// to measure.
std::vector<const Configuration*> of_shard(const SweepPlan& plan, int shard, int shards);

/// Throws Error, naming what is missing, unless `has` every configuration; `where` for the message.
void check_complete(const SweepPlan& plan, const std::string& where,
                    const std::function<bool(const std::string&)>& has);

/// The files of a sweep's output directory.
///
///     sweep.json                 the plan
///     configs/NAME.json          a finished configuration: what was measured
///     timings/NAME.json          how long its generation took
///     nulls/*.safetensors        null tables fitted for the sweep, if any
///     STEM_*, visualizations/    the results, once every configuration is there
class SweepDirectory {
 public:
  explicit SweepDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path plan_file() const { return path_ / "sweep.json"; }
  std::filesystem::path nulls() const { return path_ / "nulls"; }
  std::filesystem::path config_file(const std::string& name) const {
    return path_ / "configs" / (name + ".json");
  }
  std::filesystem::path timing_file(const std::string& name) const {
    return path_ / "timings" / (name + ".json");
  }

  bool has_plan() const { return std::filesystem::exists(plan_file()); }
  SweepPlan read_plan() const;
  void write_plan(const SweepPlan& plan) const;

  bool has_result(const std::string& name) const {
    return std::filesystem::exists(config_file(name));
  }
  /// A configuration's results, checked to be this plan's by their fingerprint, and every field to
  /// be what it should. Throws Error.
  nlohmann::ordered_json read_result(const SweepPlan& plan,
                                     const Configuration& configuration) const;
  void write_result(const SweepPlan& plan, const Configuration& configuration,
                    const nlohmann::ordered_json& result) const;

  bool has_timing(const std::string& name) const {
    return std::filesystem::exists(timing_file(name));
  }
  /// How long a configuration's generation took, every field checked. Throws Error.
  nlohmann::ordered_json read_timing(const std::string& name) const;

  /// Throws Error if the directory holds another sweep than `plan`, or, without `resume`, any.
  void check_continues(const SweepPlan& plan, bool resume) const;

  /// Throws Error if configs/ holds what is not in the plan: results of another sweep.
  void check_no_strangers(const SweepPlan& plan) const;

 private:
  std::filesystem::path path_;
};

/// A JSON document as the text of a file: indented, with a final line break, bytes that are not
/// UTF-8 replaced by U+FFFD.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace olmoe
