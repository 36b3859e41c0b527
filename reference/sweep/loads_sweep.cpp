#include "sweep/loads_sweep.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fdroute/any_router.hpp>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "formats/atomic_file.hpp"
#include "formats/directory_lock.hpp"
#include "formats/error.hpp"
#include "measure/at.hpp"
#include "measure/null_fit.hpp"
#include "measure/parallel.hpp"
#include "measure/recorded_logits.hpp"
#include "measure/solve_policy.hpp"
#include "routing/routing.hpp"
#include "sweep/grid.hpp"
#include "sweep/loads_grid.hpp"
#include "sweep/loads_results.hpp"
#include "sweep/sweep_inputs.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

/// The routers of every family and mean, or why there can be none.
class SolvedFamilies {
 public:
  explicit SolvedFamilies(const SweepInputs& inputs) : inputs_(inputs) {}

  void solve(const LoadsConfiguration& configuration) {
    const auto [found, fresh] = routers_.try_emplace({configuration.family, configuration.mean});
    if (!fresh) return;
    const Config& config = inputs_.model.config();
    std::string policy;
    for (const LoadsFamily& family : loads_families()) {
      if (family.name == configuration.family) policy = family.policy;
    }
    const std::span<const fdroute::TabulatedNull> nulls =
        configuration.family == "bh" ? bh_nulls() : std::span<const fdroute::TabulatedNull>();
    if (configuration.family == "topk") {
      policy.replace(policy.find('?'), 1, std::to_string(configuration.mean));
      found->second = make_routers(config, policy, nulls);
      return;
    }
    const Target target{.policy = policy, .mean_experts = static_cast<double>(configuration.mean)};
    try {
      const SolvedPolicy solved =
          solve_policy(inputs_.model, target, nulls, inputs_.calibration_texts,
                       {.window = inputs_.evaluation.window});
      found->second = make_routers(config, solved.policy, nulls);
    } catch (const Unreachable& error) {
      why_not_[found->first] = error.what();
    }
  }

  /// (layers); empty where no parameter gives the mean.
  std::span<const fdroute::AnyRouter> routers(const LoadsConfiguration& configuration) const {
    return routers_.at({configuration.family, configuration.mean});
  }

  const std::string& why_not(const LoadsConfiguration& configuration) const {
    return why_not_.at({configuration.family, configuration.mean});
  }

 private:
  using Key = std::pair<std::string, int>;

  /// (layers), fitted when they are first asked for.
  std::span<const fdroute::TabulatedNull> bh_nulls() {
    if (nulls_.empty()) {
      const auto native =
          make_routers(inputs_.model.config(), native_policy, std::filesystem::path());
      const RecordingOptions recording{.window = inputs_.evaluation.window};
      nulls_ =
          fit_nulls(record_logits(inputs_.model, native, inputs_.calibration_texts, recording).fit,
                    {.score = "log_softmax", .trim = 8}, "")
              .nulls();
    }
    return nulls_;
  }

  const SweepInputs& inputs_;
  std::vector<fdroute::TabulatedNull> nulls_;  // (layers)
  std::map<Key, std::vector<fdroute::AnyRouter>> routers_;
  std::map<Key, std::string> why_not_;
};

LoadsRow measure(const SweepInputs& inputs, const LoadsConfiguration& configuration,
                 std::span<const fdroute::AnyRouter> routers) {
  EvaluationOptions options = inputs.evaluation;
  options.group = configuration.group;
  if (configuration.completes()) options.completion = configuration.completion;
  options.oracle = configuration.added == LoadsConfiguration::Added::oracle;
  constexpr std::uint64_t seed = 1;
  if (configuration.added == LoadsConfiguration::Added::random) options.random_residents = seed;
  return loads_row(configuration, policy_of(routers),
                   evaluate(inputs.model, routers, inputs.texts, options));
}

}  // namespace

void run_loads(const SweepOptions& options) {
  check_sweep_options(options);
  if (options.shards != 1 || options.resume)
    throw std::invalid_argument("--grid " + options.grid +
                                " is one run: --shard and --resume cannot be given");
  const auto file = [&](const std::string& name) { return options.out / ("loads_" + name); };
  const SweepInputs inputs(options);
  const std::vector<LoadsConfiguration> grid = options.grid == oracle_grid_name
                                                   ? oracle_grid(inputs.model.config())
                                                   : loads_grid(inputs.model.config());
  make_directories(options.out);
  const DirectoryLock lock(options.out);
  if (std::filesystem::exists(file("full_results.json")) || SweepDirectory(options.out).has_plan())
    throw Error(options.out.string() + ": holds a sweep; give another --out");

  std::optional<Progress> progress(std::in_place,
                                   Work{.what = "sweep",
                                        .unit = "configurations",
                                        .total = static_cast<double>(grid.size() + 1)});
  progress->start("solving");
  SolvedFamilies solved(inputs);
  for (const LoadsConfiguration& configuration : grid) solved.solve(configuration);
  progress->finish("policies solved");

  std::vector<std::optional<LoadsRow>> rows(grid.size());
  parallel_for(std::ssize(grid), [&](std::int64_t i) {
    const LoadsConfiguration& configuration = grid[at(i)];
    const auto routers = solved.routers(configuration);
    if (!routers.empty()) rows[at(i)] = measure(inputs, configuration, routers);
#pragma omp critical(olmoe_loads_progress)
    {
      progress->start(configuration.name());
      progress->finish(rows[at(i)] ? "measured" : solved.why_not(configuration));
    }
  });
  progress.reset();  // others may write now
  inputs.model.checkpoint().check_unchanged();

  LoadsResults results;
  results.inputs = inputs.plan.inputs;
  for (std::size_t i = 0; i < grid.size(); ++i) {
    if (rows[i]) {
      results.rows.push_back(std::move(*rows[i]));
    } else {
      results.unreachable[grid[i].name()] = solved.why_not(grid[i]);
    }
  }
  compare(results);
  write_atomically(file("summary.csv"), loads_csv(results));
  Pictures pictures = Pictures::failed;
  try {
    const std::string stem = "loads_analysis";
    pictures = write_script(loads_script(results, stem), options.out / "visualizations", stem);
  } catch (const Error& error) {
    std::fprintf(stderr, "olmoe: warning: no pictures: %s\n", error.what());
  }
  write_atomically(file("report.md"), loads_report(results, pictures));
  write_atomically(file("full_results.json"), json_text(to_json(results)));
  std::printf("%s\n", file("report.md").c_str());
}

}  // namespace olmoe
