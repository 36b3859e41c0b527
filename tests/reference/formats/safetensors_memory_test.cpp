// What it costs to open files with large headers, sound or made to be costly.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <fstream>
#include <string>

#include "formats/safetensors.hpp"
#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/temp_dir.hpp"
#include "sanitizers.hpp"

namespace {

using olmoe::SafetensorsFile;

/// The process' peak of memory since it was last asked for, in bytes.
std::size_t peak() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line) && !line.starts_with("VmHWM:")) {
  }
  std::ofstream("/proc/self/clear_refs") << '5';
  return 1024 *
         std::stoull("0" + line.substr(std::min(line.find_first_of("123456789"), line.size())));
}

/// Opens a file of this header and calls check(file). Opening it takes less memory than three times
/// the header, which is mapped and so counts, and 4 MiB, and time in proportion. Returns the
/// message of the Error if there is one, without the path.
template <class Check>
std::string open_large(const std::string& header, const Check& check) {
  const TempDir dir;
  const std::string path = dir.write("x.safetensors", file_with(header, "")).string();
  peak();
  const std::size_t before = peak();
  const std::clock_t start = std::clock();
  const std::string message = error_of([&] {
    const SafetensorsFile file(path);
    check(file);
  });
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const std::size_t taken = peak() - before;
  MESSAGE(seconds << " s, " << taken / 1024 << " KiB for a header of " << header.size() / 1024
                  << " KiB");
  // A parser that was quadratic took more than 1000 s; the slowest build takes some 5, or some 50
  // under a sanitizer on a machine with other work.
  CHECK(seconds < 30 * test::stride_of_cases);
  CHECK(before > 0);
#if !defined(FDROUTE_ADDRESS_SANITIZER) && !defined(FDROUTE_THREAD_SANITIZER)
  CHECK(taken < 3 * header.size() + (4 << 20));
#endif
  return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
}

std::string open_large(const std::string& header) {
  return open_large(header, [](const SafetensorsFile&) {});
}

/// A header of one tensor t and of metadata, given as JSON.
std::string header_with(const std::string& shape, const std::string& metadata) {
  return R"({"__metadata__":)" + metadata + R"(,"t":)" + entry("U8", shape, "[0,0]") + "}";
}

constexpr std::size_t costly_size = 40'000'000;

}  // namespace

TEST_CASE("a header of 200,000 tensors") {
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i) {
    header += (i == 0 ? "\"" : ",\"") + ("model.layers.0.mlp.experts." + std::to_string(i)) +
              "\":" + entry("BF16", "[0,2048]", "[0,0]");
  }
  CHECK(open_large(header + "}", [](const SafetensorsFile& file) {
          CHECK(file.size() == 200'000);
          CHECK(file.at("model.layers.0.mlp.experts.123456").shape == olmoe::Shape{0, 2048});
        }) == "no error");
}

TEST_CASE("a header of tensors with short names and as many axes as they may have") {
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
              "\":" + entry("U8", "[0,1,2,3,4,5,6,7]", "[0,0]");
  }
  CHECK(open_large(header + "}", [](const SafetensorsFile& file) {
          CHECK(file.at("123456").shape == olmoe::Shape{0, 1, 2, 3, 4, 5, 6, 7});
        }) == "no error");
}

TEST_CASE("a header of long metadata") {
  std::string metadata = "{";
  for (int i = 0; i < 10'000; ++i)
    metadata +=
        (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":")" + std::string(2000, 'x') + '"';
  CHECK(open_large(header_with("[0]", metadata + "}"), [](const SafetensorsFile& file) {
          CHECK(file.metadata().size() == 10'000);
          CHECK(file.metadata().at("1234") == std::string(2000, 'x'));
        }) == "no error");
}

TEST_CASE("refused: a shape of millions of axes") {
  std::string shape = "[0";
  while (shape.size() < costly_size) shape += ",0";
  CHECK(open_large(header_with(shape + "]", "{}")) == "'t': an array of more than 8 elements");
}

TEST_CASE("refused: metadata of millions of entries") {
  std::string metadata = R"({"k":"v")";
  for (int i = 0; metadata.size() < costly_size; ++i)
    metadata += ",\"" + std::to_string(i) + R"(":"v")";
  CHECK(open_large(header_with("[0]", metadata + "}")) ==
        "'__metadata__': an object of more than 10000 members");
}

TEST_CASE("refused: a string or a number of millions of bytes") {
  const std::string refused = "a string or number of more than 1000000 bytes";
  const std::string in_metadata = "'__metadata__': " + refused;
  CHECK(open_large(header_with("[0]", R"({"k":")" + std::string(costly_size, 'v') + "\"}")) ==
        in_metadata);
  CHECK(open_large(header_with("[0]", R"({"k":")" + std::string(costly_size, '\\') + "\"}")) ==
        in_metadata);
  CHECK(open_large(header_with("[" + std::string(costly_size, '1') + "]", "{}")) ==
        "'t': " + refused);
  CHECK(open_large("{\"" + std::string(costly_size, 'n')) == refused);
}

TEST_CASE("the limits are what a header may just have") {
  const auto metadata = [](std::size_t entries, std::size_t bytes) {
    std::string text = R"({"k":")" + std::string(bytes - 2, 'v') + '"';
    for (std::size_t i = 1; i < entries; ++i) text += ",\"" + std::to_string(i) + R"(":"")";
    return text + "}";
  };
  CHECK(open_large(header_with("[0,0,0,0,0,0,0,0]", metadata(10'000, 1'000'000))) == "no error");
  CHECK(open_large(header_with("[0,0,0,0,0,0,0,0,0]", metadata(1, 1'000'000))) ==
        "'t': an array of more than 8 elements");
  CHECK(open_large(header_with("[0]", metadata(10'001, 1'000'000))) ==
        "'__metadata__': an object of more than 10000 members");
  CHECK(open_large(header_with("[0]", metadata(1, 1'000'001))) ==
        "'__metadata__': a string or number of more than 1000000 bytes");
}
