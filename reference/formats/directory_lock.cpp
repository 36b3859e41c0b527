#include "formats/directory_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "formats/error.hpp"

namespace olmoe {

DirectoryLock::DirectoryLock(const std::filesystem::path& directory)
    : file_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (file_ < 0) throw Error(directory.string() + ": " + std::generic_category().message(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(file_);
  throw Error(directory.string() + ": another process writes to it; wait until it has ended");
}

DirectoryLock::~DirectoryLock() {
  ::close(file_);
}

}  // namespace olmoe
