#include "formats/temporary_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "formats/error.hpp"

namespace olmoe {
namespace {

constexpr std::string_view temporary_suffix = ".tmp";

[[noreturn]] void fail(const std::filesystem::path& path, int code) {
  throw Error(path.string() + ": cannot write: " + std::generic_category().message(code));
}

/// The process that has the temporary file `name` of a file `of`, or 0.
::pid_t owner_of(std::string_view name, std::string_view of) {
  if (!name.starts_with(of) || !name.substr(of.size()).starts_with(temporary_suffix)) return 0;
  const std::string_view digits = name.substr(of.size() + temporary_suffix.size());
  ::pid_t process = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), process);
  return error == std::errc{} && end == digits.data() + digits.size() ? process : 0;
}

std::filesystem::path directory_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : ".";
}

void remove_stale(const std::filesystem::path& target) {
  const std::string name = target.filename().string();
  std::vector<std::filesystem::path> stale;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory_of(target), ignored)) {
    const ::pid_t owner = owner_of(entry.path().filename().string(), name);
    if (owner > 0 && ::kill(owner, 0) != 0 && errno == ESRCH) stale.push_back(entry.path());
  }
  for (const std::filesystem::path& file : stale) std::filesystem::remove(file, ignored);
}

/// Writes a file or directory to the disk; 0 or errno.
int synchronise(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  const int code = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return code;
}

/// Names for a signal handler, in memory that is never freed. Those for which there is no place, or
/// that are too long, it leaves behind.
struct Place {
  std::atomic<bool> taken;
  std::atomic<bool> ready;
  std::array<char, 4096> name;
};
std::array<Place, 16> places;

std::size_t take_place(const std::string& name) {
  for (std::size_t i = 0; i < places.size(); ++i) {
    Place& place = places[i];
    bool free = false;
    if (name.size() >= place.name.size() || !place.taken.compare_exchange_strong(free, true))
      continue;
    std::copy(name.begin(), name.end() + 1, place.name.begin());  // with its NUL
    place.ready = true;
    return i;
  }
  return places.size();
}

struct Ending {
  int signal;
  std::string_view line;
};
constexpr std::array endings{
    Ending{SIGINT, "olmoe: ended by SIGINT; finished files are kept\n"},
    Ending{SIGTERM, "olmoe: ended by SIGTERM; finished files are kept\n"},
    Ending{SIGHUP, "olmoe: ended by SIGHUP; finished files are kept\n"},
    Ending{SIGPIPE, "olmoe: ended by SIGPIPE; finished files are kept\n"},
};

// Calls only what a signal's handler may call (POSIX, 2.4.3).
[[noreturn]] void end(std::string_view line, int code) {
  for (const Place& place : places)
    if (place.ready) ::unlink(place.name.data());
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(code);
}

void on_signal(int signal) {
  for (const Ending& ending : endings)
    if (ending.signal == signal) end(ending.line, 128 + signal);
}

}  // namespace

TemporaryFile::TemporaryFile(const std::filesystem::path& target) : target_(target) {
  if (target.filename().empty()) throw Error(quote(target.string()) + " names no file to write");
  std::error_code none;
  const auto status = std::filesystem::status(target, none);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(target.string() + ": is no regular file, and is not replaced by one");
  remove_stale(target);
  // The process id, since two processes may by mistake write to one file.
  path_ = target.string().append(temporary_suffix) + std::to_string(::getpid());
  place_ = take_place(path_.string());
}

TemporaryFile::~TemporaryFile() {
  ::unlink(path_.c_str());  // there is none if it was renamed
  if (place_ == places.size()) return;
  places[place_].ready = false;
  places[place_].taken = false;
}

void TemporaryFile::replace() const {
  if (const int code = synchronise(path_); code != 0) fail(target_, code);
  if (std::rename(path_.c_str(), target_.c_str()) != 0) fail(target_, errno);
  synchronise_directory(directory_of(target_));
}

void synchronise_directory(const std::filesystem::path& directory) {
  const int code = synchronise(directory);
  // Some file systems have no such thing.
  if (code != 0 && code != EINVAL && code != ENOTSUP) fail(directory, code);
}

void tidy_when_ended() {
  std::set_new_handler([] { end("olmoe: out of memory\n", 1); });
  for (const Ending& ending : endings) {
    struct sigaction action {};
    if (::sigaction(ending.signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = on_signal;
    ::sigaction(ending.signal, &action, nullptr);
  }
}

}  // namespace olmoe
