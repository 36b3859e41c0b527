#include "sweep/merge.hpp"

#include <cstdio>
#include <map>
#include <string>
#include <utility>

#include "formats/atomic_file.hpp"
#include "formats/checkpoint.hpp"
#include "formats/directory_lock.hpp"
#include "formats/error.hpp"
#include "sweep/model_digest.hpp"
#include "sweep/sweep_plan.hpp"
#include "sweep/sweep_results.hpp"

namespace olmoe {

using Json = nlohmann::ordered_json;

void merge_sweeps(const std::filesystem::path& out,
                  const std::vector<std::filesystem::path>& shards,
                  const std::filesystem::path& model) {
  const SweepDirectory merged(out);
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
  make_directories(out);
  const DirectoryLock lock(out);
  if (merged.has_plan()) throw Error(out.string() + ": holds a sweep; give another --out");
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
