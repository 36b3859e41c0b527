#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/tensor.hpp"
#include "forward/config.hpp"
#include "kernels/kernels.hpp"

namespace olmoe {

/// The arithmetic of products with a matrix; sums are in float either way.
enum class Compute : std::uint8_t {
  f32,  ///< products of floats
  bf16  ///< of bfloat16, to which activations are rounded; the matrix must be BF16
};

/// "f32" or "bf16".
std::string_view name(Compute compute);

/// "f32", "f16" or "bf16".
std::string_view name(Storage storage);

/// Bytes of an element.
constexpr std::size_t size(Storage storage) {
  return storage == Storage::f32 ? 4 : 2;
}

/// A weight matrix (rows, cols), row-major, used in place in the checkpoint's mapping.
struct Matrix {
  DType dtype = DType::F32;
  const std::byte* data = nullptr;  ///< (rows, cols) elements of dtype
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Compute compute = Compute::f32;

  std::size_t bytes() const { return static_cast<std::size_t>(rows * cols) * size(dtype); }
};

/// The stored rows [begin, end) of w.
std::span<const std::byte> rows(const Matrix& w, std::int64_t begin, std::int64_t end);

/// A tensor of shape (rows, cols) as a Matrix. Error unless it holds f32, f16 or bf16, aligned.
Matrix as_matrix(const Tensor& tensor);

/// The kernels of products with w.
const Products& products(const Matrix& w);

/// The tokens of a product x w^T, a pointer each, in the form that its Products (kernels.hpp) ask
/// for:
/// - Compute::f32, up to few_tokens: to the token's row of x,
/// - Compute::f32, more tokens: to its spread row,
/// - Compute::bf16: to its rounded row, or to a group of tokens.
using Inputs = std::span<const float* const>;

/// Rows x (rows, cols), `stride` apart.
struct RowsOf {
  const float* x;
  std::size_t rows;
  std::int64_t cols;
  std::size_t stride;
};

/// Memory of floats that are written before they are read.
class Buffer {
 public:
  /// `n` floats. If it grows, what they were is lost; nothing clears them.
  float* resize(std::size_t n) {
    if (n > size_) {
      floats_ = std::make_unique_for_overwrite<float[]>(n);
      size_ = n;
    }
    return floats_.get();
  }

 private:
  std::unique_ptr<float[]> floats_;
  std::size_t size_ = 0;
};

/// The inputs of several products that have rows of one x.
class InputRows {
 public:
  InputRows() = default;
  InputRows(const InputRows&) = delete;
  InputRows& operator=(const InputRows&) = delete;

  /// Prepares x, which must stay, for products of which number p has the tokens offsets[p] <= i <
  /// offsets[p + 1]. Token i is row rows[i] of x, or row i if `rows` is empty. OpenMP.
  void assign(const RowsOf& x, std::span<const std::size_t> offsets,
              std::span<const std::int32_t> rows, Compute compute);

  /// The inputs of product p.
  Inputs of(std::size_t p) const {
    return std::span(inputs_).subspan(offsets_[p], offsets_[p + 1] - offsets_[p]);
  }

 private:
  void group(const RowsOf& x, std::span<const std::int32_t> rows, const Products& products);
  void prepare(const RowsOf& x, std::span<const std::int32_t> rows, Compute compute);
  /// `count` lines, each of `floats` or more, at multiples of 64 bytes.
  void resize(std::size_t count, std::int64_t floats);
  float* line(std::size_t i) { return lines_ + i * stride_; }

  std::vector<std::size_t> offsets_;
  std::vector<const float*> inputs_;
  Buffer values_;
  float* lines_ = nullptr;  // in values_
  std::size_t stride_ = 0;
};

/// Some rows of one of several matrices.
struct RowBlock {
  std::size_t matrix;
  std::int64_t begin;
  std::int64_t end;
};

/// All rows of matrices that have `rows[i]` rows, in order, cut into blocks to be taken by the next
/// thread that is free: long ones first, since memory is read fastest in long streams, then ever
/// shorter ones, for all threads to end together. (Guided self-scheduling: C. Polychronopoulos and
/// D. Kuck, 1987.)
std::vector<RowBlock> row_blocks(std::span<const std::int64_t> rows);

/// y[t, r] = <x[t], row begin + r of w> for r < end - begin, on the calling thread. Rows of y are
/// `y_stride` apart. A result depends on its two rows alone, not on the other tokens, to the last
/// bit. `next` is where the reader of w goes on afterwards.
void multiply_rows(const Matrix& w, std::int64_t begin, std::int64_t end, Inputs x, float* y,
                   std::int64_t y_stride, std::span<const std::byte> next = {});

/// Whether a step that takes one thread so many nanoseconds is shared among the threads. To wake
/// sleeping threads takes some 25 us (wait_policy.hpp): with less than 100 us to share, two are
/// hardly faster than one.
constexpr bool worth_sharing(std::int64_t nanoseconds) {
  return nanoseconds > 100'000;
}

/// About how many nanoseconds one thread takes to read weights at 25 GB/s and to do
/// multiply-adds, 50 a nanosecond.
constexpr std::int64_t product_time(std::size_t weight_bytes, std::int64_t multiply_adds) {
  return static_cast<std::int64_t>(weight_bytes) / 25 + multiply_adds / 50;
}

/// y = x w^T + bias.
struct Linear {
  const Matrix& w;              ///< (rows, cols)
  std::span<const float> bias;  ///< (rows), or empty
  std::span<float> y;           ///< (tokens, rows)
};

/// Computes several products of one x (tokens, cols) together, all in the same arithmetic, OpenMP
/// over all their rows. A row of y does not depend on the number of tokens.
void linear(std::initializer_list<Linear> products, std::span<const float> x);

/// Row `index` of a matrix as floats.
void copy_row(const Matrix& w, std::int64_t index, std::span<float> out);

/// RMSNorm of each row: y = x / sqrt(mean(x^2) + eps) * weight. x and y (tokens, weight.size()) may
/// be the same memory. OpenMP over the rows.
void rms_norm(std::span<const float> weight, float eps, std::span<const float> x,
              std::span<float> y);

/// Index of the first value that is infinite or NaN; values.size() if all are finite.
std::size_t first_not_finite(std::span<const float> values);

/// gate <- act(gate) * up, element by element.
void activate(Activation activation, std::span<float> gate, std::span<const float> up);

/// `n` floats at a multiple of 64 bytes that the calling thread may use until its next call with
/// the same `slot`.
float* scratch(std::size_t slot, std::int64_t n);

}  // namespace olmoe
