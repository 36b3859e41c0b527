#pragma once

#include <filesystem>
#include <vector>

namespace olmoe {

/// Brings the shards of one sweep together in `out`, a new directory, and writes the results.
/// Throws Error if the shards' plans differ, two hold a configuration with different numbers, or
/// one is missing; and, with `model`, if that directory's digest is not the plan's.
void merge_sweeps(const std::filesystem::path& out,
                  const std::vector<std::filesystem::path>& shards,
                  const std::filesystem::path& model = {});

}  // namespace olmoe
