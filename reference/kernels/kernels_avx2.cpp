#include <immintrin.h>

#include <cstdint>

namespace olmoe {
namespace {

struct Vector {
  static constexpr int width = 8;
  static constexpr int tile_tokens = 6;   // 12 sums, 2 rows and a factor in 16 registers
  static constexpr int pass_vectors = 1;  // 12 sums, 3 of x and one of weights in 16 registers

  __m256 v;

  static Vector broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vector load_bits(const std::uint16_t* p) {
    return load(reinterpret_cast<const float*>(p));
  }
  static Vector load_f16(const std::uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Vector load_bf16(const std::uint16_t* p) {
    return {widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static void load_bf16(const std::uint16_t* p, Vector (&two)[2]) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    two[0].v = widen(_mm256_castsi256_si128(bits));
    two[1].v = widen(_mm256_extracti128_si256(bits, 1));
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }

  /// Each 32-bit element's lower or upper half, a bfloat16, as a float.
  Vector low_bf16() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 16))};
  }
  Vector high_bf16() const {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(v), mask))};
  }

  /// 2^v for whole v in [-126, 127].
  Vector power_of_two() const {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))};
  }

  float sum() const {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static __m256 widen(__m128i bf16) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
  }
};

Vector operator+(Vector a, Vector b) {
  return {_mm256_add_ps(a.v, b.v)};
}
Vector operator-(Vector a, Vector b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
Vector operator*(Vector a, Vector b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
Vector operator/(Vector a, Vector b) {
  return {_mm256_div_ps(a.v, b.v)};
}
// The second argument, if one is NaN.
Vector max(Vector a, Vector b) {
  return {_mm256_max_ps(a.v, b.v)};
}
Vector min(Vector a, Vector b) {
  return {_mm256_min_ps(a.v, b.v)};
}
Vector round(Vector a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
Vector fmadd(Vector a, Vector b, Vector c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}

// Inlined, so that the vectors stay in registers.
[[gnu::always_inline]] inline void transpose(Vector (&rows)[8]) {
  // Pairs, then quadruples, within each half of the vectors; then the halves.
  __m256d pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i].v, rows[i + 1].v));
    pairs[i + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i].v, rows[i + 1].v));
  }
  __m256 quads[8];
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(pairs[i + j], pairs[i + 2 + j]));
      quads[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pairs[i + j], pairs[i + 2 + j]));
    }
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(quads[i], quads[4 + i], 0x20);
    rows[4 + i].v = _mm256_permute2f128_ps(quads[i], quads[4 + i], 0x31);
  }
}

}  // namespace
}  // namespace olmoe

#include "kernels/kernels_body.inc"

const olmoe::Kernels olmoe::kernels_avx2 = olmoe::table(Isa::avx2);
