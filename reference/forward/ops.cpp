#include "forward/ops.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "formats/error.hpp"
#include "formats/float16.hpp"
#include "kernels/isa.hpp"

namespace olmoe {
namespace {

constexpr std::int64_t lanes = 32;
constexpr std::size_t line_floats = 64 / sizeof(float);  // a line of the cache

constexpr std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// Where a spread row has the columns j, j + 32 ...: j with its five bits reversed.
constexpr std::array<std::int64_t, at(lanes)> places = [] {
  std::array<std::int64_t, at(lanes)> result{};
  for (std::size_t j = 0; j < result.size(); ++j) {
    for (std::size_t bit = 1, reversed = lanes / 2; bit < lanes; bit *= 2, reversed /= 2)
      result[j] += (j & bit) != 0 ? static_cast<std::int64_t>(reversed) : 0;
  }
  return result;
}();

std::int64_t steps_of(std::int64_t cols) {
  return (cols + lanes - 1) / lanes;
}

Storage storage(DType dtype) {
  if (dtype == DType::F32) return Storage::f32;
  return dtype == DType::F16 ? Storage::f16 : Storage::bf16;
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

/// x in the order of a spread row (kernels.hpp).
void spread(const float* x, std::int64_t cols, float* to) {
  const std::int64_t steps = steps_of(cols);
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    float* place = to + places[at(lane)] * steps;
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t column = step * lanes + lane;
      place[step] = column < cols ? x[column] : 0.0F;
    }
  }
}

/// x as a rounded row (kernels.hpp).
void round(const float* x, std::int64_t cols, float* to) {
  const auto value = [&](std::int64_t column) {
    return column < cols ? std::uint32_t{to_bfloat16(x[column]).bits} : 0;
  };
  for (std::int64_t c = 0; c < steps_of(cols) * lanes; c += 2)
    to[c / 2] = std::bit_cast<float>(value(c) | value(c + 1) << 16);
}

/// Those of matrices stored as `dtype`. What they ask of inputs does not depend on it.
const Products& products(Compute compute, DType dtype) {
  if (compute == Compute::bf16) return *bf16_dot();
  return kernels().products[at(static_cast<std::int64_t>(storage(dtype)))];
}

/// The first multiple of 64 bytes at or after `p`.
float* at_line(float* p) {
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(p) / sizeof(float) % line_floats;
  return beyond == 0 ? p : p + (line_floats - beyond);
}

}  // namespace

std::string_view name(Compute compute) {
  return compute == Compute::bf16 ? "bf16" : "f32";
}

std::string_view name(Storage storage) {
  if (storage == Storage::f32) return "f32";
  return storage == Storage::f16 ? "f16" : "bf16";
}

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

std::span<const std::byte> rows(const Matrix& w, std::int64_t begin, std::int64_t end) {
  return {w.data + at(begin * w.cols) * size(w.dtype), at((end - begin) * w.cols) * size(w.dtype)};
}

void InputRows::assign(const RowsOf& x, std::span<const std::size_t> offsets,
                       std::span<const std::int32_t> rows, Compute compute) {
  offsets_.assign(offsets.begin(), offsets.end());
  inputs_.resize(offsets.back());
  const Products& k = products(compute, DType::F32);
  if (k.group != nullptr) {
    group(x, rows, k);
  } else {
    prepare(x, rows, compute);
  }
}

void InputRows::group(const RowsOf& x, std::span<const std::int32_t> rows,
                      const Products& products) {
  std::vector<std::size_t> begins;
  std::vector<const float*> tokens(inputs_.size());
  for (std::size_t p = 0; p + 1 < offsets_.size(); ++p) {
    for (std::size_t i = offsets_[p]; i < offsets_[p + 1]; i += at(group_tokens))
      begins.push_back(i);
  }
  const std::size_t groups = begins.size();
  begins.push_back(inputs_.size());
  resize(inputs_.size(), steps_of(x.cols) * lanes / 2);
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    inputs_[i] = line(i);
    tokens[i] = x.x + (rows.empty() ? i : at(rows[i])) * x.stride;
  }
  // 32 columns of a group take some 40 ns, however many tokens it has.
  const std::int64_t time = static_cast<std::int64_t>(groups) * steps_of(x.cols) * 40;
