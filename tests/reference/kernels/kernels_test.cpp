#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "cli/integration_test.hpp"
#include "formats/float16.hpp"
#include "forward/ops.hpp"
#include "reference/each_isa.hpp"
#include "reference/error_of.hpp"

namespace {

using olmoe::DType;
using olmoe::Isa;
using olmoe::Matrix;

std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(random() >> 8) * 0x1p-23F - 1.0F;
  return values;
}

/// A matrix of its own memory, and its exact values.
struct Weights {
  std::vector<std::uint32_t> memory;
  std::vector<float> values;
  Matrix matrix;
};

Weights weights(DType dtype, std::int64_t rows, std::int64_t cols, unsigned seed) {
  Weights w;
  w.values = random_floats(static_cast<std::size_t>(rows * cols), seed);
  w.memory.resize(w.values.size() + 1);
  auto* halves = reinterpret_cast<std::uint16_t*>(w.memory.data());
  for (std::size_t i = 0; i < w.values.size(); ++i) {
    float& value = w.values[i];
    if (dtype == DType::F32) {
      w.memory[i] = std::bit_cast<std::uint32_t>(value);
    } else if (dtype == DType::F16) {
      halves[i] = olmoe::to_half(value).bits;
      value = olmoe::to_float(olmoe::Half{halves[i]});
    } else {
      halves[i] = olmoe::to_bfloat16(value).bits;
      value = olmoe::to_float(olmoe::BFloat16{halves[i]});
    }
  }
  w.matrix = {dtype, reinterpret_cast<const std::byte*>(w.memory.data()), rows, cols};
  return w;
}

std::vector<float> product(const Matrix& w, const std::vector<float>& x) {
  const auto tokens = static_cast<std::int64_t>(x.size()) / w.cols;
  std::vector<float> y(static_cast<std::size_t>(tokens * w.rows));
  olmoe::linear({{w, {}, y}}, x);
  return y;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

/// How many results of a product are farther from the definition than `roundings` of each term.
int beyond(double roundings, const Weights& w, const std::vector<float>& x,
           const std::vector<float>& y) {
  const auto cols = static_cast<std::size_t>(w.matrix.cols);
  const auto rows = static_cast<std::size_t>(w.matrix.rows);
  int wrong = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const float* row = w.values.data() + i % rows * cols;
    const float* token = x.data() + i / rows * cols;
    double sum = 0.0;
    double size = 0.0;
    for (std::size_t c = 0; c < cols; ++c) {
      const double term = static_cast<double>(row[c]) * static_cast<double>(token[c]);
      sum += term;
      size += std::abs(term);
    }
    // Not >, which NaN would pass.
    wrong += !(std::abs(static_cast<double>(y[i]) - sum) <= roundings * 0x1p-24 * size);
  }
  return wrong;
}

struct Shape {
  std::int64_t rows, cols, tokens;
};

}  // namespace

TEST_CASE("weights asked for a page ahead make no difference to a product") {
  const auto x = random_floats(2048 + 7, 5);
  const auto check = [&](const olmoe::Products& products, const Weights& w) {
    std::vector<float> plain(static_cast<std::size_t>(w.matrix.rows));
    std::vector<float> ahead = plain;
    const auto run = [&](auto dot_rows, std::vector<float>& y) {
      dot_rows(w.matrix.data, w.matrix.cols, w.matrix.rows, w.matrix.cols, x.data(), y.data());
    };
    run(products.dot_rows, plain);
    run(products.dot_rows_ahead, ahead);
    CHECK(same_bits(plain, ahead));
    CHECK(plain != std::vector<float>(plain.size()));
  };
  for (const std::int64_t cols : {5, 64, 2055}) {
    each_isa([&](Isa) {
      check(olmoe::kernels().products[0], weights(DType::F32, 9, cols, 6));
      check(olmoe::kernels().products[1], weights(DType::F16, 9, cols, 7));
      check(olmoe::kernels().products[2], weights(DType::BF16, 9, cols, 8));
    });
    each_bf16([&] { check(*olmoe::bf16_dot(), weights(DType::BF16, 9, cols, 9)); });
  }
}

