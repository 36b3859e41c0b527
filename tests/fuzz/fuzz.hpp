#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/error.hpp"

/// What a fuzz target is written with. A target is a function of bytes, FUZZ_TARGET(name). Whatever
/// they are, it ends normally: a crash, a sanitizer's report or a require() that does not hold is a
/// fault of the code under test.
namespace fuzz {

/// A target as the replaying program knows it.
struct Target {
  std::string_view name;
  void (*run)(std::string_view input);
};

/// All targets that are linked in.
inline std::vector<Target>& targets() {
  static std::vector<Target> all;
  return all;
}

#ifdef FDROUTE_LIBFUZZER
#define FUZZ_TARGET(name)                                                             \
  static void fuzz_##name(std::string_view input);                                    \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);  \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
    fuzz_##name({reinterpret_cast<const char*>(data), size});                         \
    return 0;                                                                         \
  }                                                                                   \
  static void fuzz_##name(std::string_view input)
#else
#define FUZZ_TARGET(name)                                      \
  static void fuzz_##name(std::string_view input);             \
  [[maybe_unused]] static const bool fuzz_has_##name =         \
      (fuzz::targets().push_back({#name, fuzz_##name}), true); \
  static void fuzz_##name(std::string_view input)
#endif

/// Ends the process, as a sanitizer does, unless `holds`.
inline void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: does not hold: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// Counts what a target has done, for the replaying program to tell.
inline std::map<std::string, std::uint64_t>& tallies() {
  static std::map<std::string, std::uint64_t> all;
  return all;
}

inline void tally(const std::string& what, std::uint64_t n) {
  tallies()[what] += n;
}

/// Whether a text is what a message must be: one printable line of UTF-8, at most `limit` bytes.
inline bool is_message(std::string_view text, std::size_t limit) {
  if (text.empty() || text.size() > limit) return false;
  while (!text.empty()) {
    const std::size_t length = fdroute::detail::printable_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

/// Whether `action` ends without an olmoe::Error. Its message must be sound and, unless `about` is
/// empty, contain it; any other exception is a fault.
template <class Action>
bool accepted(Action&& action, std::string_view about = {}) {
  try {
    action();
    return true;
  } catch (const olmoe::Error& error) {
    require(is_message(error.what(), olmoe::message_limit), error.what());
    require(std::string_view(error.what()).find(about) != std::string_view::npos, error.what());
  } catch (const std::exception& error) {
    require(false, error.what());
  }
  return false;
}

/// Numbers and texts from the front of an input; zeros when it is used up.
class Source {
 public:
  explicit Source(std::string_view input) : rest_(input) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  template <class T>
  T number() {
    T value{};
    const std::string_view bytes = take(sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  std::uint8_t byte() { return number<std::uint8_t>(); }

  /// In [0, n).
  int below(int n) { return number<std::uint16_t>() % n; }

  /// Up to `n` bytes.
  std::string_view take(std::size_t n) {
    const std::string_view front = rest_.substr(0, n);
    rest_.remove_prefix(front.size());
    return front;
  }

  /// What stands before the next `separator`, which is taken, too.
  std::string_view until(char separator) {
    const std::string_view front = rest_.substr(0, rest_.find(separator));
    rest_.remove_prefix(std::min(rest_.size(), front.size() + 1));
    return front;
  }

 private:
  std::string_view rest_;
};

/// A directory for files of targets. A TMPDIR in memory makes them fast.
const std::filesystem::path& scratch();

/// The file of this name in scratch(), which now has these contents. It stays open, so that this is
/// faster than to write a new one.
std::filesystem::path file_of(const std::string& name, std::string_view contents);

/// file_of() for any path.
void overwrite(const std::filesystem::path& path, std::string_view contents);

}  // namespace fuzz
