#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "config.hpp"
#include "safetensors.hpp"

namespace olmoe {

/// A weight matrix (rows, cols), row-major, used in place in the checkpoint's mapping.
struct Matrix {
  DType dtype = DType::F32;
  const std::byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  std::size_t bytes() const { return static_cast<std::size_t>(rows * cols) * size(dtype); }
};

/// The stored rows [begin, end) of w.
std::span<const std::byte> rows(const Matrix& w, std::int64_t begin, std::int64_t end);

/// A tensor of shape (rows, cols) as a Matrix. Error unless it holds f32, f16 or bf16, aligned.
Matrix as_matrix(const Tensor& tensor);

/// The tokens of a product x w^T, a pointer each: to the row of x if there is one token, to the
/// spread row (kernels.hpp) if there are more.
using Inputs = std::span<const float* const>;

/// Rows of floats, spread.
class SpreadRows {
 public:
  /// Spreads x (rows, cols), whose rows are `stride` apart. OpenMP over the rows.
  void assign(const float* x, std::size_t rows, std::int64_t cols, std::size_t stride);

  const float* row(std::size_t index) const { return values_.data() + index * stride_; }

 private:
  std::vector<float> values_;
  std::size_t stride_ = 0;
};

/// Some rows of one of several matrices.
struct RowBlock {
  std::size_t matrix;
  std::int64_t begin;
  std::int64_t end;
};

/// All rows of matrices that have `rows[i]` rows, in order, cut into blocks: enough of them to keep
/// every thread busy, each long enough to be worth its while.
std::vector<RowBlock> row_blocks(std::span<const std::int64_t> rows);

/// y[t, r] = <x[t], row begin + r of w> for r < end - begin, on the calling thread. Rows of y are
/// `y_stride` apart. A result depends on its two rows alone, not on the other tokens, to the last
/// bit. `next` is where the reader of w goes on afterwards.
void multiply_rows(const Matrix& w, std::int64_t begin, std::int64_t end, Inputs x, float* y,
                   std::int64_t y_stride, std::span<const std::byte> next = {});

/// y = x w^T + bias. y (tokens, w.rows); bias (w.rows) may be empty.
struct Linear {
  const Matrix& w;
  std::span<const float> bias;
  std::span<float> y;
};

/// Computes several products of one x (tokens, cols) together, OpenMP over all their rows. A row of
/// y does not depend on the number of tokens.
void linear(std::initializer_list<Linear> products, std::span<const float> x);

/// Row `index` of a matrix as floats.
void copy_row(const Matrix& w, std::int64_t index, std::span<float> out);

/// RMSNorm of each row: y = x / sqrt(mean(x^2) + eps) * weight. x and y (tokens, weight.size()) may
/// be the same memory. OpenMP over the rows.
void rms_norm(std::span<const float> weight, float eps, std::span<const float> x,
              std::span<float> y);

/// gate <- act(gate) * up, element by element.
void activate(Activation activation, std::span<float> gate, std::span<const float> up);

/// `n` floats at a multiple of 64 bytes that the calling thread may use until its next call with
/// the same `slot`.
float* scratch(std::size_t slot, std::int64_t n);

}  // namespace olmoe
