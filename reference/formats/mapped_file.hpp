#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace olmoe {

/// A regular file's contents, mapped read-only: pages are read when touched. Whoever truncates or
/// overwrites the file meanwhile changes them: a page that is gone raises SIGBUS (see
/// report_truncated_files()), and check_unchanged() finds the rest. Move-only.
class MappedFile {
 public:
  /// Throws Error if `path` is missing, unreadable, a directory or no regular file, a link to
  /// nothing, or a pointer that git-lfs left in the place of a file.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  /// Page-aligned; moving the MappedFile does not move them.
  std::span<const std::byte> bytes() const;

  /// Throws Error unless the path still holds the file that was mapped, with its size and time of
  /// modification then.
  void check_unchanged() const;

 private:
  friend void report_truncated_files();
  class Mapping;
  std::unique_ptr<const Mapping> mapping_;
};

/// For programs: from now on a mapped file that is truncated under its reader ends the process with
/// exit code 1 and one line on stderr that names the file, not by SIGBUS.
void report_truncated_files();

}  // namespace olmoe