#pragma omp parallel for schedule(static) if (worth_sharing(time))
  for (std::size_t g = 0; g < groups; ++g) {
    const std::size_t begin = begins[g];
    products.group(&tokens[begin], static_cast<std::ptrdiff_t>(begins[g + 1] - begin), x.cols,
                   line(begin));
  }
}

void InputRows::prepare(const RowsOf& x, std::span<const std::int32_t> rows, Compute compute) {
  const auto few = [limit = products(compute, DType::F32).few_tokens](std::size_t tokens) {
    return std::cmp_less_equal(tokens, limit);
  };
  bool all_few = true;
  for (std::size_t p = 0; p + 1 < offsets_.size(); ++p)
    all_few = all_few && few(offsets_[p + 1] - offsets_[p]);
  resize(x.rows, steps_of(x.cols) * lanes);
  const auto floats = static_cast<std::int64_t>(x.rows * stride_);
#pragma omp parallel for schedule(static) if (worth_sharing(floats))
  for (std::size_t r = 0; r < x.rows; ++r) {
    const float* row = x.x + r * x.stride;
    if (compute == Compute::bf16) {
      round(row, x.cols, line(r));
    } else if (!all_few) {
      spread(row, x.cols, line(r));
    } else {
      std::copy_n(row, x.cols, line(r));
    }
  }
  for (std::size_t p = 0; p + 1 < offsets_.size(); ++p) {
    const bool as_it_is = compute == Compute::f32 && !all_few && few(offsets_[p + 1] - offsets_[p]);
    for (std::size_t i = offsets_[p]; i < offsets_[p + 1]; ++i) {
      const std::size_t row = rows.empty() ? i : at(rows[i]);
      inputs_[i] = as_it_is ? x.x + row * x.stride : line(row);
    }
  }
}

void InputRows::resize(std::size_t count, std::int64_t floats) {
  // Lines begin at multiples of 64 bytes: no load of a vector takes two lines of the cache. The gap
  // is for the same reason as panel_gap.
  stride_ = at(floats) + line_floats;
  lines_ = at_line(values_.resize(count * stride_ + line_floats));
}

std::vector<RowBlock> row_blocks(std::span<const std::int64_t> rows) {
  std::int64_t remaining = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  const std::int64_t threads = omp_get_max_threads();
  std::vector<RowBlock> blocks;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::int64_t begin = 0; begin < rows[i];) {
      const std::int64_t share = threads == 1 ? remaining : remaining / (2 * threads);
      const std::int64_t size = std::max(share / lanes * lanes, lanes);
      const std::int64_t end = std::min(begin + size, rows[i]);
      blocks.push_back({i, begin, end});
      remaining -= end - begin;
      begin = end;
    }
  }
  return blocks;
}

const Products& products(const Matrix& w) {
  return products(w.compute, w.dtype);
}

void multiply_rows(const Matrix& w, std::int64_t begin, std::int64_t end, Inputs x, float* y,
                   std::int64_t y_stride, std::span<const std::byte> next) {
  const Products& k = products(w);
  const std::int64_t tokens = std::ssize(x);
  if (tokens == 1) {
    const auto dot_rows = reads_ahead() ? k.dot_rows_ahead : k.dot_rows;
    dot_rows(rows(w, begin, end).data(), w.cols, end - begin, w.cols, x[0], y);
    return;
  }
  const bool few = tokens <= k.few_tokens;
  const std::int64_t steps = steps_of(w.cols);
  float* panel = few ? nullptr : scratch(0, lanes * (steps * k.panel_rows + panel_gap));
  for (std::int64_t r = begin; r < end; r += k.panel_rows) {
    const std::int64_t after = std::min(r + k.panel_rows, end);
    const std::byte* now = rows(w, r, after).data();
    const auto soon = after < end ? rows(w, after, std::min(after + k.panel_rows, end)) : next;
    if (few) {
      k.multiply_few(now, w.cols, after - r, w.cols, x.data(), tokens, y + (r - begin), y_stride,
                     soon.data(), std::ssize(soon));
      continue;
    }
    k.pack(now, w.cols, after - r, w.cols, panel);
    k.multiply_panel(panel, steps, x.data(), tokens, after - r, y + (r - begin), y_stride,
                     soon.data(), std::ssize(soon));
  }
}