TEST_CASE("a product does not depend on where in a cache line its weights begin") {
  constexpr std::size_t rows = 3;
  const auto x = random_floats(2048, 12);
  for (const std::size_t cols : {31U, 32U, 33U, 63U, 64U, 65U, 96U, 300U, 2048U}) {
    CAPTURE(cols);
    const Weights w = weights(DType::BF16, rows, static_cast<std::int64_t>(cols), 13);
    const auto* elements = reinterpret_cast<const std::uint16_t*>(w.memory.data());
    const auto check = [&](const olmoe::Products& products) {
      const auto run = [&](const std::uint16_t* from) {
        std::vector<float> y(rows);
        products.dot_rows(from, static_cast<std::ptrdiff_t>(cols), rows,
                          static_cast<std::ptrdiff_t>(cols), x.data(), y.data());
        return y;
      };
      const auto expected = run(elements);
      for (std::size_t begin = 0; begin < 32; ++begin) {
        // Of its own memory, so that a sanitizer sees what is read beyond it.
        std::vector<std::uint16_t> moved(begin);
        moved.insert(moved.end(), elements, elements + rows * cols);
        moved.shrink_to_fit();
        CHECK(same_bits(run(moved.data() + begin), expected));
      }
    };
    each_isa([&](Isa) { check(olmoe::kernels().products[2]); });
    each_bf16([&] { check(*olmoe::bf16_dot()); });
  }
}

TEST_CASE("products are those of the definition, for every storage and instruction set") {
  for (const Shape& shape :
       {Shape{1, 1, 1}, Shape{3, 31, 2}, Shape{32, 32, 3}, Shape{33, 33, 13}, Shape{70, 64, 14},
        Shape{65, 200, 15}, Shape{8, 1000, 29}, Shape{100, 96, 61}, Shape{6, 1024, 4},
        Shape{37, 2115, 5}, Shape{66, 1056, 8}, Shape{9, 33, 11}, Shape{45, 100, 12}}) {
    // Not a structured binding, which clang 14 does not let a lambda use.
    const std::int64_t rows = shape.rows;
    const std::int64_t cols = shape.cols;
    const std::int64_t tokens = shape.tokens;
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(tokens);
      CAPTURE(olmoe::name(dtype));
      const Weights w = weights(dtype, rows, cols, 1);
      const auto x = random_floats(static_cast<std::size_t>(tokens * cols), 2);
      std::vector<std::vector<float>> fused;
      each_isa([&](Isa isa) {
        const auto y = product(w.matrix, x);
        CHECK(y.size() == static_cast<std::size_t>(tokens * rows));
        // Each term passes at most cols / 32 + 6 roundings.
        CHECK(beyond(static_cast<double>(cols) / 32 + 6, w, x, y) == 0);

        // Each token alone gives the same bits.
        for (std::int64_t t = 0; t < tokens; ++t) {
          const std::vector<float> one(x.begin() + t * cols, x.begin() + (t + 1) * cols);
          CHECK(same_bits(product(w.matrix, one),
                          {y.begin() + t * rows, y.begin() + (t + 1) * rows}));
        }
        if (isa != Isa::baseline) fused.push_back(y);
      });
      for (const auto& y : fused) CHECK(same_bits(y, fused.front()));
    }
  }
}

TEST_CASE("a NaN or an infinity stays in its row and its token") {
  each_isa([](Isa) {
    Weights w = weights(DType::F32, 39, 50, 3);
    w.memory[std::size_t{7} * 50 + 49] =
        std::bit_cast<std::uint32_t>(std::numeric_limits<float>::quiet_NaN());
    for (const std::size_t tokens : {std::size_t{5}, std::size_t{13}}) {
      CAPTURE(tokens);
      auto x = random_floats(tokens * 50, 4);
      x[std::size_t{2} * 50] = std::numeric_limits<float>::infinity();
      const auto y = product(w.matrix, x);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t r = 0; r < 39; ++r) {
          CHECK(std::isnan(y[t * 39 + r]) == (r == 7));
          CHECK(std::isinf(y[t * 39 + r]) == (t == 2 && r != 7));
        }
      }
    }
  });
}

