#include "formats/safetensors.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <type_traits>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

using olmoe::BFloat16;
using olmoe::Checkpoint;
using olmoe::DType;
using olmoe::Half;
using olmoe::NamedTensor;
using olmoe::SafetensorsFile;
using olmoe::Shape;
using olmoe::Tensor;
using olmoe::write_safetensors;

static_assert(!std::is_copy_constructible_v<SafetensorsFile>);
static_assert(std::is_nothrow_move_constructible_v<SafetensorsFile>);
static_assert(!std::is_copy_constructible_v<Checkpoint>);

// A file's contents: the header's length, the header, the data.
std::string file_with(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

// The message for opening a file of these contents, less the path that begins it.
std::string open_error(const std::string& contents) {
  const TempDir dir;
  const auto path = dir.write("x.safetensors", contents);
  const std::string message = error_of([&] { SafetensorsFile::open(path); });
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

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

const std::vector<float> some_floats = {1.5F, -2.0F, 0.25F, 3.0F, 4.0F, 5.0F};

// A file of the tensor t, 2 x 3 floats, under `name` in `dir`.
std::filesystem::path write_some(const std::filesystem::path& dir, const std::string& name,
                                 const std::string& tensor = "t") {
  write_safetensors(dir / name, {NamedTensor::of(tensor, {2, 3}, some_floats)});
  return dir / name;
}

}  // namespace

TEST_CASE("dtypes: names, sizes and C++ types") {
  CHECK(olmoe::name(DType::F64) == "F64");
  CHECK(olmoe::name(DType::BF16) == "BF16");
  CHECK(olmoe::name(DType::BOOL) == "BOOL");
  const std::array<std::size_t, 10> sizes = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    CHECK(olmoe::size(static_cast<DType>(i)) == sizes[i]);
  }
  static_assert(olmoe::dtype_of<Half>() == DType::F16);
  static_assert(olmoe::dtype_of<std::int32_t>() == DType::I32);
}

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

  const auto file = SafetensorsFile::open(path);
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
  CHECK(SafetensorsFile::open(path).names().empty());
}

TEST_CASE("copies convert from every dtype; to_int64 from the integers") {
  const TempDir dir;
  const auto read = [&](const std::string& dtype, std::size_t count, const std::string& data) {
    const std::string info =
        entry(dtype, "[" + std::to_string(count) + "]", "[0," + std::to_string(data.size()) + "]");
    return SafetensorsFile::open(dir.write("x", file_with(R"({"t":)" + info + "}", data)));
  };
  const auto check = [](const SafetensorsFile& file, bool integral) {
    const Tensor& t = file.at("t");
    CAPTURE(t.dtype);
    CHECK(t.to_double() == std::vector<double>{0, 1, -2});
    CHECK(t.to_float() == std::vector<float>{0, 1, -2});
    if (integral) {
      CHECK(t.to_int64() == std::vector<std::int64_t>{0, 1, -2});
    } else {
      CHECK(error_of([&] { t.to_int64(); }) ==
            t.origin + " holds " + std::string(olmoe::name(t.dtype)) + ", not integers");
    }
  };
  check(read("F64", 3, bytes_of<double>({0, 1, -2})), false);
  check(read("F32", 3, bytes_of<float>({0, 1, -2})), false);
  check(read("F16", 3, bytes_of<std::uint16_t>({0, 0x3c00, 0xc000})), false);
  check(read("BF16", 3, bytes_of<std::uint16_t>({0, 0x3f80, 0xc000})), false);
  check(read("I64", 3, bytes_of<std::int64_t>({0, 1, -2})), true);
  check(read("I32", 3, bytes_of<std::int32_t>({0, 1, -2})), true);
  check(read("I16", 3, bytes_of<std::int16_t>({0, 1, -2})), true);
  check(read("I8", 3, bytes_of<std::int8_t>({0, 1, -2})), true);

  const auto bytes = read("U8", 3, std::string("\x00\x01\xff", 3));
  CHECK(bytes.at("t").to_int64() == std::vector<std::int64_t>{0, 1, 255});
  const auto flags = read("BOOL", 3, std::string("\x00\x01\xff", 3));
  CHECK(flags.at("t").to_int64() == std::vector<std::int64_t>{0, 1, 1});
  CHECK(flags.at("t").to_float() == std::vector<float>{0, 1, 1});
}

