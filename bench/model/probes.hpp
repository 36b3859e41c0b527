#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/kernels.hpp"

namespace bench {

/// Seconds since some fixed moment; after use_processor_time() those that the calling thread has
/// computed. On a machine that is shared, one thread is better timed so.
double now();
void use_processor_time();

/// Memory for bandwidth(): `bytes` of it, on huge pages where the system gives them.
class Memory {
 public:
  explicit Memory(std::size_t bytes);
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

/// Bytes per second at which OpenMP's threads read memory once, each a part of it in order: with
/// prefetch instructions or without, whichever is faster here.
class Bandwidth {
 public:
  /// Tries both on `memory`.
  explicit Bandwidth(std::span<const std::byte> memory);

  double operator()(std::span<const std::byte> memory) const { return read_(memory); }

 private:
  double (*read_)(std::span<const std::byte>);
};

/// Floating-point operations per second of fused multiply-adds (2 each) on registers, by all of
/// OpenMP's threads, with the vectors of `isa`; of multiplications and additions where it has no
/// fused ones.
double peak(olmoe::Isa isa);

/// peak() of dot products of bfloat16 pairs (4 a float of the vector), or of AMX's products of
/// tiles: of what olmoe::bf16_dot() multiplies by. Only where there is one.
double bf16_peak();

}  // namespace bench
