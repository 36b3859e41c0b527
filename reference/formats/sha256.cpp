#include "formats/sha256.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "formats/mapped_file.hpp"

namespace olmoe {
namespace {

constexpr std::size_t block_size = 64;
using State = std::array<std::uint32_t, 8>;

// Section 5.3.3: the first 32 bits of the fractional parts of the square roots of the first 8
// primes.
constexpr State initial_state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

// Section 4.2.2: likewise, of the cube roots of the first 64 primes.
constexpr std::array<std::uint32_t, 64> round_constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// Section 6.2.2, with the message schedule's 64 words kept as a window of the last 16.
void compress(State& state, std::span<const std::byte, block_size> block) {
  std::array<std::uint32_t, 16> w;
  for (std::size_t i = 0; i < block_size; i += 4) {
    w[i / 4] = std::to_integer<std::uint32_t>(block[i]) << 24 |
               std::to_integer<std::uint32_t>(block[i + 1]) << 16 |
               std::to_integer<std::uint32_t>(block[i + 2]) << 8 |
               std::to_integer<std::uint32_t>(block[i + 3]);
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t t = 0; t < 64; ++t) {
    if (t >= 16) {
      const std::uint32_t w15 = w[(t - 15) % 16];
      const std::uint32_t w2 = w[(t - 2) % 16];
      w[t % 16] += (std::rotr(w15, 7) ^ std::rotr(w15, 18) ^ w15 >> 3) + w[(t - 7) % 16] +
                   (std::rotr(w2, 17) ^ std::rotr(w2, 19) ^ w2 >> 10);
    }
    const std::uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                             ((e & f) ^ (~e & g)) + round_constants[t] + w[t % 16];
    const std::uint32_t t2 =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const State worked = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < state.size(); ++i) state[i] += worked[i];
}

}  // namespace

std::string sha256(std::span<const std::byte> bytes) {
  State state = initial_state;
  auto rest = bytes;
  for (; rest.size() >= block_size; rest = rest.subspan(block_size)) {
    compress(state, rest.first<block_size>());
  }

  // Section 5.1.1: a one bit, zeros, and the length in bits as a big-endian 64-bit number.
  std::array<std::byte, 2 * block_size> tail{};
  std::copy(rest.begin(), rest.end(), tail.begin());
  tail[rest.size()] = std::byte{0x80};
  const std::size_t tail_size = rest.size() + 1 + 8 <= block_size ? block_size : 2 * block_size;
  const std::uint64_t bits = std::uint64_t{bytes.size()} * 8;
  for (std::size_t i = 0; i < 8; ++i) {
    tail[tail_size - 1 - i] = static_cast<std::byte>(bits >> (8 * i));
  }
  for (std::size_t i = 0; i < tail_size; i += block_size) {
    compress(state, std::span(tail).subspan(i).first<block_size>());
  }

  std::string hex;
  for (const std::uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 0xf];
  }
  return hex;
}

std::string sha256_file(const std::filesystem::path& path) {
  return sha256(MappedFile(path).bytes());
}

}  // namespace olmoe
