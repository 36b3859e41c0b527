#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats/float16.hpp"
#include "formats/mapped_file.hpp"

namespace olmoe {

/// The element types read and written. A file with any other is refused.
enum class DType { F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL };

/// The format's name of `dtype`: "F64" ... "BOOL".
std::string_view name(DType dtype);

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

/// A row-major tensor in a SafetensorsFile's mapping: valid while that file lives (moving the file
/// keeps it valid). The bytes are little-endian and, in files of some writers, at any address.
struct Tensor {
  std::string origin;  ///< "FILE: tensor 'NAME'", the start of a message about it
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
  /// As above, from the integer dtypes and BOOL only: Error for the others.
  std::vector<std::int64_t> to_int64() const;

  /// Rows [first, first + shape[0]) of matrix `index` of a tensor of rank 3, as a tensor of this
  /// `shape`, (rows, columns), in place. All must lie within it.
  Tensor rows_of(std::int64_t index, std::int64_t first, const Shape& shape) const;

 private:
  void check_in_place(DType wanted, std::size_t alignment) const;
};

struct TensorHeader;

/// A safetensors file, mapped read-only. Opening it checks the whole header: every tensor lies
/// within the file, matches dtype x shape, and together they cover the data exactly once. It takes
/// time n log n and less memory than twice the header. Move-only.
class SafetensorsFile {
 public:
  /// Throws Error if the file cannot be read or breaks the format.
  explicit SafetensorsFile(const std::filesystem::path& path);
  static SafetensorsFile open(const std::filesystem::path& path) { return SafetensorsFile(path); }

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Error, naming file and tensor, if there is none.
  Tensor at(std::string_view name) const;
  /// As at(name); Error also if its shape is not `shape`.
  Tensor at(std::string_view name, const Shape& shape) const;
  /// Sorted.
  std::vector<std::string> names() const;
  /// Number of tensors.
  std::size_t size() const { return entries_.size(); }
  /// Sorted, valid while this file lives, as are tensors.
  std::string_view name(std::size_t index) const { return entries_[index].name; }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }
  /// See MappedFile::check_unchanged().
  void check_unchanged() const { file_.check_unchanged(); }

 private:
  // A tensor's entry in the header: 48 bytes, as headers may have hundreds of thousands.
  struct Entry {
    std::string_view name;  // in names_
    std::uint64_t begin;    // of the data
    std::uint64_t end;
    DType dtype;
    std::uint32_t rank;
    std::size_t shape;  // where it begins in extents_
  };

  const Entry* find(std::string_view name) const;
  std::span<const std::int64_t> shape_of(const Entry& entry) const {
    return std::span(extents_).subspan(entry.shape, entry.rank);
  }
  void add(const std::string& name, const TensorHeader& tensor);
  void check_coverage(std::uint64_t data_size) const;

  std::filesystem::path path_;
  MappedFile file_;
  std::span<const std::byte> data_;
  std::vector<Entry> entries_;  // sorted by name
  std::vector<char> names_;     // never grows beyond what was reserved: entries_ point into it
  std::vector<std::int64_t> extents_;
  std::map<std::string, std::string> metadata_;
};

/// The weights of a model directory: model.safetensors, or else the shards that
/// model.safetensors.index.json names, with all that is in them. Move-only.
class Checkpoint {
 public:
  /// Throws Error if `directory` holds neither, a file is missing, malformed or lacks a tensor
  /// that the index expects of it, or two files hold a tensor of one name.
  explicit Checkpoint(const std::filesystem::path& directory);
  static Checkpoint open(const std::filesystem::path& directory) { return Checkpoint(directory); }

  // std::vector would otherwise declare a copy that cannot be compiled.
  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Error, naming file and tensor, if there is none or its shape is not `shape`.
  Tensor at(std::string_view name, const Shape& shape) const;
  Tensor at(std::string_view name) const;
  /// Sorted.
  std::vector<std::string> names() const;

  /// The weight files, sorted.
  std::vector<std::filesystem::path> files() const;
  /// Throws Error if a weight file was changed or replaced since it was opened.
  void check_unchanged() const;
  /// Bytes of all tensors in names().
  std::uint64_t total_bytes() const;

 private:
  struct Place {
    std::string_view name;
    const SafetensorsFile* file;
  };

  const Place* find(std::string_view name) const;
  void add_tensors_of_files();

  std::filesystem::path source_;  // the single file or the index
  std::vector<SafetensorsFile> files_;
  std::vector<Place> places_;  // of all tensors, sorted by name
};

/// What write_safetensors writes: `bytes` holds shape x dtype, row-major, and must outlive the
/// call.
struct NamedTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::span<const std::byte> bytes;

  template <class T>
  static NamedTensor of(std::string name, Shape shape, std::span<const T> values) {
    return {std::move(name), dtype_of<T>(), std::move(shape), std::as_bytes(values)};
  }
  template <class T>
  static NamedTensor of(std::string name, Shape shape, const std::vector<T>& values) {
    return of(std::move(name), std::move(shape), std::span<const T>(values));
  }
};

/// A tensor's entry in a safetensors file.
struct TensorInfo {
  std::string name;
  DType dtype;
  Shape shape;

  /// Bytes of the elements. Throws Error if their number does not fit 63 bits.
  std::uint64_t bytes() const;
};

/// Writes a safetensors file whose elements come piece by piece, under a temporary name beside
/// `path`; finish() renames it: `path` holds either what it held or the whole new file.
///
/// Larger element types come first, then names in order, so that every tensor is aligned and equal
/// input gives equal bytes.
class SafetensorsWriter {
 public:
  /// Writes the header. Throws Error for a repeated or reserved name and any failure to write.
  SafetensorsWriter(std::filesystem::path path, std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  /// Removes the temporary file unless finish() was called.
  ~SafetensorsWriter();

  /// The tensors in the order of the file: the order in which their bytes are expected.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The next bytes of the elements.
  void write(std::span<const std::byte> bytes);

  /// Throws Error unless as many bytes were written as the tensors have, or if writing failed.
  void finish();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::vector<TensorInfo> tensors_;
  std::uint64_t missing_ = 0;
  std::ofstream out_;
};

/// Writes a safetensors file of tensors in memory, as SafetensorsWriter does. Throws Error also for
/// bytes that do not match dtype x shape.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace olmoe
