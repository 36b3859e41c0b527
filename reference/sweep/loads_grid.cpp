#include "sweep/loads_grid.hpp"

#include <functional>

#include "formats/error.hpp"
#include "sweep/grid.hpp"

namespace olmoe {

std::string LoadsConfiguration::curve() const {
  switch (added) {
    case Added::nothing:
      return family;
    case Added::best:
      return family + "+best" + std::to_string(completion.window);
    case Added::random:
      return family + "+random" + std::to_string(completion.window);
    case Added::oracle:
      return family + "+oracle";
  }
  return {};
}

std::string LoadsConfiguration::name() const {
  std::string group_name = to_text(group);
  group_name.erase(group_name.find(':'), 1);
  return group_name + "_" + curve() + "_mean" + std::to_string(mean);
}

const std::vector<LoadsFamily>& loads_families() {
  static const std::vector<LoadsFamily> families{{"topk", "topk:k=?"},
                                                 {"threshold", "threshold:t=?,min_k=1,max_k=12"},
                                                 {"bh", "bh:alpha=?,min_k=1,max_k=12"}};
  return families;
}

namespace {

using Added = LoadsConfiguration::Added;
/// Adds a configuration with both max_k and window `window`.
using Add = std::function<void(const std::string& family, int mean, Added added, int window)>;

/// What `fill` adds, for every group.
std::vector<LoadsConfiguration> for_each_group(const Config& config, const char* name,
                                               const std::function<void(const Add&)>& fill) {
  constexpr int fewest_experts = 16;
  if (config.num_experts < fewest_experts)
    throw Error("grid " + std::string(name) + " needs a model of at least " +
                std::to_string(fewest_experts) + " experts, this one has " +
                std::to_string(config.num_experts));
  std::vector<LoadsConfiguration> grid;
  for (const char* group : {"batch:16", "consecutive:8", "cache:16"}) {
    fill([&](const std::string& family, int mean, Added added, int window) {
      grid.push_back({family, mean, parse_grouping(group), added, {window, window}});
    });
  }
  return grid;
}

}  // namespace

std::vector<LoadsConfiguration> loads_grid(const Config& config) {
  return for_each_group(config, loads_grid_name, [](const Add& add) {
    for (const LoadsFamily& known : loads_families()) {
      const std::string family = known.name;
      const bool is_topk = family == "topk";
      const int least = is_topk ? 1 : 2;
      for (int mean = least; mean <= (is_topk ? 8 : 6); ++mean)
        add(family, mean, Added::nothing, 8);
      for (int mean = least; mean <= 6; ++mean) add(family, mean, Added::best, 8);
      for (const int mean : {2, 3, 4}) add(family, mean, Added::best, 12);
      if (family == "threshold") continue;
      for (const int mean : {2, 3, 4}) add(family, mean, Added::random, 8);
    }
  });
}

std::vector<LoadsConfiguration> oracle_grid(const Config& config) {
  return for_each_group(config, oracle_grid_name, [](const Add& add) {
    for (int k = 1; k <= 8; ++k) add("topk", k, Added::nothing, 8);
    for (int k = 1; k <= 6; ++k) add("topk", k, Added::best, 8);
    for (int k = 1; k <= 6; ++k) add("topk", k, Added::oracle, 8);
  });
}

}  // namespace olmoe