TEST_CASE("products in bf16 are those of the definition, of activations rounded to bfloat16") {
  each_bf16([] {
    for (const Shape& shape :
         {Shape{1, 1, 1}, Shape{1, 32, 3}, Shape{3, 31, 2}, Shape{8, 33, 4}, Shape{9, 64, 5},
          Shape{17, 200, 29}, Shape{70, 1000, 1}, Shape{100, 96, 61}, Shape{40, 72, 200},
          Shape{45, 100, 2}, Shape{66, 96, 7}, Shape{9, 33, 12}, Shape{40, 64, 16},
          Shape{33, 95, 17}, Shape{130, 32, 33}}) {
      const std::int64_t rows = shape.rows;
      const std::int64_t cols = shape.cols;
      const std::int64_t tokens = shape.tokens;
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(tokens);
      Weights w = weights(DType::BF16, rows, cols, 12);
      w.matrix.compute = olmoe::Compute::bf16;
      const auto x = random_floats(static_cast<std::size_t>(tokens * cols), 13);
      const auto y = product(w.matrix, x);
      CHECK(y.size() == static_cast<std::size_t>(tokens * rows));
      std::vector<float> rounded(x.size());
      std::transform(x.begin(), x.end(), rounded.begin(),
                     [](float v) { return olmoe::to_float(olmoe::to_bfloat16(v)); });
      // Of each 32 columns, each term passes at most two roundings, and four in the tree; by AMX
      // one, and 17 among its 32.
      const bool amx = olmoe::kernels().isa == Isa::amx;
      const double roundings = static_cast<double>(cols) / (amx ? 32 : 16) + (amx ? 18 : 6);
      CHECK(beyond(roundings, w, rounded, y) == 0);

      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::vector<float> one(x.begin() + t * cols, x.begin() + (t + 1) * cols);
        CHECK(
            same_bits(product(w.matrix, one), {y.begin() + t * rows, y.begin() + (t + 1) * rows}));
      }
    }
  });
}

TEST_CASE(
    "products in bf16: ties round to even, denormals are zeros, NaN and infinity stay apart") {
  each_bf16([] {
    constexpr std::size_t rows = 17;
    constexpr std::size_t cols = 50;
    constexpr std::size_t tokens = 5;
    Weights w = weights(DType::BF16, rows, cols, 14);
    w.matrix.compute = olmoe::Compute::bf16;
    auto* halves = reinterpret_cast<std::uint16_t*>(w.memory.data());
    std::fill_n(halves, rows * cols, olmoe::to_bfloat16(0.0F).bits);
    halves[0] = olmoe::to_bfloat16(1.0F).bits;
    halves[cols] = 1;  // the least denormal, in row 1
    const auto first_of = [&](float value) {
      std::vector<float> x(cols, 1.0F);
      x[0] = value;
      return product(w.matrix, x);
    };
    CHECK(first_of(1.0F + 0x1p-8F)[0] == 1.0F);
    CHECK(first_of(1.0F + 3 * 0x1p-8F)[0] == 1.0F + 0x1p-6F);
    CHECK(first_of(std::numeric_limits<float>::max())[0] == std::numeric_limits<float>::infinity());
    CHECK(first_of(0x1p-130F)[0] == 0.0F);
    CHECK(first_of(0x1p126F)[1] == 0.0F);

    auto x = random_floats(tokens * cols, 15);
    std::fill_n(halves, rows * cols, olmoe::to_bfloat16(0.5F).bits);
    halves[7 * cols + cols - 1] = olmoe::to_bfloat16(std::numeric_limits<float>::quiet_NaN()).bits;
    x[2 * cols] = std::numeric_limits<float>::infinity();
    const auto y = product(w.matrix, x);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t r = 0; r < rows; ++r) {
        CHECK(std::isnan(y[t * rows + r]) == (r == 7));
        CHECK(std::isinf(y[t * rows + r]) == (t == 2 && r != 7));
      }
    }
  });
}