TEST_CASE("misaligned data: copies work, in-place access is an error") {
  const TempDir dir;
  std::string header = R"({"t":)" + entry("F32", "[2]", "[0,8]") + "}";
  header.resize((header.size() + 7) / 8 * 8 + 2, ' ');
  const auto path = dir.write("x", file_with(header, bytes_of<float>({1, 2})));
  const auto file = SafetensorsFile::open(path);
  CHECK(file.at("t").to_float() == std::vector<float>{1, 2});
  CHECK(error_of([&] { file.at("t").as<float>(); }) ==
        path.string() +
            ": tensor 't': its data are misaligned, not at a multiple of 4 bytes (write the file "
            "again to align them)");
  CHECK(error_of([&] { file.at("t").as<Half>(); }) ==
        path.string() + ": tensor 't' holds F32, expected F16");
}

TEST_CASE("at names the file, the tensor and both shapes") {
  const TempDir dir;
  const auto path = write_some(dir.path(), "x.safetensors");
  const auto file = SafetensorsFile::open(path);
  CHECK(file.at("t", {2, 3}).count() == 6);
  CHECK(error_of([&] { file.at("u"); }) == path.string() + ": no tensor 'u'");
  CHECK(error_of([&] {
          file.at("t", {3, 2});
        }) == path.string() + ": tensor 't' has shape [2,3], expected [3,2]");
}

TEST_CASE("a moved file keeps its tensors") {
  const TempDir dir;
  auto file = SafetensorsFile::open(write_some(dir.path(), "x.safetensors"));
  const Tensor tensor = file.at("t");
  SafetensorsFile moved(std::move(file));
  CHECK(moved.at("t").bytes.data() == tensor.bytes.data());
  CHECK(tensor.to_float() == some_floats);
  auto other = SafetensorsFile::open(write_some(dir.path(), "y.safetensors", "u"));
  other = std::move(moved);
  CHECK(other.names() == std::vector<std::string>{"t"});
  CHECK(other.at("t").to_float() == some_floats);
}

TEST_CASE("refused: what is no readable file") {
  const TempDir dir;
  const std::string path = (dir.path() / "none").string();
  CHECK(error_of([&] { SafetensorsFile::open(path); }) == path + ": No such file or directory");
  CHECK(error_of([&] { SafetensorsFile::open(dir.path()); }) ==
        dir.path().string() + ": is a directory, not a file");
  const std::string pipe = (dir.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of([&] { SafetensorsFile::open(pipe); }) == pipe + ": not a regular file");
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

TEST_CASE("refused: a header that is not good JSON") {
  CHECK(header_error("{\"t\":").starts_with("bad JSON: parse error at line 1, column "));
  CHECK(header_error("{} x").starts_with("bad JSON: "));
  CHECK(header_error("{\"\xff\":1}").starts_with("bad JSON: "));
  CHECK(header_error("{\"t\":1e999}").starts_with("bad JSON: number overflow"));
  const std::string empty = entry("F32", "[0]", "[0,0]");
  CHECK(header_error(R"({"t":)" + empty + R"(,"t":)" + empty + "}") == "repeated key 't'");
  CHECK(header_error(R"({"t":{"shape":[0],"dtype":"F32","shape":[0],"data_offsets":[0,0]}})") ==
        "repeated key 'shape'");
  CHECK(header_error(R"({"t":)" + std::string(100'000, '[')) ==
        "JSON nested deeper than 64 levels");
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
  CHECK(error_of([&] { SafetensorsFile::open(link); }) == dangling);
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) == dangling);
}

TEST_CASE("a header of 200,000 tensors takes time and memory in proportion") {
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i) {
    header += (i == 0 ? "\"" : ",\"") + ("model.layers.0.mlp.experts." + std::to_string(i)) +
              "\":" + entry("BF16", "[0,2048]", "[0,0]");
  }
  header += "}";
  const TempDir dir;
  const auto path = dir.write("x.safetensors", file_with(header, ""));
  // The peak since the last time it was set back, which is done here.
  const auto peak_kib = [] {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line) && !line.starts_with("VmHWM:")) {
    }
    std::ofstream("/proc/self/clear_refs") << '5';
    return std::stoull("0" + line.substr(std::min(line.find_first_of("123456789"), line.size())));
  };
  peak_kib();
  const auto before = peak_kib();
  const auto start = std::clock();
  const SafetensorsFile file(path);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const auto taken = peak_kib() - before;
  MESSAGE(seconds << " s, " << taken << " KiB for a header of " << header.size() / 1024 << " KiB");
  CHECK(file.size() == 200'000);
  CHECK(file.at("model.layers.0.mlp.experts.123456").shape == Shape{0, 2048});
  // The parser that was quadratic took more than 1000 s; the slowest build takes some 5.
  CHECK(seconds < 30);
  CHECK(before > 0);
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory
  CHECK(taken < 3 * header.size() / 1024);
#endif
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
        taken + ": cannot replace the file: Is a directory");

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
  CHECK(SafetensorsFile::open(path).at("t").to_float() == some_floats);
  for (const auto& file : std::filesystem::directory_iterator(dir.path())) {
    CHECK(file.path().extension() != ".tmp");
  }
}

