#include "formats/atomic_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "formats/error.hpp"

namespace olmoe {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, int code) {
  throw Error(path.string() + ": cannot write: " + std::generic_category().message(code));
}

constexpr std::string_view mark = ".tmp";

/// The process that has the temporary file `name` of a file `of`, or 0.
::pid_t owner_of(std::string_view name, std::string_view of) {
  if (!name.starts_with(of) || !name.substr(of.size()).starts_with(mark)) return 0;
  const std::string_view digits = name.substr(of.size() + mark.size());
  ::pid_t process = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), process);
  return error == std::errc{} && end == digits.data() + digits.size() ? process : 0;
}

}  // namespace

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  if (name.empty()) throw Error(quote(path.string()) + " names no file to write");
  std::error_code none;
  const auto status = std::filesystem::status(path, none);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(path.string() + ": is no regular file, and is not replaced by one");
  std::vector<std::filesystem::path> stale;
  std::error_code ignored;
  const auto directory = path.has_parent_path() ? path.parent_path() : ".";
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const ::pid_t owner = owner_of(entry.path().filename().string(), name);
    if (owner > 0 && ::kill(owner, 0) != 0 && errno == ESRCH) stale.push_back(entry.path());
  }
  for (const std::filesystem::path& file : stale) std::filesystem::remove(file, ignored);
  // The process id, since two processes may by mistake write to one file.
  return path.string().append(mark) + std::to_string(::getpid());
}

void write_atomically(const std::filesystem::path& path, std::string_view contents) {
  const std::filesystem::path temporary = temporary_beside(path);
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
