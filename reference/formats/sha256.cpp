#include "formats/sha256.hpp"

#include <openssl/evp.h>

#include <array>
#include <stdexcept>

#include "formats/mapped_file.hpp"

namespace olmoe {

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, 32> digest;
  // libcrypto fails only if its configuration leaves SHA-256 out, or memory is at its end.
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("libcrypto has no SHA-256");
  std::string hex;
  for (const unsigned char byte : digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

std::string sha256_file(const std::filesystem::path& path) {
  return sha256(MappedFile(path).bytes());
}

}  // namespace olmoe
