#include "formats/atomic_file.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("Files are written whole, and failures name the file") {
  const TempDir dir;
  olmoe::write_atomically(dir.path() / "file", "one");
  olmoe::write_atomically(dir.path() / "file", "two");
  CHECK(read(dir.path() / "file") == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);

  // What dead processes left of the file goes, what a living one writes stays, and so do others'.
  const std::string living = "file.tmp" + std::to_string(::getppid());
  for (const std::string& name :
       {std::string("file.tmp999999999"), std::string("file.tmp999999998"), living,
        std::string("other.tmp999999999"), std::string("file.tmp9x")})
    dir.write(name, "half");
  olmoe::write_atomically(dir.path() / "file", "three");
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    names.insert(entry.path().filename().string());
  CHECK(names == std::set<std::string>{"file", living, "other.tmp999999999", "file.tmp9x"});

  const std::string missing = (dir.path() / "none" / "file").string();
  CHECK(error_of([&] { olmoe::write_atomically(missing, "x"); }) ==
        missing + ": cannot write: No such file or directory");
}