void linear(std::initializer_list<Linear> products, std::span<const float> x) {
  const std::int64_t cols = products.begin()->w.cols;
  const std::size_t tokens = x.size() / at(cols);
  std::vector<std::int64_t> heights;
  for (const Linear& product : products) heights.push_back(product.w.rows);
  const std::vector<RowBlock> blocks = row_blocks(heights);

  InputRows inputs;
  inputs.assign({x.data(), tokens, cols, at(cols)}, std::array{std::size_t{0}, tokens}, {},
                products.begin()->w.compute);

  const std::int64_t total = std::accumulate(heights.begin(), heights.end(), std::int64_t{0});
  const std::size_t bytes = std::accumulate(
      products.begin(), products.end(), std::size_t{0},
      [](std::size_t sum, const Linear& product) { return sum + product.w.bytes(); });
  const std::int64_t time = product_time(bytes, total * std::ssize(x));
#pragma omp parallel for schedule(dynamic) if (worth_sharing(time))
  for (const RowBlock& block : blocks) {
    const auto [matrix, begin, end] = block;
    const Linear& product = products.begin()[matrix];
    float* y = product.y.data() + begin;
    multiply_rows(product.w, begin, end, inputs.of(0), y, product.w.rows);
    if (product.bias.empty()) continue;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::int64_t r = begin; r < end; ++r)
        product.y[t * at(product.w.rows) + at(r)] += product.bias[at(r)];
    }
  }
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
#pragma omp parallel for schedule(static) if (worth_sharing(std::ssize(x)))
  for (std::size_t start = 0; start < x.size(); start += n) {
    // Several sums, so that one addition need not wait for the last.
    std::array<double, 8> squares{};
    for (std::size_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(x[start + i]);
      squares[i % squares.size()] += value * value;
    }
    const double mean =
        std::accumulate(squares.begin(), squares.end(), 0.0) / static_cast<double>(n);
    const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
    for (std::size_t i = 0; i < n; ++i) y[start + i] = weight[i] * (x[start + i] * scale);
  }
}

std::size_t first_not_finite(std::span<const float> values) {
  // All values are looked at together, as vectors, since they almost always are finite.
  constexpr std::uint32_t infinity = 0x7f800000;
  std::uint32_t largest = 0;
  for (const float x : values)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x) & 0x7fffffff);
  if (largest < infinity) return values.size();
  const auto first =
      std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
  return static_cast<std::size_t>(first - values.begin());
}

void activate(Activation activation, std::span<float> gate, std::span<const float> up) {
  const auto each = [&](const auto& function) {
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = function(gate[i]) * up[i];
  };
  switch (activation) {
    case Activation::Silu:
      return kernels().silu(gate.data(), up.data(), std::ssize(gate));
    case Activation::Gelu:
      return each(
          [](float x) { return 0.5F * x * (1.0F + std::erf(x / std::numbers::sqrt2_v<float>)); });
    case Activation::GeluTanh:
      return each([scale = std::sqrt(2.0F / std::numbers::pi_v<float>)](float x) {
        return 0.5F * x * (1.0F + std::tanh(scale * (x + 0.044715F * x * x * x)));
      });
    case Activation::Relu:
      return each([](float x) { return std::max(x, 0.0F); });
  }
}

float* scratch(std::size_t slot, std::int64_t n) {
  thread_local std::array<std::vector<float>, 3> buffers;
  std::vector<float>& buffer = buffers[slot];
  if (buffer.size() < at(n) + line_floats) buffer.resize(at(n) + line_floats);
  return at_line(buffer.data());
}

}  // namespace olmoe
