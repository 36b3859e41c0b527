#include <cstdint>
#include <cstring>

#include "formats/float16.hpp"

namespace olmoe {
namespace {

using Floats = float __attribute__((vector_size(16)));
using Ints = std::int32_t __attribute__((vector_size(16)));

struct Vector {
  static constexpr int width = 4;
  static constexpr int tile_tokens = 6;   // 12 sums, 2 rows and a factor in 16 registers
  static constexpr int pass_vectors = 1;  // 12 sums, 3 of x and one of weights in 16 registers

  Floats v;

  static Vector broadcast(float x) { return {Floats{x, x, x, x}}; }
  static Vector load(const float* p) { return load_bytes(p); }
  static Vector load_bits(const std::uint16_t* p) { return load_bytes(p); }
  static Vector load_f16(const std::uint16_t* p) {
    return {Floats{to_float(Half{p[0]}), to_float(Half{p[1]}), to_float(Half{p[2]}),
                   to_float(Half{p[3]})}};
  }
  static Vector load_bf16(const std::uint16_t* p) {
    return {reinterpret_cast<Floats>(Ints{p[0], p[1], p[2], p[3]} << 16)};
  }
  static void load_bf16(const std::uint16_t* p, Vector (&two)[2]) {
    two[0] = load_bf16(p);
    two[1] = load_bf16(p + width);
  }
  void store(float* p) const { std::memcpy(p, &v, sizeof v); }

  /// Each 32-bit element's lower or upper half, a bfloat16, as a float.
  Vector low_bf16() const { return {reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) << 16)}; }
  Vector high_bf16() const {
    return {reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & static_cast<int>(0xffff0000u))};
  }

  /// 2^v for whole v in [-126, 127].
  Vector power_of_two() const {
    return {reinterpret_cast<Floats>((__builtin_convertvector(v, Ints) + 127) << 23)};
  }

  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }

 private:
  static Vector load_bytes(const void* p) {
    Vector result;
    std::memcpy(&result.v, p, sizeof result.v);
    return result;
  }
};

Vector operator+(Vector a, Vector b) {
  return {a.v + b.v};
}
Vector operator-(Vector a, Vector b) {
  return {a.v - b.v};
}
Vector operator*(Vector a, Vector b) {
  return {a.v * b.v};
}
Vector operator/(Vector a, Vector b) {
  return {a.v / b.v};
}
// The second argument, if one is NaN.
Vector max(Vector a, Vector b) {
  return {a.v > b.v ? a.v : b.v};
}
Vector min(Vector a, Vector b) {
  return {a.v < b.v ? a.v : b.v};
}
// To the nearest whole number, for |a| < 2^22: of larger floats the sum keeps no fraction.
Vector round(Vector a) {
  const Vector shift = Vector::broadcast(0x1.8p23F);
  return (a + shift) - shift;
}
Vector fmadd(Vector a, Vector b, Vector c) {
  return {a.v * b.v + c.v};
}

// Inlined, so that the vectors stay in registers.
[[gnu::always_inline]] inline void transpose(Vector (&rows)[4]) {
  const Floats a = __builtin_shufflevector(rows[0].v, rows[1].v, 0, 4, 1, 5);
  const Floats b = __builtin_shufflevector(rows[0].v, rows[1].v, 2, 6, 3, 7);
  const Floats c = __builtin_shufflevector(rows[2].v, rows[3].v, 0, 4, 1, 5);
  const Floats d = __builtin_shufflevector(rows[2].v, rows[3].v, 2, 6, 3, 7);
  rows[0].v = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  rows[1].v = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  rows[2].v = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  rows[3].v = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

}  // namespace
}  // namespace olmoe

#include "kernels/kernels_body.inc"

const olmoe::Kernels olmoe::kernels_baseline = olmoe::table(Isa::baseline);
