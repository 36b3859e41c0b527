#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "formats/safetensors.hpp"

namespace olmoe {

/// Whether `name` is the name of a file in a directory, and leads to no other directory: what a
/// file from elsewhere may name.
bool is_plain_file_name(const std::string& name);

/// The weights of a model directory: model.safetensors, or else the shards that
/// model.safetensors.index.json names, with all that is in them. Move-only.
class Checkpoint {
 public:
  /// Throws Error if `directory` holds neither, a file is missing, malformed or lacks a tensor
  /// that the index expects of it, or two files hold a tensor of one name.
  explicit Checkpoint(const std::filesystem::path& directory);

  // std::vector would otherwise declare a copy that cannot be compiled.
  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Error, naming file and tensor, if there is none.
  Tensor at(std::string_view name) const;
  /// The tensor of that name and shape. Error, naming file and tensor, if there is none, and if it
  /// has another shape.
  Tensor at(std::string_view name, const Shape& shape) const;
  /// Sorted.
  std::vector<std::string> names() const;

  /// The weight files, sorted.
  std::vector<std::filesystem::path> files() const;
  /// Throws Error if a weight file was changed or replaced since it was opened.
  void check_unchanged() const;
  /// Bytes of all tensors in names().
  std::uint64_t total_bytes() const;

 private:
  struct Place {
    std::string_view name;
    const SafetensorsFile* file;
  };

  void open_shards(const std::filesystem::path& directory);
  void add_tensors_of_files();
  const Place* find(std::string_view name) const;

  std::filesystem::path source_;  // the single file or the index
  std::vector<SafetensorsFile> files_;
  std::vector<Place> places_;  // of all tensors, sorted by name
};

}  // namespace olmoe
