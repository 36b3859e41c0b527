#include "probes.hpp"

#ifdef FDROUTE_X86_KERNELS
#include <immintrin.h>
#endif
#include <omp.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "kernels/isa.hpp"

namespace bench {
namespace {

clockid_t clock_id = CLOCK_MONOTONIC;

/// Twelve chains of dependent multiply-adds: more than latency times throughput of any processor.
template <class V>
[[gnu::always_inline]] inline void multiply_add(long n) {
  const V factor = V{} + 0.999F;
  const V term = V{} + 1e-4F;
  V a = term, b = term, c = term, d = term, e = term, f = term;
  V g = term, h = term, i = term, j = term, k = term, l = term;
  for (long step = 0; step < n; ++step) {
    a = a * factor + term, b = b * factor + term, c = c * factor + term;
    d = d * factor + term, e = e * factor + term, f = f * factor + term;
    g = g * factor + term, h = h * factor + term, i = i * factor + term;
    j = j * factor + term, k = k * factor + term, l = l * factor + term;
    // Twelve different values, as far as the compiler knows.
    asm volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f));
    asm volatile("" : "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l));
  }
}

void run_baseline(long n) {
  multiply_add<float __attribute__((vector_size(16)))>(n);
}
#ifdef FDROUTE_X86_KERNELS
[[gnu::target("avx2,fma")]] void run_avx2(long n) {
  multiply_add<float __attribute__((vector_size(32)))>(n);
}
[[gnu::target("avx512f,fma")]] void run_avx512(long n) {
  multiply_add<float __attribute__((vector_size(64)))>(n);
}

[[gnu::target("avx512f,avx512bf16")]] void run_bf16(long n) {
  using V = __m512;
  const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));  // 1
  V a = _mm512_setzero_ps();
  V b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
  for (long step = 0; step < n; ++step) {
    a = _mm512_dpbf16_ps(a, x, x), b = _mm512_dpbf16_ps(b, x, x), c = _mm512_dpbf16_ps(c, x, x);
    d = _mm512_dpbf16_ps(d, x, x), e = _mm512_dpbf16_ps(e, x, x), f = _mm512_dpbf16_ps(f, x, x);
    g = _mm512_dpbf16_ps(g, x, x), h = _mm512_dpbf16_ps(h, x, x), i = _mm512_dpbf16_ps(i, x, x);
    j = _mm512_dpbf16_ps(j, x, x), k = _mm512_dpbf16_ps(k, x, x), l = _mm512_dpbf16_ps(l, x, x);
    asm volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f));
    asm volatile("" : "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l));
  }
}
#endif

#ifdef FDROUTE_AMX_KERNELS
/// Three products of tiles, 16 by 32 and 32 by 16, for each of four tiles of sums, the numbers of
/// chains and steps that the other loops have.
[[gnu::target("amx-tile,amx-bf16")]] void run_amx(long n) {
  struct alignas(64) {
    std::uint8_t palette = 1;
    std::uint8_t others[15] = {};
    std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } const configuration;
  asm volatile("" : : "r"(&configuration) : "memory");
  _tile_loadconfig(&configuration);  // and zeros in all tiles
  for (long step = 0; step < n; ++step) {
    for (int i = 0; i < 3; ++i) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_release();
}
#endif

struct Loop {
  void (*run)(long);
  double operations;  // of a chain's step
};

Loop loop_of(olmoe::Isa isa) {
#ifdef FDROUTE_X86_KERNELS
  if (isa == olmoe::Isa::avx512 || isa == olmoe::Isa::amx) return {run_avx512, 32};
  if (isa == olmoe::Isa::avx2) return {run_avx2, 16};
#endif
  return {run_baseline, 8};
}

double rate(const Loop& loop) {
  constexpr long n = 2'000'000;
  const double start = now();
#pragma omp parallel
  loop.run(n);
  return omp_get_max_threads() * 12.0 * loop.operations * n / (now() - start);
}

/// Reads all lines in order.
template <bool prefetch>
std::uint64_t sum_of(const std::byte* from, std::size_t bytes) {
  constexpr std::size_t line = 64;
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + line <= bytes; i += line) {
    if constexpr (prefetch) __builtin_prefetch(from + i + 1024, 0, 2);
    for (std::size_t j = 0; j < 8; ++j) {
      std::uint64_t word;
      std::memcpy(&word, from + i + 8 * j, sizeof word);
      sums[j] += word;
    }
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t s : sums) sum += s;
  return sum;
}

template <bool prefetch>
double read_rate(std::span<const std::byte> memory) {
  std::uint64_t sum = 0;
  const double start = now();
#pragma omp parallel reduction(+ : sum)
  {
    const auto threads = static_cast<std::size_t>(omp_get_num_threads());
    const std::size_t share = memory.size() / threads / 64 * 64;
    sum += sum_of<prefetch>(memory.data() + share * static_cast<std::size_t>(omp_get_thread_num()),
                            share);
  }
  const double seconds = now() - start;
  asm volatile("" : : "r"(sum));
  return static_cast<double>(memory.size()) / seconds;
}

}  // namespace

double now() {
  timespec time{};
  clock_gettime(clock_id, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void use_processor_time() {
  clock_id = CLOCK_THREAD_CPUTIME_ID;
}

Memory::Memory(std::size_t bytes) {
  void* address =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  ::madvise(address, bytes, MADV_HUGEPAGE);
  std::memset(address, 1, bytes);
  bytes_ = {static_cast<std::byte*>(address), bytes};
}

Memory::~Memory() {
  ::munmap(bytes_.data(), bytes_.size());
}

Bandwidth::Bandwidth(std::span<const std::byte> memory) {
  double rates[2] = {};
  for (int r = 0; r < 3; ++r) {
    rates[0] = std::max(rates[0], read_rate<false>(memory));
    rates[1] = std::max(rates[1], read_rate<true>(memory));
  }
  read_ = rates[1] > rates[0] ? read_rate<true> : read_rate<false>;
}

double peak(olmoe::Isa isa) {
  return rate(loop_of(isa));
}

double bf16_peak() {
#ifdef FDROUTE_AMX_KERNELS
  if (olmoe::kernels().isa == olmoe::Isa::amx) return rate({run_amx, 2 * 16 * 16 * 32});
#endif
#ifdef FDROUTE_X86_KERNELS
  return rate({run_bf16, 64});
#else
  return 0.0;
#endif
}

}  // namespace bench
