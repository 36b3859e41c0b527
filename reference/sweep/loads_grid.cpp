#include "sweep/loads_grid.hpp"

#include "formats/error.hpp"

namespace olmoe {

std::string LoadsConfiguration::curve() const {
  if (added == Added::nothing) return family;
  return family + (added == Added::best ? "+best" : "+random") + std::to_string(completion.window);
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

std::vector<LoadsConfiguration> loads_grid(const Config& config) {
  constexpr int fewest_experts = 16;
  if (config.num_experts < fewest_experts)
    throw Error("grid loads needs a model of at least " + std::to_string(fewest_experts) +
                " experts, this one has " + std::to_string(config.num_experts));
  using Added = LoadsConfiguration::Added;
  std::vector<LoadsConfiguration> grid;
  for (const char* group : {"batch:16", "consecutive:8", "cache:16"}) {
    const auto add = [&](const std::string& family, int mean, Added added, int window) {
      grid.push_back({family, mean, parse_grouping(group), added, {window, window}});
    };
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
  }
  return grid;
}

}  // namespace olmoe
