#include "formats/regular_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "formats/error.hpp"

namespace olmoe {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& fact) {
  throw Error(path.string() + ": " + fact);
}

}  // namespace

RegularFile::RegularFile(const std::filesystem::path& path)
    // O_NONBLOCK: to open a named pipe would wait for whoever writes to it.
    : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), status_{} {
  const int error = errno;
  const auto refuse = [&](const std::string& fact) {
    if (descriptor_ >= 0) ::close(descriptor_);
    fail(path, fact);
  };
  if (path.native().find('\0') != std::string::npos) refuse("no file has a NUL byte in its name");
  std::error_code ignored;
  if (descriptor_ < 0 && error == ENOENT && std::filesystem::is_symlink(path, ignored)) {
    refuse("is a link to " + quote(std::filesystem::read_symlink(path, ignored).string()) +
           ", which does not exist: copy the file itself, too");
  }
  if (descriptor_ < 0) refuse(std::generic_category().message(error));
  if (::fstat(descriptor_, &status_) != 0) refuse(std::generic_category().message(errno));
  if (S_ISDIR(status_.st_mode)) refuse("is a directory, not a file");
  if (!S_ISREG(status_.st_mode)) refuse("not a regular file");
}

RegularFile::RegularFile(RegularFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), status_(other.status_) {}

RegularFile& RegularFile::operator=(RegularFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(status_, other.status_);
  return *this;
}

RegularFile::~RegularFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool is_unchanged(const std::filesystem::path& path, const struct stat& status) {
  struct stat now;
  return ::stat(path.c_str(), &now) == 0 && now.st_dev == status.st_dev &&
         now.st_ino == status.st_ino && now.st_size == status.st_size &&
         now.st_mtim.tv_sec == status.st_mtim.tv_sec &&
         now.st_mtim.tv_nsec == status.st_mtim.tv_nsec;
}

std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
  const RegularFile file(path);
  // Some files of /proc claim to have no bytes, so the limit holds for what is read.
  const auto check = [&](std::uint64_t bytes) {
    if (bytes > limit) fail(path, "has more than " + std::to_string(limit) + " bytes");
  };
  check(file.size());
  std::string contents;
  contents.reserve(static_cast<std::size_t>(file.size()));
  std::array<char, 1 << 16> block;
  while (true) {
    const ssize_t n = ::read(file.descriptor(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, std::generic_category().message(errno));
    if (n == 0) return contents;
    contents.append(block.data(), static_cast<std::size_t>(n));
    check(contents.size());
  }
}

}  // namespace olmoe
