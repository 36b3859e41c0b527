#include "formats/tensor.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstring>
#include <limits>

#include "formats/error.hpp"

namespace olmoe {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's numbers are little-endian");

struct DTypeTraits {
  std::string_view name;
  std::size_t size;
};

/// By DType, in its order.
constexpr std::array<DTypeTraits, 10> dtypes = {{{"F64", 8},
                                                 {"F32", 4},
                                                 {"F16", 2},
                                                 {"BF16", 2},
                                                 {"I64", 8},
                                                 {"I32", 4},
                                                 {"I16", 2},
                                                 {"I8", 1},
                                                 {"U8", 1},
                                                 {"BOOL", 1}}};

const DTypeTraits& traits(DType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)];
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::same_as<From, Half> || std::same_as<From, BFloat16>) {
    return static_cast<To>(to_float(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
std::vector<To> converted(std::span<const std::byte> bytes) {
  std::vector<To> result(bytes.size() / sizeof(From));
  for (std::size_t i = 0; i < result.size(); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    result[i] = convert<To>(value);
  }
  return result;
}

template <class To>
std::vector<To> converted(const Tensor& tensor) {
  if constexpr (!std::integral<To>) {
    switch (tensor.dtype) {
      case DType::F64:
        return converted<To, double>(tensor.bytes);
      case DType::F32:
        return converted<To, float>(tensor.bytes);
      case DType::F16:
        return converted<To, Half>(tensor.bytes);
      case DType::BF16:
        return converted<To, BFloat16>(tensor.bytes);
      default:
        break;
    }
  }
  switch (tensor.dtype) {
    case DType::I64:
      return converted<To, std::int64_t>(tensor.bytes);
    case DType::I32:
      return converted<To, std::int32_t>(tensor.bytes);
    case DType::I16:
      return converted<To, std::int16_t>(tensor.bytes);
    case DType::I8:
      return converted<To, std::int8_t>(tensor.bytes);
    case DType::U8:
      return converted<To, std::uint8_t>(tensor.bytes);
    case DType::BOOL: {
      std::vector<To> result = converted<To, std::uint8_t>(tensor.bytes);
      for (To& value : result) value = value != 0 ? To{1} : To{0};
      return result;
    }
    default:
      throw Error(tensor.origin + " holds " + std::string(name(tensor.dtype)) + ", not integers");
  }
}

}  // namespace

std::string_view name(DType dtype) {
  return traits(dtype).name;
}

std::optional<DType> dtype_named(std::string_view name) {
  const auto* known = std::ranges::find(dtypes, name, &DTypeTraits::name);
  if (known == dtypes.end()) return std::nullopt;
  return static_cast<DType>(known - dtypes.begin());
}

std::size_t size(DType dtype) {
  return traits(dtype).size;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape)
    text += (text.size() > 1 ? "," : "") + std::to_string(extent);
  return text + "]";
}

std::optional<std::uint64_t> byte_size(DType dtype, const Shape& shape) {
  if (std::ranges::any_of(shape, [](std::int64_t extent) { return extent < 0; }))
    return std::nullopt;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::uint64_t result = size(dtype);
  for (const std::int64_t extent : shape) {
    const auto factor = static_cast<std::uint64_t>(extent);
    if (result > std::numeric_limits<std::int64_t>::max() / factor) return std::nullopt;
    result *= factor;
  }
  return result;
}

std::string tensor_origin(const std::filesystem::path& file, std::string_view name) {
  return file.string() + ": tensor " + quote(name);
}

std::vector<float> Tensor::to_float() const {
  return converted<float>(*this);
}

std::vector<double> Tensor::to_double() const {
  return converted<double>(*this);
}

std::vector<std::int64_t> Tensor::to_int64() const {
  return converted<std::int64_t>(*this);
}

Tensor Tensor::rows_of(std::int64_t index, std::int64_t first, const Shape& matrix) const {
  const auto row_bytes = static_cast<std::size_t>(matrix.at(1)) * size(dtype);
  const auto row = static_cast<std::size_t>(index * shape.at(1) + first);
  return {.origin = origin,
          .dtype = dtype,
          .shape = matrix,
          .bytes = bytes.subspan(row * row_bytes, static_cast<std::size_t>(matrix[0]) * row_bytes)};
}

void Tensor::check_shape(const Shape& expected) const {
  if (shape != expected)
    throw Error(origin + " has shape " + to_string(shape) + ", expected " + to_string(expected));
}

void Tensor::check_in_place(DType wanted, std::size_t alignment) const {
  if (dtype != wanted) {
    throw Error(origin + " holds " + std::string(name(dtype)) + ", expected " +
                std::string(name(wanted)));
  }
  if (!bytes.empty() && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment != 0) {
    throw Error(origin + ": its data are misaligned, not at a multiple of " +
                std::to_string(alignment) + " bytes (write the file again to align them)");
  }
}

}  // namespace olmoe
