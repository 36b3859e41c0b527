#include "atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "error.hpp"

namespace olmoe {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, int code) {
  throw Error(path.string() + ": cannot write: " + std::generic_category().message(code));
}

}  // namespace

void write_atomically(const std::filesystem::path& path, std::string_view contents) {
  // The process id, since two sweeps may by mistake write to one directory.
  const std::string temporary = path.string() + ".tmp" + std::to_string(::getpid());
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) fail(path, errno);
  const auto abandon = [&](int code) {
    ::close(file);
    ::unlink(temporary.c_str());
    fail(path, code);
  };
  while (!contents.empty()) {
    const ssize_t written = ::write(file, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) abandon(errno);
    contents.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file) != 0) abandon(errno);
  if (::close(file) != 0 || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary.c_str());
    fail(path, code);
  }
}

void make_directories(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw Error(path.string() + ": cannot make this directory: " + error.message());
}

}  // namespace olmoe
