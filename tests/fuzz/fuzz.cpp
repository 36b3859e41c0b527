#include "fuzz/fuzz.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <map>

#include "reference/temp_dir.hpp"

namespace fuzz {

const std::filesystem::path& scratch() {
  static const TempDir directory;
  return directory.path();
}

std::filesystem::path file_of(const std::string& name, std::string_view contents) {
  std::filesystem::path path = scratch() / name;
  overwrite(path, contents);
  return path;
}

void overwrite(const std::filesystem::path& path, std::string_view contents) {
  static std::map<std::filesystem::path, int> open_files;
  const auto [found, fresh] = open_files.try_emplace(path, -1);
  if (fresh) found->second = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int file = found->second;
  require(::ftruncate(file, 0) == 0, "a file of the harness can be written");
  require(
      ::pwrite(file, contents.data(), contents.size(), 0) == static_cast<ssize_t>(contents.size()),
      "a file of the harness can be written");
}

}  // namespace fuzz
