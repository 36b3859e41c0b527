#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
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

/// The tokens of a product x w^T, a pointer each:
/// - Compute::bf16: to the token's rounded row (kernels.hpp),
/// - Compute::f32, up to few_tokens: to its row of x,
/// - Compute::f32, more tokens: to the token's spread row (kernels.hpp).
using Inputs = std::span<const float* const>;

/// The rows of an x in the forms that products ask for.
class InputRows {
 public:
  InputRows() = default;
  InputRows(const InputRows&) = delete;
  InputRows& operator=(const InputRows&) = delete;

  /// Prepares x (rows, cols), whose rows are `stride` apart and must stay, for products of up to
  /// `together` rows. OpenMP over the rows.
  void assign(const float* x, std::size_t rows, std::int64_t cols, std::size_t stride,
              std::size_t together, Compute compute);

  /// Row `index` for a product that has `tokens` of the rows.
  const float* row(std::size_t index, std::size_t tokens) const {
    const bool as_it_is = compute_ == Compute::f32 && few(tokens) && !few(together_);
    return as_it_is ? x_ + index * x_stride_ : values_.data() + begin_ + index * stride_;
  }

 private:
  static bool few(std::size_t tokens) { return std::cmp_less_equal(tokens, few_tokens); }
  void spread(std::size_t row, std::int64_t cols);
  void round(std::size_t row, std::int64_t cols);

  const float* x_ = nullptr;  // (rows, cols), rows x_stride_ apart
  std::size_t x_stride_ = 0;
  std::size_t together_ = 1;
  Compute compute_ = Compute::f32;
  std::vector<float> values_;  // (rows, stride_) from begin_ on: the prepared rows
  std::size_t begin_ = 0;
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
