#include "formats/safetensors_writer.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "formats/safetensors.hpp"
#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/temp_dir.hpp"

namespace {

using olmoe::Half;
using olmoe::NamedTensor;
using olmoe::SafetensorsFile;
using olmoe::Shape;
using olmoe::write_safetensors;

}  // namespace

TEST_CASE("the writer aligns every tensor and does not depend on their order") {
  const TempDir dir;
  const auto path = dir.path() / "x.safetensors";
  const std::vector<std::uint8_t> a = {1};
  const std::vector<Half> b = {{0x3c00}};
  write_safetensors(path, {NamedTensor::of("a", {1}, a), NamedTensor::of("b", {1}, b)});
  const auto text = [&] {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string first = text();
  std::string header = R"({"a":{"data_offsets":[2,3],"dtype":"U8","shape":[1]},)"
                       R"("b":{"data_offsets":[0,2],"dtype":"F16","shape":[1]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(first == file_with(header, std::string("\x00\x3c\x01", 3)));
  write_safetensors(path, {NamedTensor::of("b", {1}, b), NamedTensor::of("a", {1}, a)});
  CHECK(text() == first);

  write_safetensors(path, {});
  CHECK(text() == file_with("{}      ", ""));
  CHECK(SafetensorsFile(path).names().empty());
}

TEST_CASE("the writer refuses what it could not read back") {
  const TempDir dir;
  const auto path = dir.path() / "x.safetensors";
  const auto write_error = [&](const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata = {}) {
    const std::string message = error_of([&] { write_safetensors(path, tensors, metadata); });
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(std::filesystem::is_empty(dir.path()));
    return message.substr(std::min(message.size(), path.string().size()));
  };
  const auto tensor = [](std::string name, Shape shape) {
    return NamedTensor::of(std::move(name), std::move(shape), some_floats);
  };
  CHECK(write_error({tensor("t", {6}), tensor("t", {6})}) == ": tensor 't': given twice");
  CHECK(write_error({tensor("__metadata__", {6})}) ==
        ": tensor '__metadata__': the name is reserved");
  CHECK(write_error({tensor("t", {5})}) == ": tensor 't': F32 x [5] does not take 24 bytes");
  CHECK(write_error({tensor("t", {-2, -3})}) ==
        ": tensor 't': F32 x [-2,-3] does not take 24 bytes");
  CHECK(write_error({tensor("\xff", {6})}) == ": a tensor name or metadata that is not UTF-8");
  CHECK(write_error({NamedTensor::of("t", {1, 1, 1, 1, 1, 1, 1, 2, 3}, some_floats)}) ==
        ": 't': an array of more than 8 elements");
  CHECK(write_error({}, {{"k", std::string(1'000'000, 'v')}}) ==
        ": '__metadata__': a string or number of more than 1000000 bytes");
  CHECK(write_error({}, {{"k", "\xff"}}) == ": a tensor name or metadata that is not UTF-8");
}

TEST_CASE("a failing write says so and leaves what was there") {
  const TempDir dir;
  const std::string nowhere = (dir.path() / "none" / "x").string();
  CHECK(error_of([&] { write_safetensors(nowhere, {}); }) ==
        nowhere + ": cannot create the file: No such file or directory");

  std::filesystem::create_directory(dir.path() / "taken");
  const std::string taken = (dir.path() / "taken").string();
  CHECK(error_of([&] { write_safetensors(taken, {}); }) ==
        taken + ": is no regular file, and is not replaced by one");

  // A full disk, as a limit on the size of files. Nothing else may write meanwhile.
  const auto path = write_some(dir.path(), "x.safetensors");
  const std::vector<float> large(1 << 20);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1 << 20, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  const std::string message =
      error_of([&] { write_safetensors(path, {NamedTensor::of("t", {1 << 20}, large)}); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(message == path.string() + ": cannot write the file: File too large");
  CHECK(SafetensorsFile(path).at("t").to_float() == some_floats);
  for (const auto& file : std::filesystem::directory_iterator(dir.path())) {
    CHECK(file.path().string().find(".tmp") == std::string::npos);
  }
}
