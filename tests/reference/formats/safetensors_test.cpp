#include "formats/safetensors.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/temp_dir.hpp"

namespace {

using olmoe::BFloat16;
using olmoe::DType;
using olmoe::NamedTensor;
using olmoe::SafetensorsFile;
using olmoe::Shape;
using olmoe::Tensor;
using olmoe::write_safetensors;

static_assert(!std::is_copy_constructible_v<SafetensorsFile>);
static_assert(std::is_move_constructible_v<SafetensorsFile>);

// The message for opening a file of these contents, less the path that begins it.
std::string open_error(const std::string& contents) {
  const TempDir dir;
  const auto path = dir.write("x.safetensors", contents);
  const std::string message = error_of([&] { SafetensorsFile{path}; });
  const std::string prefix = path.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

std::string header_error(const std::string& header, const std::string& data = "") {
  return open_error(file_with(header, data));
}

// For a header of the one tensor t, given as JSON.
std::string tensor_error(const std::string& info, const std::string& data = "") {
  const std::string message = header_error(R"({"t":)" + info + "}", data);
  const std::string prefix = "tensor 't': ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

}  // namespace

TEST_CASE("what is written is read back") {
  const TempDir dir;
  const auto path = dir.path() / "x.safetensors";
  const std::vector<BFloat16> brain = {{0x3fc0}, {0xc000}, {0x3e80}};
  const std::vector<std::int64_t> ids = {7, -1, 1LL << 40};
  const std::vector<float> none;
  write_safetensors(
      path,
      {NamedTensor::of("odd", {3}, std::vector<std::uint8_t>{1, 2, 3}),
       NamedTensor::of("brain", {1, 3}, brain), NamedTensor::of("ids", {3}, ids),
       NamedTensor::of("none", {0, 4}, none), NamedTensor::of("floats", {2, 3}, some_floats),
       NamedTensor::of("scalar", {}, std::vector<double>{0.1})},
      {{"format", "pt"}, {"score", "log_softmax"}});

  const auto file = SafetensorsFile(path);
  CHECK(file.path() == path);
  CHECK(file.metadata() ==
        std::map<std::string, std::string>{{"format", "pt"}, {"score", "log_softmax"}});
  CHECK(file.names() ==
        std::vector<std::string>{"brain", "floats", "ids", "none", "odd", "scalar"});
  CHECK(file.contains("ids"));
  CHECK_FALSE(file.contains("id"));

  const Tensor& floats = file.at("floats");
  CHECK(floats.dtype == DType::F32);
  CHECK(floats.shape == Shape{2, 3});
  CHECK(floats.count() == 6);
  CHECK(floats.as<float>()[2] == 0.25F);
  CHECK(floats.to_float() == some_floats);
  CHECK(file.at("brain").as<BFloat16>()[1].bits == 0xc000);
  CHECK(file.at("brain").to_float() == std::vector<float>{1.5F, -2.0F, 0.25F});
  CHECK(file.at("ids").to_int64() == ids);
  CHECK(file.at("scalar").shape.empty());
  CHECK(file.at("scalar").to_double() == std::vector<double>{0.1});
  CHECK(file.at("none").count() == 0);
  CHECK(file.at("none").to_float().empty());
  CHECK(file.at("none").as<float>().empty());
}

TEST_CASE("at names the file, the tensor and both shapes") {
  const TempDir dir;
  const auto path = write_some(dir.path(), "x.safetensors");
  const auto file = SafetensorsFile(path);
  CHECK(file.at("t", {2, 3}).count() == 6);
  CHECK(error_of([&] { file.at("u"); }) == path.string() + ": no tensor 'u'");
  CHECK(error_of([&] {
          file.at("t", {3, 2});
        }) == path.string() + ": tensor 't' has shape [2,3], expected [3,2]");
}

TEST_CASE("a moved file keeps its tensors") {
  const TempDir dir;
  auto file = SafetensorsFile(write_some(dir.path(), "x.safetensors"));
  const Tensor tensor = file.at("t");
  SafetensorsFile moved(std::move(file));
  CHECK(moved.at("t").bytes.data() == tensor.bytes.data());
  CHECK(tensor.to_float() == some_floats);
  auto other = SafetensorsFile(write_some(dir.path(), "y.safetensors", "u"));
  other = std::move(moved);
  CHECK(other.names() == std::vector<std::string>{"t"});
  CHECK(other.at("t").to_float() == some_floats);
}

TEST_CASE("refused: what is no readable file") {
  const TempDir dir;
  const std::string path = (dir.path() / "none").string();
  CHECK(error_of([&] { SafetensorsFile{path}; }) == path + ": No such file or directory");
  CHECK(error_of([&] { SafetensorsFile{dir.path()}; }) ==
        dir.path().string() + ": is a directory, not a file");
  const std::string pipe = (dir.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of([&] { SafetensorsFile{pipe}; }) == pipe + ": not a regular file");
}

TEST_CASE("refused: a bad frame") {
  CHECK(open_error("") == "not a safetensors file: only 0 bytes");
  CHECK(open_error("1234567") == "not a safetensors file: only 7 bytes");
  CHECK(open_error(std::string(8, '\0')) ==
        "not a safetensors file: the header does not begin with '{'");
  CHECK(open_error("This is a text.\n") ==
        "not a safetensors file: a header of 2338328219631577172 bytes, above the format's limit "
        "of 100000000");
  CHECK(open_error(std::string("\xe8\x03\0\0\0\0\0\0{}", 10)) ==
        "the header takes 1000 bytes, but only 2 follow its length (truncated file?)");
  CHECK(header_error(" {}") == "not a safetensors file: the header does not begin with '{'");
  CHECK(header_error("[]") == "not a safetensors file: the header does not begin with '{'");
}

TEST_CASE("refused: other formats, by name") {
  using namespace std::string_literals;
  const std::string rest(60, '\0');
  CHECK(open_error("GGUF\3\0\0\0"s + rest).starts_with("not a safetensors file, but GGUF, "));
  CHECK(open_error("PK\3\4\0\0\x8\x8"s + rest).starts_with("not a safetensors file, but a zip "));
  CHECK(open_error("\x80\2\x8a\nl\xfc\x9c"s + rest)
            .starts_with("not a safetensors file, but a pickle, "));
  CHECK(open_error("\x93NUMPY\1\0"s + rest) == "not a safetensors file, but a NumPy array");
  CHECK(open_error("\x89HDF\r\n\x1a\n"s + rest) == "not a safetensors file, but HDF5");
}

TEST_CASE("refused: a header that is not good JSON") {
  CHECK(header_error("{\"t\":").starts_with("bad JSON: parse error at column "));
  CHECK(header_error("{} x").starts_with("bad JSON: "));
  CHECK(header_error("{\"\xff\":1}").starts_with("bad JSON: "));
  CHECK(header_error("{\"t\":1e999}").starts_with("bad JSON: number overflow"));
  const std::string empty = entry("F32", "[0]", "[0,0]");
  CHECK(header_error(R"({"t":)" + empty + R"(,"t":)" + empty + "}") == "repeated key 't'");
  CHECK(header_error(R"({"t":{"shape":[0],"dtype":"F32","shape":[0],"data_offsets":[0,0]}})") ==
        "repeated key 'shape'");
  CHECK(header_error(R"({"t":)" + std::string(100'000, '[')) ==
        "'t': JSON nested deeper than 64 levels");
}

TEST_CASE("refused: metadata that are no map of strings") {
  CHECK(header_error(R"({"__metadata__":[]})") == "__metadata__ is no map of strings");
  CHECK(header_error(R"({"__metadata__":{"trim":8}})") == "__metadata__ is no map of strings");
}

TEST_CASE("metadata may be null") {
  CHECK(header_error(R"({"__metadata__":null})") == "no error");
  CHECK(header_error(R"({"__metadata__":null,"__metadata__":{}})") ==
        "repeated key '__metadata__'");
}

TEST_CASE("a dimension may be zero") {
  const std::string zero = entry("F32", "[0,9]", "[3,3]");
  const TempDir dir;
  const auto path = dir.write(
      "x.safetensors",
      file_with(R"({"a":)" + entry("U8", "[3]", "[0,3]") + R"(,"z":)" + zero + "}", "123"));
  const SafetensorsFile file(path);
  CHECK(file.at("z").as<float>().empty());  // though its place is not aligned
  CHECK(file.at("z", {0, 9}).to_float().empty());
  CHECK(tensor_error(entry("F32", "[9223372036854775807,9223372036854775807,0]", "[0,0]")) ==
        "no error");
}

TEST_CASE("refused: a NUL byte, UTF-16, a pointer in the place of the file, a link to nothing") {
  using namespace std::string_literals;
  const std::string sound = R"({"t":)" + entry("U8", "[0]", "[0,0]") + "}";
  CHECK(header_error(sound + "   ") == "no error");
  CHECK(header_error(sound + "\0"s).starts_with("bad JSON: byte "));
  CHECK(header_error(sound + "\0{\"not\":\"json\",,}"s).ends_with(" is NUL"));
  CHECK(open_error("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n") ==
        "is a git-lfs pointer, not the file itself: run `git lfs pull` where it came from");
  const TempDir dir;
  const auto link = dir.path() / "model.safetensors";
  std::filesystem::create_symlink("../blobs/x", link);
  const std::string dangling =
      link.string() +
      ": is a link to '../blobs/x', which does not exist: copy the file itself, too";
  CHECK(error_of([&] { SafetensorsFile{link}; }) == dangling);
}

TEST_CASE("refused: a malformed entry") {
  CHECK(tensor_error("[]") == "its header entry is no object");
  CHECK(tensor_error(R"({"shape":[],"data_offsets":[0,4]})") == "has no 'dtype'");
  CHECK(tensor_error(R"({"dtype":"F32","data_offsets":[0,4]})") == "has no 'shape'");
  CHECK(tensor_error(R"({"dtype":"F32","shape":[]})") == "has no 'data_offsets'");
  CHECK(tensor_error(R"({"dtype":"F32","shape":[],"data_offsets":[0,4],"order":"F"})") ==
        "unknown key 'order'");
  CHECK(tensor_error(entry("F8_E4M3", "[4]", "[0,4]")) == "unknown dtype \"F8_E4M3\"");
  CHECK(tensor_error(R"({"dtype":7,"shape":[],"data_offsets":[0,4]})") == "unknown dtype 7");

  const auto shape_error = [](const std::string& shape) {
    return tensor_error(entry("F32", shape, "[0,4]"), "1234");
  };
  CHECK(shape_error("4") == "shape is no list of extents: 4");
  CHECK(shape_error("[-1]") == "shape is no list of extents: [-1]");
  CHECK(shape_error("[1.0]") == "shape is no list of extents: [1.0]");
  CHECK(shape_error("[18446744073709551615]") ==
        "shape is no list of extents: [18446744073709551615]");
  CHECK(shape_error("[2305843009213693952]") == "shape [2305843009213693952] is too large");
  CHECK(shape_error("[4294967296,4294967296]") == "shape [4294967296,4294967296] is too large");

  const auto offsets_error = [](const std::string& offsets) {
    return tensor_error(entry("F32", "[1]", offsets), "1234");
  };
  CHECK(offsets_error("[0]") == "data_offsets are not two offsets: [0]");
  CHECK(offsets_error("[0,4,8]") == "data_offsets are not two offsets: [0,4,8]");
  CHECK(offsets_error("[0,4.0]") == "data_offsets are not two offsets: [0,4.0]");
  CHECK(offsets_error("[-4,0]") == "data_offsets are not two offsets: [-4,0]");
  CHECK(offsets_error("[4,0]") == "data_offsets [4,0] end before they begin");
  CHECK(offsets_error("[0,3]") == "data_offsets [0,3] hold 3 bytes, but F32 x [1] takes 4");
  CHECK(offsets_error("[18446744073709551612,18446744073709551615]") ==
        "data_offsets [18446744073709551612,18446744073709551615] hold 3 bytes, but F32 x [1] "
        "takes 4");
}

TEST_CASE("refused: tensors that do not cover the data exactly once") {
  const auto two = [](const std::string& a, const std::string& b, std::size_t size) {
    return header_error(
        R"({"a":)" + entry("U8", "[4]", a) + R"(,"b":)" + entry("U8", "[4]", b) + "}",
        std::string(size, 'x'));
  };
  CHECK(two("[0,4]", "[4,8]", 8) == "no error");
  CHECK(two("[4,8]", "[0,4]", 8) == "no error");
  CHECK(two("[0,4]", "[0,4]", 4) == "tensor 'b': its data overlap those of 'a'");
  CHECK(two("[3,7]", "[0,4]", 7) == "tensor 'a': its data overlap those of 'b'");
  CHECK(two("[0,4]", "[6,10]", 10) == "tensor 'b': unused bytes before its data: 2");
  CHECK(two("[1,5]", "[5,9]", 9) == "tensor 'a': unused bytes before its data: 1");
  CHECK(two("[0,4]", "[4,8]", 10) == "2 bytes after the last tensor");
  CHECK(two("[0,4]", "[4,8]", 7) ==
        "tensor 'b': ends at byte 8 of the data, which has only 7 (truncated file?)");
  CHECK(header_error("{}", "x") == "1 bytes after the last tensor");

  const std::string zero = entry("F32", "[0,9]", "[4,4]");
  CHECK(header_error(R"({"a":)" + entry("U8", "[4]", "[0,4]") + R"(,"z":)" + zero + "}", "1234") ==
        "no error");
  CHECK(tensor_error(zero) == "ends at byte 4 of the data, which has only 0 (truncated file?)");
}

TEST_CASE("a message stays on one line, whatever the names") {
  CHECK(header_error(R"({"a\nb":1})") == "tensor 'a\\nb': its header entry is no object");
  CHECK(header_error(R"({")" + std::string(1000, 'n') + R"(":1})") ==
        "tensor '" + std::string(49, 'n') + "..." + std::string(48, 'n') +
            "': its header entry is no object");
}
