#include "formats/tensor.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "formats/safetensors.hpp"
#include "reference/error_of.hpp"
#include "reference/formats/some_safetensors.hpp"
#include "reference/temp_dir.hpp"

namespace {

using olmoe::DType;
using olmoe::Half;
using olmoe::SafetensorsFile;
using olmoe::Shape;
using olmoe::Tensor;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("dtypes: names, sizes and C++ types") {
  CHECK(olmoe::name(DType::F64) == "F64");
  CHECK(olmoe::name(DType::BF16) == "BF16");
  CHECK(olmoe::name(DType::BOOL) == "BOOL");
  const std::array<std::size_t, 10> sizes = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    CHECK(olmoe::size(static_cast<DType>(i)) == sizes[i]);
    CHECK(olmoe::dtype_named(olmoe::name(static_cast<DType>(i))) == static_cast<DType>(i));
  }
  CHECK(olmoe::dtype_named("F8_E4M3") == std::nullopt);
  static_assert(olmoe::dtype_of<Half>() == DType::F16);
  static_assert(olmoe::dtype_of<std::int32_t>() == DType::I32);
}

TEST_CASE("copies convert from every dtype; to_int64 from the integers") {
  const TempDir dir;
  const auto read = [&](const std::string& dtype, std::size_t count, const std::string& data) {
    const std::string info =
        entry(dtype, "[" + std::to_string(count) + "]", "[0," + std::to_string(data.size()) + "]");
    return SafetensorsFile(dir.write("x", file_with(R"({"t":)" + info + "}", data)));
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
  const auto file = SafetensorsFile(path);
  CHECK(file.at("t").to_float() == std::vector<float>{1, 2});
  CHECK(error_of([&] { file.at("t").as<float>(); }) ==
        path.string() +
            ": tensor 't': its data are misaligned, not at a multiple of 4 bytes (write the file "
            "again to align them)");
  CHECK(error_of([&] { file.at("t").as<Half>(); }) ==
        path.string() + ": tensor 't' holds F32, expected F16");
}

TEST_CASE("shapes as text and in bytes") {
  CHECK(olmoe::to_string(Shape{}) == "[]");
  CHECK(olmoe::to_string(Shape{7}) == "[7]");
  CHECK(olmoe::to_string(Shape{2, -3, 0}) == "[2,-3,0]");

  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(olmoe::byte_size(DType::F32, {}) == 4);
  CHECK(olmoe::byte_size(DType::BF16, {2, 3}) == 12);
  CHECK(olmoe::byte_size(DType::U8, {most}) == most);
  CHECK(olmoe::byte_size(DType::F16, {most}) == std::nullopt);
  CHECK(olmoe::byte_size(DType::F16, {most, most, 0}) == 0);
  CHECK(olmoe::byte_size(DType::F32, {2, -1}) == std::nullopt);
  CHECK(olmoe::byte_size(DType::F32, {0, -1}) == std::nullopt);
}

TEST_CASE("rows_of is a part of one matrix of a tensor of rank 3") {
  // Element (i, r, c) of (2, 4, 3) is 100 i + 10 r + c.
  std::vector<float> values;
  for (int i = 0; i < 2; ++i) {
    for (int r = 0; r < 4; ++r) {
      for (int c = 0; c < 3; ++c) values.push_back(static_cast<float>(100 * i + 10 * r + c));
    }
  }
  const Tensor tensor{"x", DType::F32, {2, 4, 3}, std::as_bytes(std::span(values))};
  const Tensor rows = tensor.rows_of(1, 2, {2, 3});
  CHECK(rows.shape == Shape{2, 3});
  CHECK(rows.to_float() == std::vector<float>{120, 121, 122, 130, 131, 132});
  CHECK(tensor.rows_of(0, 0, {1, 3}).to_float() == std::vector<float>{0, 1, 2});
}
