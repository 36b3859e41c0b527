#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/temporary_file.hpp"
#include "formats/tensor.hpp"

namespace olmoe {

/// A tensor's entry in a safetensors file.
struct TensorInfo {
  std::string name;
  DType dtype;
  Shape shape;

  /// Bytes of the elements. Throws Error if their number does not fit 63 bits.
  std::uint64_t bytes() const;
};

/// Writes a safetensors file whose elements come piece by piece, as a TemporaryFile; finish() puts
/// it in its place: `path` holds either what it held or the whole new file.
///
/// Larger element types come first, then names in order, so that every tensor is aligned and equal
/// input gives equal bytes.
class SafetensorsWriter {
 public:
  /// Writes the header. Throws Error for a repeated or reserved name, what SafetensorsLimits
  /// forbids, and any failure to write.
  SafetensorsWriter(std::filesystem::path path, std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// The tensors in the order of the file: the order in which their bytes are expected.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The next bytes of the elements.
  void write(std::span<const std::byte> bytes);

  /// Throws Error unless as many bytes were written as the tensors have, or if writing failed.
  void finish();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  TemporaryFile temporary_;
  std::vector<TensorInfo> tensors_;
  std::uint64_t missing_ = 0;
  std::ofstream out_;
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

/// Writes a safetensors file of tensors in memory, as SafetensorsWriter does. Throws Error also for
/// bytes that do not match dtype x shape.
void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace olmoe
