#include "formats/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "formats/error.hpp"
#include "formats/temporary_file.hpp"

namespace olmoe {

void write_atomically(const std::filesystem::path& path, std::string_view contents) {
  const TemporaryFile temporary(path);
  const auto fail = [&](int code) {
    throw Error(path.string() + ": cannot write: " + std::generic_category().message(code));
  };
  const int file = ::open(temporary.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) fail(errno);
  while (!contents.empty()) {
    const ssize_t written = ::write(file, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int code = errno;
      ::close(file);
      fail(code);
    }
    contents.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::close(file) != 0) fail(errno);
  temporary.replace();
}

void make_directories(const std::filesystem::path& path) {
  std::error_code error;
  std::vector<std::filesystem::path> fresh;
  for (auto missing = path; !missing.empty() && !std::filesystem::exists(missing, error);
       missing = missing.parent_path())
    fresh.push_back(missing);
  std::filesystem::create_directories(path, error);
  if (error) throw Error(path.string() + ": cannot make this directory: " + error.message());
  for (const std::filesystem::path& directory : fresh)
    synchronise_directory(directory.has_parent_path() ? directory.parent_path() : ".");
}

}  // namespace olmoe
