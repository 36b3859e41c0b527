#include "sweep/model_digest.hpp"

#include <cstddef>
#include <span>
#include <vector>

#include "formats/sha256.hpp"

namespace olmoe {

std::string model_sha256(const std::filesystem::path& directory, const Checkpoint& checkpoint) {
  std::vector<std::filesystem::path> files = checkpoint.files();
  files.push_back(directory / "config.json");
  files.push_back(directory / "tokenizer.json");
  std::string digests;
  for (const auto& file : files) digests += sha256_file(file) + "\n";
  return sha256(std::as_bytes(std::span(digests)));
}

}  // namespace olmoe