TEST_CASE("a checkpoint of one file") {
  const TempDir dir;
  const auto path = write_some(dir.path(), "model.safetensors");
  const auto checkpoint = Checkpoint::open(dir.path());
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
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) ==
        index.string() + ": the shard 'two.safetensors' is missing");

  const auto two = write_some(dir.path(), "two.safetensors", "c");
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) ==
        two.string() + ": no tensor 'b', which model.safetensors.index.json places there");

  // What the index does not name counts, too: once.
  write_safetensors(
      two, {NamedTensor::of("b", {2, 3}, some_floats), NamedTensor::of("a", {2, 3}, some_floats)});
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) ==
        one.string() + ": tensor 'a': is in 'two.safetensors', too");
  write_safetensors(two, {NamedTensor::of("b", {2, 3}, some_floats),
                          NamedTensor::of("unnamed", {2, 3}, some_floats)});
  CHECK(Checkpoint::open(dir.path()).names() == std::vector<std::string>{"a", "b", "unnamed"});

  write_some(dir.path(), "two.safetensors", "b");
  auto opened = Checkpoint::open(dir.path());
  const Tensor tensor = opened.at("b");
  const Checkpoint checkpoint = std::move(opened);
  CHECK(checkpoint.at("b", {2, 3}).bytes.data() == tensor.bytes.data());
  CHECK(tensor.to_float() == some_floats);
  CHECK(checkpoint.files() == std::vector{one, two});
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b"});
  CHECK(checkpoint.total_bytes() == 48);
  CHECK(error_of([&] { checkpoint.at("c"); }) == index.string() + ": no tensor 'c'");

  dir.write("two.safetensors", "short");
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) ==
        two.string() + ": not a safetensors file: only 5 bytes");
}

TEST_CASE("refused: a directory without weights") {
  const TempDir dir;
  const std::string none = (dir.path() / "none").string();
  CHECK(error_of([&] { Checkpoint::open(none); }) == none + ": no such directory");
  const std::string file = dir.write("file", "").string();
  CHECK(error_of([&] { Checkpoint::open(file); }) == file + ": not a directory");
  CHECK(error_of([&] { Checkpoint::open(dir.path()); }) ==
        dir.path().string() + ": has neither model.safetensors nor model.safetensors.index.json");
}

TEST_CASE("refused: an index without a usable weight_map") {
  const TempDir dir;
  const auto index_error = [&](const std::string& text) {
    const std::string path = dir.write("model.safetensors.index.json", text).string();
    const std::string message = error_of([&] { Checkpoint::open(dir.path()); });
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
