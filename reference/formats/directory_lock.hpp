#pragma once

#include <filesystem>

namespace olmoe {

/// The right to write to a directory, which one process has at a time.
///
/// It lies on the directory itself (flock), so that nothing is left when its owner dies, however it
/// does. It binds those who ask for it only. A file system without such locks, as some network file
/// systems, gives it to everybody. Not copyable.
class DirectoryLock {
 public:
  /// Throws Error if the directory cannot be opened, or if another process has its lock.
  explicit DirectoryLock(const std::filesystem::path& directory);
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock();

 private:
  int file_;
};

}  // namespace olmoe
