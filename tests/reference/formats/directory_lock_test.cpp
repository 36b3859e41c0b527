#include "formats/directory_lock.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

std::string error_of_lock(const std::filesystem::path& directory) {
  return error_of([&] { const olmoe::DirectoryLock lock(directory); });
}

}  // namespace

TEST_CASE("A directory has one writer at a time, and no file for it") {
  const TempDir dir;
  const std::string taken =
      dir.path().string() + ": another process writes to it; wait until it has ended";
  std::optional<olmoe::DirectoryLock> lock(std::in_place, dir.path());
  CHECK(error_of_lock(dir.path()) == taken);
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 0);
  lock.reset();
  CHECK(error_of_lock(dir.path()) == "no error");

  CHECK(error_of_lock(dir.path() / "none").ends_with("none: No such file or directory"));
  CHECK(error_of_lock(dir.write("file", "")).ends_with("file: Not a directory"));
}

TEST_CASE("A process that is killed leaves no lock") {
  const TempDir dir;
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    const olmoe::DirectoryLock lock(dir.path());
    [[maybe_unused]] const ssize_t n = ::write(pipe[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char locked = 0;
  REQUIRE(::read(pipe[0], &locked, 1) == 1);
  CHECK(error_of_lock(dir.path()) != "no error");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(error_of_lock(dir.path()) == "no error");
  ::close(pipe[0]);
  ::close(pipe[1]);
}
