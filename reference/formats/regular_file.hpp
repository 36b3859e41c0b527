#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace olmoe {

/// A regular file, open for reading. Move-only.
class RegularFile {
 public:
  /// Throws Error if `path` is missing, unreadable, a directory, or a pipe or device, which are
  /// refused and not waited for.
  explicit RegularFile(const std::filesystem::path& path);
  RegularFile(RegularFile&& other) noexcept;
  RegularFile& operator=(RegularFile&& other) noexcept;
  ~RegularFile();

  int descriptor() const { return descriptor_; }
  std::uint64_t size() const { return static_cast<std::uint64_t>(status_.st_size); }

  /// The file's status when it was opened.
  const struct stat& status() const { return status_; }

 private:
  int descriptor_;
  struct stat status_;
};

/// Whether `path` still is the file of that status, of that size and time of modification.
bool is_unchanged(const std::filesystem::path& path, const struct stat& status);

/// The contents of a regular file. Throws Error as RegularFile does, if it has more than `limit`
/// bytes, and if it cannot be read.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit);

}  // namespace olmoe
