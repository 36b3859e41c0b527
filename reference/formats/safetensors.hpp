#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mapped_file.hpp"
#include "formats/tensor.hpp"

namespace olmoe {

/// What the header of a safetensors file may have. The first limit is the format's. The others are
/// ours: no model comes near them, and without them a header could take many times its size of
/// memory.
struct SafetensorsLimits {
  static constexpr std::uint64_t header_bytes = 100'000'000;
  static constexpr std::size_t axes = 8;  ///< of a tensor
  static constexpr std::size_t metadata_entries = 10'000;
  static constexpr std::size_t string_bytes = 1'000'000;  ///< of a name, key or value, as JSON
};

/// The key of the header that holds the metadata, and so no tensor's name.
constexpr std::string_view safetensors_metadata_key = "__metadata__";

/// Throws Error if the header `text` of the file `origin` exceeds SafetensorsLimits; takes no
/// memory. Whether it is a header is not asked.
void check_safetensors_header(std::string_view text, const std::string& origin);

/// A safetensors file, mapped read-only. Opening it checks the whole header: every tensor lies
/// within the file, matches dtype x shape, and together they cover the data exactly once. It takes
/// time n log n and, the mapped header included, less memory than three times the header and a few
/// MB. Move-only.
class SafetensorsFile {
 public:
  /// Throws Error if the file cannot be read, breaks the format or exceeds SafetensorsLimits.
  explicit SafetensorsFile(const std::filesystem::path& path);

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Error, naming file and tensor, if there is none.
  Tensor at(std::string_view name) const;
  /// The tensor of that name and shape. Error, naming file and tensor, if there is none, and if it
  /// has another shape.
  Tensor at(std::string_view name, const Shape& shape) const;
  /// Sorted.
  std::vector<std::string> names() const;
  /// Number of tensors.
  std::size_t size() const { return entries_.size(); }
  /// Sorted, valid while this file lives, as are tensors.
  std::string_view name(std::size_t index) const { return entries_[index].name; }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }
  /// See MappedFile::check_unchanged().
  void check_unchanged() const { file_.check_unchanged(); }

 private:
  struct Header;

  // A tensor's entry in the header: 48 bytes, as headers may have hundreds of thousands.
  struct Entry {
    std::string_view name;  // in names_
    std::uint64_t begin;    // of the data
    std::uint64_t end;
    DType dtype;
    std::uint32_t rank;
    std::size_t shape;  // where it begins in extents_
  };

  const Entry* find(std::string_view name) const;
  void add(const std::string& name, const Header& tensor);
  void check_coverage(std::uint64_t data_size) const;

  std::filesystem::path path_;
  MappedFile file_;
  std::span<const std::byte> data_;
  // Deques, which never hold an old copy and a new one at once.
  std::deque<Entry> entries_;  // sorted by name
  std::deque<std::int64_t> extents_;
  std::vector<char> names_;  // never grows beyond what was reserved: entries_ point into it
  std::map<std::string, std::string> metadata_;
};

}  // namespace olmoe
