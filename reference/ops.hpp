#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

/// A tensor of shape (rows, cols) as a Matrix. Error unless it holds f32, f16 or bf16, aligned.
Matrix as_matrix(const Tensor& tensor);

/// sum_i a[i] b[i] in float, always in the same order: sixteen interleaved partial sums. It depends
/// on n alone, which is what makes prefill and decode agree to the last bit.
float dot(const float* a, const float* b, std::int64_t n);

/// y = x w^T + bias. x (tokens, w.cols), y (tokens, w.rows); bias (w.rows) may be empty. Float
/// arithmetic; a row of y does not depend on the number of tokens. OpenMP over the rows of w.
void linear(const Matrix& w, std::span<const float> bias, std::span<const float> x,
            std::span<float> y);

/// Row `index` of a matrix as floats.
void copy_row(const Matrix& w, std::int64_t index, std::span<float> out);

/// RMSNorm of each row: y = x / sqrt(mean(x^2) + eps) * weight. x and y (tokens, weight.size()) may
/// be the same memory.
void rms_norm(std::span<const float> weight, float eps, std::span<const float> x,
              std::span<float> y);

/// x <- softmax(x), in float.
void softmax(std::span<float> x);

/// gate <- act(gate) * up, element by element.
void activate(Activation activation, std::span<float> gate, std::span<const float> up);

}  // namespace olmoe
