#include "sweep/merge.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/atomic_file.hpp"
#include "reference/error_of.hpp"
#include "reference/sound_sweep.hpp"
#include "sweep/sweep_files.hpp"

TEST_CASE("merge refuses a shard whose names lead elsewhere, and writes nothing") {
  const SmallSweep sweep;
  const auto shard = sweep.directory().plan_file();
  nlohmann::ordered_json plan = olmoe::read_sweep_file(shard);
  plan["stem"] = (sweep.scratch() / "elsewhere").string();
  olmoe::write_atomically(shard, plan.dump());
  const auto out = sweep.scratch() / "merged";
  CHECK(error_of([&] {
          olmoe::merge_sweeps(out, {sweep.directory().path()});
        }).starts_with(shard.string() + ": stem: "));
  CHECK_FALSE(std::filesystem::exists(out));
}
