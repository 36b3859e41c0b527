#include "formats/checkpoint.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/temp_dir.hpp"

namespace {

using olmoe::Checkpoint;
using olmoe::NamedTensor;
using olmoe::Tensor;
using olmoe::write_safetensors;

static_assert(!std::is_copy_constructible_v<Checkpoint>);
static_assert(std::is_nothrow_move_constructible_v<Checkpoint>);

}  // namespace

TEST_CASE("a checkpoint of one file") {
  const TempDir dir;
  const auto path = write_some(dir.path(), "model.safetensors");
  const auto checkpoint = Checkpoint(dir.path());
  CHECK(checkpoint.files() == std::vector{path});
  CHECK(checkpoint.names() == std::vector<std::string>{"t"});
  CHECK(checkpoint.contains("t"));
  CHECK_FALSE(checkpoint.contains("u"));
  CHECK(checkpoint.total_bytes() == 24);
  CHECK(checkpoint.at("t", {2, 3}).to_float() == some_floats);
  CHECK(error_of([&] { checkpoint.at("u", {1}); }) == path.string() + ": no tensor 'u'");
  CHECK(error_of([&] { checkpoint.at("t", {6}); }) ==
        path.string() + ": tensor 't' has shape [2,3], expected [6]");
}

TEST_CASE("a checkpoint of shards") {
  const TempDir dir;
  const auto index = dir.write("model.safetensors.index.json", R"({
    "metadata": {"total_size": 48},
    "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}
  })");
  const auto one = write_some(dir.path(), "one.safetensors", "a");
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        index.string() + ": the shard 'two.safetensors' is missing");

  const auto two = write_some(dir.path(), "two.safetensors", "c");
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        two.string() + ": no tensor 'b', which model.safetensors.index.json places there");

  // What the index does not name counts, too: once.
  write_safetensors(
      two, {NamedTensor::of("b", {2, 3}, some_floats), NamedTensor::of("a", {2, 3}, some_floats)});
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        one.string() + ": tensor 'a': is in 'two.safetensors', too");
  write_safetensors(two, {NamedTensor::of("b", {2, 3}, some_floats),
                          NamedTensor::of("unnamed", {2, 3}, some_floats)});
  CHECK(Checkpoint(dir.path()).names() == std::vector<std::string>{"a", "b", "unnamed"});

  write_some(dir.path(), "two.safetensors", "b");
  auto opened = Checkpoint(dir.path());
  const Tensor tensor = opened.at("b");
  const Checkpoint checkpoint = std::move(opened);
  CHECK(checkpoint.at("b", {2, 3}).bytes.data() == tensor.bytes.data());
  CHECK(tensor.to_float() == some_floats);
  CHECK(checkpoint.files() == std::vector{one, two});
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b"});
  CHECK(checkpoint.total_bytes() == 48);
  CHECK(error_of([&] { checkpoint.at("c"); }) == index.string() + ": no tensor 'c'");

  dir.write("two.safetensors", "short");
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        two.string() + ": not a safetensors file: only 5 bytes");
}

TEST_CASE("refused: a directory without weights") {
  const TempDir dir;
  const std::string none = (dir.path() / "none").string();
  CHECK(error_of([&] { Checkpoint{none}; }) == none + ": no such directory");
  const std::string file = dir.write("file", "").string();
  CHECK(error_of([&] { Checkpoint{file}; }) == file + ": not a directory");
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        dir.path().string() + ": has neither model.safetensors nor model.safetensors.index.json");
}

TEST_CASE("refused: an index without a usable weight_map") {
  const TempDir dir;
  const auto index_error = [&](const std::string& text) {
    const std::string path = dir.write("model.safetensors.index.json", text).string();
    const std::string message = error_of([&] { Checkpoint{dir.path()}; });
    REQUIRE(message.starts_with(path + ": "));
    return message.substr(path.size() + 2);
  };
  const std::string no_map = "has no 'weight_map' from tensor names to file names";
  CHECK(index_error("[]") == no_map);
  CHECK(index_error("{}") == no_map);
  CHECK(index_error(R"({"weight_map":[]})") == no_map);
  CHECK(index_error(R"({"weight_map":{}})") == no_map);
  CHECK(index_error("{").starts_with("bad JSON: "));
  CHECK(index_error(R"({"weight_map":{"a":"x","a":"y"}})") == "repeated key 'a'");
  for (const std::string shard :
       {"7", "\"\"", "\".\"", "\"..\"", "\"../x.safetensors\"", "\"sub/x\"", "\"/x\"", "\"x/\""}) {
    CHECK(index_error(R"({"weight_map":{"a":)" + shard + "}}") ==
          "places tensor 'a' in " + shard + ", no plain file name");
  }
}

TEST_CASE("refused: weights that are a link to nothing") {
  const TempDir dir;
  const std::string link = (dir.path() / "model.safetensors").string();
  std::filesystem::create_symlink("../blobs/x", link);
  CHECK(error_of([&] { Checkpoint{dir.path()}; }) ==
        link + ": is a link to '../blobs/x', which does not exist: copy the file itself, too");
}
