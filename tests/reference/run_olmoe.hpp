#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "reference/temp_dir.hpp"

/// The program `olmoe` run as its user runs it.

inline const std::filesystem::path source_dir = FDROUTE_SOURCE_DIR;
inline const std::filesystem::path nano = source_dir / "reference/model";
inline const std::filesystem::path plain = source_dir / "tests/data/tiny/plain";

inline std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

/// `environment` holds assignments, "OMP_NUM_THREADS=2". A run of more than ten minutes fails.
inline Outcome run_olmoe(const std::vector<std::string>& arguments,
                         const std::string& environment = "") {
  const TempDir streams;
  std::ostringstream command;
  // As if the shell that runs the tests had set none of them.
  command << "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT -u KMP_BLOCKTIME " << environment
          << " timeout 600 ";
  const auto quote = [&](const std::string& word) {
    command << '\'';
    for (const char c : word) command << (c == '\'' ? std::string("'\\''") : std::string(1, c));
    command << "' ";
  };
  quote(FDROUTE_OLMOE);
  for (const std::string& argument : arguments) quote(argument);
  command << ">'" << (streams.path() / "out").string() << "' 2>'"
          << (streams.path() / "err").string() << "'";
  const int status = std::system(command.str().c_str());
  REQUIRE(WIFEXITED(status));
  return {WEXITSTATUS(status), read(streams.path() / "out"), read(streams.path() / "err")};
}

/// Exit code `code`, nothing on stdout, and one line on stderr that holds all `facts`.
inline void check_error(const std::vector<std::string>& arguments, int code,
                        const std::vector<std::string>& facts) {
  const Outcome outcome = run_olmoe(arguments);
  CAPTURE(outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.starts_with("olmoe: "));
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  for (const std::string& fact : facts) {
    CAPTURE(fact);
    CHECK(outcome.err.find(fact) != std::string::npos);
  }
}
