#pragma once

#include <cstddef>
#include <filesystem>

namespace olmoe {

/// The name "PATH.tmpPID" beside a file that is to be written, and the promise that no more than
/// the whole file ever stands at PATH. Who makes one writes to path(), closes it and calls
/// replace(); otherwise what was written is removed. Not copyable.
class TemporaryFile {
 public:
  /// Removes what processes now dead left of `target`. Throws Error if `target` names no file, or
  /// something that is no regular file. Nothing is created.
  explicit TemporaryFile(const std::filesystem::path& target);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();

  const std::filesystem::path& path() const { return path_; }

  /// Writes the file to the disk, renames it to the target and writes the directory to the disk:
  /// when this returns, a power cut does not lose it. Throws Error.
  void replace() const;

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
  std::size_t place_;  // among those that a signal removes
};

/// Writes a directory to the disk, and so the names in it, where the file system can. Throws Error.
void synchronise_directory(const std::filesystem::path& directory);

/// For programs: SIGINT, SIGTERM, SIGHUP and SIGPIPE remove all TemporaryFiles, say so in a line on
/// stderr and end the process with exit code 128 + the signal's number. One that is ignored, as
/// nohup does SIGHUP, stays so. An allocation that fails does the same, with exit code 1: it may be
/// in a thread that cannot throw.
void tidy_when_ended();

}  // namespace olmoe