TEST_CASE("products have the same bits for any number of threads") {
  const int before = omp_get_max_threads();
  const auto check = [&](olmoe::Compute compute) {
    CAPTURE(olmoe::name(compute));
    Weights w = weights(DType::BF16, 333, 200, 16);
    w.matrix.compute = compute;
    const auto x = random_floats(std::size_t{13} * 200, 17);
    omp_set_num_threads(1);
    const auto alone = product(w.matrix, x);
    omp_set_num_threads(3);
    CHECK(same_bits(product(w.matrix, x), alone));
    omp_set_num_threads(before);
  };
  check(olmoe::Compute::f32);
  each_bf16([&] { check(olmoe::Compute::bf16); });
}

TEST_CASE("products by AMX have the order of sums that kernels.hpp gives") {
  each_bf16([] {
    if (olmoe::kernels().isa != Isa::amx) return;
    constexpr std::size_t rows = 35, cols = 150, tokens = 19;
    Weights w = weights(DType::BF16, rows, cols, 18);
    w.matrix.compute = olmoe::Compute::bf16;
    const auto x = random_floats(tokens * cols, 19);
    std::vector<float> expected;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t r = 0; r < rows; ++r) {
        float sum = 0.0F;
        for (std::size_t begin = 0; begin < cols; begin += 32) {
          float parts[2] = {0.0F, 0.0F};  // of the even and of the odd columns
          for (std::size_t c = begin; c < std::min(begin + 32, cols); ++c) {
            const float input = olmoe::to_float(olmoe::to_bfloat16(x[t * cols + c]));
            parts[c % 2] = std::fma(w.values[r * cols + c], input, parts[c % 2]);
          }
          sum += parts[0] + parts[1];
        }
        expected.push_back(sum);
      }
    }
    CHECK(same_bits(product(w.matrix, x), expected));
  });
}

TEST_CASE("products in bf16 are refused with kernels of another instruction set") {
  if (!bf16_here()) return;
  const Isa before = olmoe::kernels().isa;
  CHECK_NOTHROW(olmoe::require_bf16_dot());
  olmoe::use_isa(Isa::avx2);
  CHECK_THROWS_WITH_AS(olmoe::require_bf16_dot(),
                       "compute 'bf16' needs instruction set 'avx512' or 'amx', in use is 'avx2'",
                       std::invalid_argument);
  olmoe::use_isa(before);
}

TEST_CASE("a bias is added to every token") {
  const Weights w = weights(DType::BF16, 20, 30, 5);
  const auto x = random_floats(std::size_t{3} * 30, 6);
  const auto bias = random_floats(20, 7);
  const auto without = product(w.matrix, x);
  std::vector<float> with(without.size());
  olmoe::linear({{w.matrix, bias, with}}, x);
  for (std::size_t i = 0; i < with.size(); ++i) CHECK(with[i] == without[i] + bias[i % 20]);
}

