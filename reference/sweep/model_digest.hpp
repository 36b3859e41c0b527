#pragma once

#include <filesystem>
#include <string>

#include "formats/checkpoint.hpp"

namespace olmoe {

/// SHA-256 of all that makes a model: weights, config and tokenizer. `checkpoint` is that of
/// `directory`. Throws Error if a file cannot be read.
std::string model_sha256(const std::filesystem::path& directory, const Checkpoint& checkpoint);

}  // namespace olmoe
