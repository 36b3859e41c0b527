// Runs fuzz targets without a fuzzer, by any compiler: on files, on folders, on packs of inputs, or
// on what chance makes of them. An input on which a target fails is written to ./fuzz_fault.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/fuzz.hpp"

namespace {

namespace fs = std::filesystem;

// A pack is a file of inputs, each after its length: 4 bytes, the lowest first.
constexpr std::string_view pack_suffix = ".pack";

std::string contents_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  fuzz::require(static_cast<bool>(in), "an input can be read");
  return bytes;
}

std::vector<fs::path> files_of(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The inputs that a file holds: of a pack all in it, of another file the file.
std::vector<std::string> inputs_of(const fs::path& file) {
  const std::string bytes = contents_of(file);
  if (file.extension() != pack_suffix) return {bytes};
  std::vector<std::string> inputs;
  for (fuzz::Source source(bytes); !source.empty();) {
    std::size_t size = 0;
    for (int i = 0; i < 4; ++i) size |= static_cast<std::size_t>(source.byte()) << 8 * i;
    inputs.emplace_back(source.take(size));
    fuzz::require(inputs.back().size() == size, "a pack is whole");
  }
  return inputs;
}

std::size_t replay(const fuzz::Target& target, const fs::path& path) {
  std::size_t n = 0;
  for (const fs::path& file : files_of(path)) {
    std::fprintf(stderr, "%.*s %s\n", static_cast<int>(target.name.size()), target.name.data(),
                 file.c_str());
    for (const std::string& input : inputs_of(file)) {
      target.run(input);
      ++n;
    }
  }
  return n;
}

/// All inputs of the folder tests/fuzz: corpus/TARGET.pack and regression/TARGET/.
int replay_all(const fs::path& folder) {
  for (const fuzz::Target& target : fuzz::targets()) {
    const std::string name(target.name);
    const std::size_t corpus = replay(target, folder / "corpus" / (name + ".pack"));
    fuzz::require(corpus > 0, "a target has a corpus");
    const fs::path regression = folder / "regression" / name;
    const std::size_t faults = fs::exists(regression) ? replay(target, regression) : 0;
    std::printf("%-12s %5zu inputs, %3zu former faults\n", name.c_str(), corpus, faults);
  }
  return 0;
}

/// splitmix64
std::uint64_t next(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E37'79B9'7F4A'7C15U;
  z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9U;
  z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EBU;
  return z ^ (z >> 31);
}

/// Changes an input as a fuzzer does, but blindly: bytes, pieces, and what stands in another input.
void mutate(std::string& input, const std::vector<std::string>& inputs, std::uint64_t& seed) {
  constexpr std::size_t longest = 4096;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(next(seed) % n); };
  for (std::size_t changes = 1 + below(6); changes > 0; --changes) {
    const std::size_t at = below(input.size() + 1);
    const std::size_t n = std::min(input.size() - at, std::size_t{1} << below(6));
    switch (below(7)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(next(seed));
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << below(8));
        break;
      case 2:
        input.insert(at, 1, "\"\\{}[],:0195-e.\n \xff"[below(19)]);
        break;
      case 3:
        input.erase(at, n);
        break;
      case 4:
        input.insert(at, input.substr(below(input.size() + 1), n));
        break;
      case 5: {
        const std::string& other = inputs[below(inputs.size())];
        input.insert(at, other.substr(below(other.size() + 1), std::size_t{1} << below(8)));
        break;
      }
      default: {
        constexpr std::array<std::string_view, 8> words{
            "null", "true", "1e999", "-1", "18446744073709551615", "\\u0000", "[[", "0.5"};
        input.insert(at, words[below(words.size())]);
      }
    }
  }
  if (input.size() > longest) input.resize(longest);
}

std::string current;  // the input that a target is given

void write_fault(int signal) {
  const int file = ::open("fuzz_fault", O_WRONLY | O_CREAT | O_TRUNC, 0666);
  [[maybe_unused]] const ssize_t n = ::write(file, current.data(), current.size());
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// For as many inputs, or seconds, as `amount` says: "1000", "60s".
int run_random(const fuzz::Target& target, const std::string& amount, std::uint64_t seed,
               const std::vector<std::string>& files) {
  using Clock = std::chrono::steady_clock;
  const bool timed = amount.ends_with('s');
  const std::uint64_t limit = number(amount);
  const auto end = Clock::now() + std::chrono::seconds(timed ? limit : 0);
  std::vector<std::string> inputs{std::string(64, '\0')};
  for (const std::string& path : files)
    for (const fs::path& file : files_of(path))
      for (std::string& input : inputs_of(file)) inputs.push_back(std::move(input));
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::signal(signal, write_fault);
  std::uint64_t n = 0;
  for (; timed ? n % 64 != 0 || Clock::now() < end : n < limit; ++n) {
    current = inputs[static_cast<std::size_t>(next(seed) % inputs.size())];
    if (files.empty()) {
      for (char& byte : current) byte = static_cast<char>(next(seed));
    } else {
      mutate(current, inputs, seed);
    }
    target.run(current);
  }
  std::printf("%.*s: %llu random inputs\n", static_cast<int>(target.name.size()),
              target.name.data(), static_cast<unsigned long long>(n));
  for (const auto& [what, count] : fuzz::tallies())
    std::printf("%s: %llu\n", what.c_str(), static_cast<unsigned long long>(count));
  return 0;
}

int pack(const fs::path& folder, const fs::path& to) {
  std::ofstream out(to, std::ios::binary);
  for (const fs::path& file : files_of(folder)) {
    const std::string bytes = contents_of(file);
    for (int i = 0; i < 4; ++i) out.put(static_cast<char>(bytes.size() >> 8 * i & 0xFF));
    out << bytes;
  }
  fuzz::require(static_cast<bool>(out.flush()), "a pack can be written");
  return 0;
}

int unpack(const fs::path& from, const fs::path& folder) {
  fs::create_directories(folder);
  std::size_t number = 0;
  for (const std::string& input : inputs_of(from)) {
    std::ofstream out(folder / ("input" + std::to_string(number++)), std::ios::binary);
    out << input;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::size_t n = arguments.size();
  if (n == 2 && arguments[0] == "all") return replay_all(arguments[1]);
  if (n == 3 && arguments[0] == "pack") return pack(arguments[1], arguments[2]);
  if (n == 3 && arguments[0] == "unpack") return unpack(arguments[1], arguments[2]);
  for (const fuzz::Target& target : fuzz::targets()) {
    if (n < 2 || target.name != arguments[0]) continue;
    if (n >= 4 && arguments[1] == "random")
      return run_random(target, arguments[2], number(arguments[3]),
                        {arguments.begin() + 4, arguments.end()});
    for (std::size_t i = 1; i < n; ++i) replay(target, arguments[i]);
    return 0;
  }
  std::fprintf(
      stderr,
      "usage: fuzz_replay all FOLDER | TARGET FILE|FOLDER... | TARGET random N|SECONDSs SEED "
      "[FILE|FOLDER...]\n"
      "       fuzz_replay pack FOLDER FILE.pack | unpack FILE.pack FOLDER\ntargets:");
  for (const fuzz::Target& target : fuzz::targets())
    std::fprintf(stderr, " %s", std::string(target.name).c_str());
  std::fprintf(stderr, "\n");
  return 2;
}