TEST_CASE("silu and softmax are within a few ulp of double precision") {
  each_isa([](Isa) {
    std::vector<float> x;
    for (int i = -2400; i <= 2400; ++i) x.push_back(static_cast<float>(i) / 16.0F);
    for (const float value : {0x1p-149F, -0x1p-126F, 0.0F, -0.0F, 1e30F}) x.push_back(value);
    const auto up = random_floats(x.size(), 8);
    auto gate = x;
    olmoe::activate(olmoe::Activation::Silu, gate, up);
    // Below -88.7, exp(-x) is infinite in float, and the result 0 where it should be -2^-120 or so.
    int wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double g = static_cast<double>(x[i]);
      const double expected = g / (1.0 + std::exp(-g)) * static_cast<double>(up[i]);
      wrong += std::abs(static_cast<double>(gate[i]) - expected) >
               6 * 0x1p-24 * std::abs(expected) + 0x1p-120;
    }
    CHECK(wrong == 0);
    std::vector<float> nan{std::numeric_limits<float>::quiet_NaN()};
    olmoe::activate(olmoe::Activation::Silu, nan, std::vector<float>{1.0F});
    CHECK(std::isnan(nan[0]));

    for (const std::size_t n :
         {std::size_t{1}, std::size_t{31}, std::size_t{32}, std::size_t{77}}) {
      auto scores = random_floats(n, 9);
      for (float& score : scores) score *= 100.0F;
      scores[n / 2] = -std::numeric_limits<float>::infinity();
      scores[n - 1] = 90.0F;
      std::vector<float> probabilities = scores;
      probabilities.resize((n + 31) / 32 * 32, std::numeric_limits<float>::quiet_NaN());
      olmoe::kernels().softmax(probabilities.data(), static_cast<std::ptrdiff_t>(n), 0.25F);
      double sum = 0.0;
      const auto term = [&](std::size_t i) {
        return std::exp(0.25 * (static_cast<double>(scores[i]) - 100.0));
      };
      for (std::size_t i = 0; i < n; ++i) sum += term(i);
      for (std::size_t i = 0; i < n; ++i) {
        const double expected = term(i) / sum;
        // The argument's rounding enters the result times the argument.
        CHECK(std::abs(static_cast<double>(probabilities[i]) - expected) <=
              60 * 0x1p-24 * expected + 0x1p-126);
      }
    }
  });
}

TEST_CASE("a query times a head's keys has the bits of a product with a matrix") {
  for (const std::int64_t cols : {2, 5, 31, 32, 33, 64, 80, 127, 128, 130, 161, 4096, 4128, 5000}) {
    CAPTURE(cols);
    const auto x = random_floats(static_cast<std::size_t>(cols), 14);
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
      const auto storage = static_cast<std::size_t>(dtype == DType::F32   ? olmoe::Storage::f32
                                                    : dtype == DType::F16 ? olmoe::Storage::f16
                                                                          : olmoe::Storage::bf16);
      CAPTURE(olmoe::name(dtype));
      for (const std::int64_t rows : {1, 2, 3, 8, 45}) {
        const Weights w = weights(dtype, rows, cols, 15);
        std::vector<float> room(static_cast<std::size_t>((cols + 31) / 32 * 32), 7.0F);
        each_isa([&](Isa) {
          std::vector<float> y(static_cast<std::size_t>(rows), 7.0F);
          olmoe::kernels().dot_keys[storage](w.matrix.data, cols, rows, cols, x.data(), room.data(),
                                             y.data());
          CHECK(same_bits(y, product(w.matrix, x)));
        });
      }
    }
  }
}

TEST_CASE("weighted sums of rows stop at each token's count, in the definition's order") {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
    const auto storage = static_cast<std::size_t>(dtype == DType::F32   ? olmoe::Storage::f32
                                                  : dtype == DType::F16 ? olmoe::Storage::f16
                                                                        : olmoe::Storage::bf16);
    CAPTURE(olmoe::name(dtype));
    each_isa([&](Isa isa) {
      for (const std::size_t width : {std::size_t{5}, std::size_t{64}, std::size_t{130}}) {
        constexpr std::size_t tokens = 17;
        constexpr std::size_t first = 3;
        constexpr std::size_t rows = first + tokens;
        const Weights v = weights(dtype, rows, static_cast<std::int64_t>(width), 10);
        const auto w = random_floats(tokens * rows, 11);
        std::vector<const float*> factors;
        std::vector<std::ptrdiff_t> counts;
        for (std::size_t t = 0; t < tokens; ++t) {
          factors.push_back(w.data() + t * rows);
          counts.push_back(static_cast<std::ptrdiff_t>(first + t));
        }
        const auto stride = static_cast<std::ptrdiff_t>(width);
        const auto sum_rows = olmoe::kernels().sum_rows[storage];
        std::vector<float> y(tokens * width, 7.0F);
        sum_rows(factors.data(), counts.data(), tokens, v.matrix.data, stride, stride, y.data(),
                 stride);
        std::size_t wrong = 0;
        for (std::size_t t = 0; t < tokens; ++t) {
          std::vector<float> alone(width, 7.0F);
          sum_rows(factors.data() + t, counts.data() + t, 1, v.matrix.data, stride, stride,
                   alone.data(), stride);
          for (std::size_t c = 0; c < width; ++c) {
            float sum = 0.0F;
            for (std::size_t i = 0; i < first + t; ++i) {
              const float factor = w[t * rows + i];
              const float value = v.values[i * width + c];
              sum = isa == Isa::baseline ? factor * value + sum : std::fma(factor, value, sum);
            }
            wrong += y[t * width + c] != sum;
            wrong += alone[c] != sum;
          }
        }
        CHECK(wrong == 0);
      }
    });
  }
}

