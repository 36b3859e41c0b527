#include "mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include "error.hpp"

namespace olmoe {
namespace {

struct FileDescriptor {
  int fd;
  explicit FileDescriptor(int opened) : fd(opened) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto fail = [&](const std::string& fact) { throw Error(path.string() + ": " + fact); };
  const auto fail_errno = [&] { fail(std::generic_category().message(errno)); };

  if (path.native().find('\0') != std::string::npos) fail("no file has a NUL byte in its name");
  std::error_code ignored;
  if (std::filesystem::is_symlink(path, ignored) && !std::filesystem::exists(path, ignored)) {
    fail("is a link to " + quote(std::filesystem::read_symlink(path, ignored).string()) +
         ", which does not exist: copy the file itself, too");
  }
  // O_NONBLOCK: a named pipe is to be refused, not waited for.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) fail_errno();
  struct stat status;
  if (::fstat(file.fd, &status) != 0) fail_errno();
  if (S_ISDIR(status.st_mode)) fail("is a directory, not a file");
  if (!S_ISREG(status.st_mode)) fail("not a regular file");
  if (status.st_size == 0) return;  // which mmap refuses

  const auto size = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED) fail_errno();
    // Where kernel and file system can (Linux 6.16 with ext4, for one), pages read from now on are
    // of 2 MiB: read from disk faster, and in fewer pages to find. A hint, so whatever comes of it.
#ifdef MADV_HUGEPAGE
  ::madvise(address, size, MADV_HUGEPAGE);
#endif
  bytes_ = {static_cast<const std::byte*>(address), size};

  const std::string_view text(static_cast<const char*>(address), size);
  if (size < 1024 && text.starts_with("version https://git-lfs.github.com/spec/")) {
    ::munmap(address, size);
    fail("is a git-lfs pointer, not the file itself: run `git lfs pull` where it came from");
  }
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace olmoe
