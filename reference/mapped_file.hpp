#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace olmoe {

/// A regular file's contents, mapped read-only: pages are read when touched. The file must not be
/// truncated while it is mapped.
class MappedFile {
 public:
  /// Throws Error if `path` is missing, unreadable, a directory or no regular file, a link to
  /// nothing, or a pointer that git-lfs left in the place of a file.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  /// Page-aligned; moving the MappedFile does not move them.
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace olmoe