TEST_CASE("every number that 16 bits hold is read as it is, denormals and infinities included") {
  for (const DType dtype : {DType::F16, DType::BF16}) {
    const auto storage =
        static_cast<std::size_t>(dtype == DType::F16 ? olmoe::Storage::f16 : olmoe::Storage::bf16);
    std::vector<std::uint16_t> v(std::size_t{1} << 16);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<std::uint16_t>(i);
    const std::ptrdiff_t count = 1;
    const float one = 1.0F;
    const float* const weight = &one;
    std::vector<float> y(v.size());
    each_isa([&](Isa) {
      const auto columns = std::ssize(v);
      olmoe::kernels().sum_rows[storage](&weight, &count, 1, v.data(), columns, columns, y.data(),
                                         columns);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < v.size(); ++i) {
        const float x = dtype == DType::F16 ? olmoe::to_float(olmoe::Half{v[i]})
                                            : olmoe::to_float(olmoe::BFloat16{v[i]});
        wrong += std::isnan(x) ? !std::isnan(y[i]) : y[i] != x;
      }
      CHECK(wrong == 0);
    });
  }
}

TEST_CASE("blocks of rows cover every matrix once, in order") {
  const std::vector<std::int64_t> rows{100, 1, 2048, 0, 33};
  std::vector<std::int64_t> covered(rows.size(), 0);
  std::size_t last = 0;
  for (const olmoe::RowBlock& block : olmoe::row_blocks(rows)) {
    CHECK(block.matrix >= last);
    last = block.matrix;
    CHECK(block.begin == covered[block.matrix]);
    CHECK(block.end > block.begin);
    covered[block.matrix] = block.end;
  }
  CHECK(covered == rows);
}

TEST_CASE("transformers' integration test compares means of logits, within 1e-2") {
  using olmoe::IntegrationTest;
  const auto means = IntegrationTest::row_means(std::vector<float>{1, 2, 6, -1, -2, -6}, 3);
  CHECK(means == std::vector<double>{3.0, -3.0});
  CHECK(IntegrationTest::agrees(-1.37, -1.3814));
  CHECK(!IntegrationTest::agrees(-1.35, -1.3814));
  CHECK(!IntegrationTest::agrees(1.3814, -1.3814));
  CHECK(!IntegrationTest::agrees(std::nan(""), -1.3814));
}

TEST_CASE("instruction sets by name") {
  const Isa before = olmoe::kernels().isa;
  CHECK(before == olmoe::usable_isas().back());
  CHECK(olmoe::usable_isas().front() == Isa::baseline);
  olmoe::use_isa("baseline");
  CHECK(olmoe::kernels().isa == Isa::baseline);
  CHECK_THROWS_WITH_AS(olmoe::use_isa("avx3"),
                       "unknown instruction set 'avx3'; known are baseline, avx2, avx512 and amx",
                       std::invalid_argument);
  CHECK(olmoe::kernels().isa == Isa::baseline);
  olmoe::use_isa(before);
}
