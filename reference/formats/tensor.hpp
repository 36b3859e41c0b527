#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "formats/float16.hpp"

namespace olmoe {

/// The element types read and written. A file with any other is refused.
enum class DType { F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL };

/// The format's name of `dtype`: "F64" ... "BOOL".
std::string_view name(DType dtype);

/// The dtype of that name, if there is one.
std::optional<DType> dtype_named(std::string_view name);

/// Bytes per element.
std::size_t size(DType dtype);

/// The DType that stores the C++ type T. BOOL has none: a stored byte may be neither 0 nor 1.
template <class T>
consteval DType dtype_of() {
  if constexpr (std::is_same_v<T, double>) return DType::F64;
  if constexpr (std::is_same_v<T, float>) return DType::F32;
  if constexpr (std::is_same_v<T, Half>) return DType::F16;
  if constexpr (std::is_same_v<T, BFloat16>) return DType::BF16;
  if constexpr (std::is_same_v<T, std::int64_t>) return DType::I64;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::I32;
  if constexpr (std::is_same_v<T, std::int16_t>) return DType::I16;
  if constexpr (std::is_same_v<T, std::int8_t>) return DType::I8;
  if constexpr (std::is_same_v<T, std::uint8_t>) return DType::U8;
  throw "no DType stores this type";  // reached only in a failing compilation
}

/// Extents, outermost first; empty for a scalar.
using Shape = std::vector<std::int64_t>;

/// "[2,3]"
std::string to_string(const Shape& shape);

/// Bytes of the elements, dtype x shape: none if an extent is negative or the number does not fit
/// 63 bits. A tensor with an extent of 0 has 0 bytes, however large the others are.
std::optional<std::uint64_t> byte_size(DType dtype, const Shape& shape);

/// "FILE: tensor 'NAME'", the start of a message about a tensor.
std::string tensor_origin(const std::filesystem::path& file, std::string_view name);

/// A row-major tensor in the mapping of a SafetensorsFile: valid while that file lives (moving the
/// file keeps it valid). The bytes are little-endian and, in files of some writers, at any address.
struct Tensor {
  std::string origin;  ///< tensor_origin() of its file and name
  DType dtype;
  Shape shape;
  std::span<const std::byte> bytes;

  /// Number of elements.
  std::size_t count() const { return bytes.size() / size(dtype); }

  /// The elements in place. Error if T does not store dtype or the data is misaligned for T.
  template <class T>
  std::span<const T> as() const {
    check_in_place(dtype_of<T>(), alignof(T));
    return {reinterpret_cast<const T*>(bytes.data()), count()};
  }

  /// The elements as a copy, from any dtype and alignment. F64, I64 and I32 are rounded to float,
  /// I64 to double; BOOL becomes 0 or 1.
  std::vector<float> to_float() const;
  std::vector<double> to_double() const;
  /// The elements as a copy, from the integer dtypes and BOOL only: Error for the others.
  std::vector<std::int64_t> to_int64() const;

  /// Rows [first, first + matrix[0]) of matrix `index` of a tensor of rank 3, as a tensor of the
  /// shape `matrix`, (rows, columns), in place. All must lie within it.
  Tensor rows_of(std::int64_t index, std::int64_t first, const Shape& matrix) const;

  /// Error, naming both shapes, unless the tensor has the shape `expected`.
  void check_shape(const Shape& expected) const;

 private:
  void check_in_place(DType wanted, std::size_t alignment) const;
};

}  // namespace olmoe
