#include <immintrin.h>

#include <cstdint>

#include "kernels/transpose_avx512.inc"

namespace olmoe {
namespace {

struct Vector {
  static constexpr int width = 16;
  static constexpr int tile_tokens = 14;  // 28 sums, 2 rows and a factor in 32 registers
  static constexpr int pass_vectors = 2;  // 24 sums, 3 of x and one of weights in 32 registers

  __m512 v;

  static Vector broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector load_bits(const std::uint16_t* p) {
    return load(reinterpret_cast<const float*>(p));
  }
  static Vector load_f16(const std::uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vector load_bf16(const std::uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return upper_halves(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  /// A cache line at once: two loads of half a line each would read memory more slowly.
  static void load_bf16(const std::uint16_t* p, Vector (&two)[2]) {
    const __m512i bits = _mm512_loadu_si512(p);
    two[0] = upper_halves(_mm512_maskz_permutexvar_epi16(upper, sixteen(0), bits));
    two[1] = upper_halves(_mm512_maskz_permutexvar_epi16(upper, sixteen(16), bits));
  }

  /// Reads a row of 32 bfloat16 or more from its beginning, 32 a time but not the last 32, by loads
  /// that begin where lines of the cache do: of a row that begins elsewhere, every other load would
  /// take two lines.
  class Bf16Lines {
   public:
    explicit Bf16Lines(const void* row) {
      const auto address = reinterpret_cast<std::uintptr_t>(row);
      const auto before = static_cast<int>(-address % 64 / 2);  // elements, until a line begins
      next_ = static_cast<const std::uint16_t*>(row) + before;
      const __mmask32 last = before == 0 ? 0 : ~__mmask32{0} << (32 - before);
      line_ = _mm512_maskz_loadu_epi16(last, next_ - 32);
      first_ = sixteen(32 - before);
      second_ = sixteen(48 - before);
    }

    void next(Vector (&two)[2]) {
      const __m512i line = _mm512_load_si512(next_);
      two[0] = upper_halves(_mm512_maskz_permutex2var_epi16(upper, line_, first_, line));
      two[1] = upper_halves(_mm512_maskz_permutex2var_epi16(upper, line_, second_, line));
      line_ = line;
      next_ += 32;
    }

   private:
    const std::uint16_t* next_;  // the line to be loaded
    __m512i line_;               // the one before it
    __m512i first_;              // where the next elements are in these two
    __m512i second_;
  };

  void store(float* p) const { _mm512_storeu_ps(p, v); }

  /// Each 32-bit element's lower or upper half, a bfloat16, as a float.
  Vector low_bf16() const {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 16))};
  }
  Vector high_bf16() const {
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask))};
  }

  /// 2^v for whole v in [-126, 127].
  Vector power_of_two() const {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
  }

  float sum() const {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static constexpr __mmask32 upper = 0xaaaaaaaa;

  /// The places of 16 bfloat16 from `first` on, as the upper halves of 16 floats.
  static __m512i sixteen(int first) {
    const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_slli_epi32(_mm512_add_epi32(step, _mm512_set1_epi32(first)), 16);
  }
  static Vector upper_halves(__m512i bits) { return {_mm512_castsi512_ps(bits)}; }
};

Vector operator+(Vector a, Vector b) {
  return {_mm512_add_ps(a.v, b.v)};
}
Vector operator-(Vector a, Vector b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
Vector operator*(Vector a, Vector b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
Vector operator/(Vector a, Vector b) {
  return {_mm512_div_ps(a.v, b.v)};
}
// The second argument, if one is NaN.
Vector max(Vector a, Vector b) {
  return {_mm512_max_ps(a.v, b.v)};
}
Vector min(Vector a, Vector b) {
  return {_mm512_min_ps(a.v, b.v)};
}
Vector round(Vector a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
Vector fmadd(Vector a, Vector b, Vector c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

[[gnu::always_inline]] inline void transpose(Vector (&rows)[16]) {
  __m512 vectors[16];
  for (int i = 0; i < 16; ++i) vectors[i] = rows[i].v;
  transpose(vectors);
  for (int i = 0; i < 16; ++i) rows[i].v = vectors[i];
}

}  // namespace
}  // namespace olmoe

#include "kernels/kernels_body.inc"

const olmoe::Kernels olmoe::kernels_avx512 = olmoe::table(Isa::avx512);
