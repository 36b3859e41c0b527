#include "ops.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "error.hpp"
#include "float16.hpp"

namespace olmoe {
namespace {

constexpr std::int64_t lanes = 16;

template <class T>
float dot_with(const T* a, const float* b, std::int64_t n) {
  std::array<float, lanes> sums{};
  const std::int64_t whole = n - n % lanes;
  for (std::int64_t i = 0; i < whole; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j)
      sums[static_cast<std::size_t>(j)] += to_float(a[i + j]) * b[i + j];
  }
  for (std::int64_t i = whole; i < n; ++i)
    sums[static_cast<std::size_t>(i - whole)] += to_float(a[i]) * b[i];
  for (std::size_t width = lanes / 2; width > 0; width /= 2) {
    for (std::size_t j = 0; j < width; ++j) sums[j] += sums[j + width];
  }
  return sums[0];
}

/// Calls visit(pointer to the elements) with the type that the matrix is stored in.
template <class Visit>
void with_elements(const Matrix& w, const Visit& visit) {
  switch (w.dtype) {
    case DType::F32:
      return visit(reinterpret_cast<const float*>(w.data));
    case DType::F16:
      return visit(reinterpret_cast<const Half*>(w.data));
    default:
      return visit(reinterpret_cast<const BFloat16*>(w.data));
  }
}

float apply(Activation activation, float x) {
  switch (activation) {
    case Activation::Silu:
      return x / (1.0F + std::exp(-x));
    case Activation::Gelu:
      return 0.5F * x * (1.0F + std::erf(x / std::numbers::sqrt2_v<float>));
    case Activation::GeluTanh: {
      const float scale = std::sqrt(2.0F / std::numbers::pi_v<float>);
      return 0.5F * x * (1.0F + std::tanh(scale * (x + 0.044715F * x * x * x)));
    }
    case Activation::Relu:
      break;
  }
  return std::max(x, 0.0F);
}

}  // namespace

Matrix as_matrix(const Tensor& tensor) {
  const auto matrix = [&](auto elements) {
    return Matrix{tensor.dtype, reinterpret_cast<const std::byte*>(elements.data()),
                  tensor.shape.at(0), tensor.shape.at(1)};
  };
  if (tensor.dtype == DType::F32) return matrix(tensor.as<float>());
  if (tensor.dtype == DType::F16) return matrix(tensor.as<Half>());
  if (tensor.dtype == DType::BF16) return matrix(tensor.as<BFloat16>());
  throw Error(tensor.origin + " holds " + std::string(name(tensor.dtype)) +
              "; weights must be F32, F16 or BF16");
}

float dot(const float* a, const float* b, std::int64_t n) {
  return dot_with(a, b, n);
}

void linear(const Matrix& w, std::span<const float> bias, std::span<const float> x,
            std::span<float> y) {
  const auto tokens = static_cast<std::int64_t>(x.size()) / w.cols;
  // Below this much work a thread team costs more than it saves.
  const bool worthwhile = w.rows * w.cols * tokens > 100'000;
  with_elements(w, [&](const auto* elements) {
#pragma omp parallel if (worthwhile)
    {
      std::vector<float> row(static_cast<std::size_t>(w.cols));
#pragma omp for schedule(static)
      for (std::int64_t r = 0; r < w.rows; ++r) {
        const auto* from = elements + r * w.cols;
        const float b = bias.empty() ? 0.0F : bias[static_cast<std::size_t>(r)];
        if (tokens == 1) {
          y[static_cast<std::size_t>(r)] = dot_with(from, x.data(), w.cols) + b;
          continue;
        }
        std::transform(from, from + w.cols, row.begin(), [](auto v) { return to_float(v); });
        for (std::int64_t t = 0; t < tokens; ++t) {
          y[static_cast<std::size_t>(t * w.rows + r)] =
              dot(row.data(), x.data() + t * w.cols, w.cols) + b;
        }
      }
    }
  });
}

void copy_row(const Matrix& w, std::int64_t index, std::span<float> out) {
  with_elements(w, [&](const auto* elements) {
    const auto* from = elements + index * w.cols;
    std::transform(from, from + w.cols, out.begin(), [](auto v) { return to_float(v); });
  });
}

void rms_norm(std::span<const float> weight, float eps, std::span<const float> x,
              std::span<float> y) {
  const std::size_t n = weight.size();
  for (std::size_t start = 0; start < x.size(); start += n) {
    double squares = 0.0;
    for (std::size_t i = 0; i < n; ++i)
      squares += static_cast<double>(x[start + i]) * static_cast<double>(x[start + i]);
    const double mean = squares / static_cast<double>(n);
    const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
    for (std::size_t i = 0; i < n; ++i) y[start + i] = weight[i] * (x[start + i] * scale);
  }
}

void softmax(std::span<float> x) {
  const float largest = *std::max_element(x.begin(), x.end());
  float sum = 0.0F;
  for (float& v : x) {
    v = std::exp(v - largest);
    sum += v;
  }
  for (float& v : x) v /= sum;
}

void activate(Activation activation, std::span<float> gate, std::span<const float> up) {
  for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = apply(activation, gate[i]) * up[i];
}

}  // namespace olmoe
