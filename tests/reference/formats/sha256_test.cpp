#include "formats/sha256.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"

namespace {

std::string sha256_text(std::string_view text) {
  return olmoe::sha256(std::as_bytes(std::span(text)));
}

}  // namespace

// https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values
TEST_CASE("SHA-256 of the published examples") {
  CHECK(sha256_text("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256_text("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(sha256_text(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// The lengths around one and two blocks, where the padding moves to a block of its own. Expected:
// Python's hashlib.sha256 of the first n bytes of 0, 1, 2, ..., then of all these digests together.
TEST_CASE("SHA-256 across the padding's boundaries") {
  std::string message;
  for (int i = 0; i < 129; ++i) message += static_cast<char>(i);
  std::string digests;
  for (std::size_t n = 55; n <= 65; ++n) digests += sha256_text(message.substr(0, n));
  for (std::size_t n = 119; n <= 129; ++n) digests += sha256_text(message.substr(0, n));
  CHECK(sha256_text(message.substr(0, 55)) ==
        "463eb28e72f82e0a96c0a4cc53690c571281131f672aa229e0d45ae59b598b59");
  CHECK(sha256_text(message.substr(0, 56)) ==
        "da2ae4d6b36748f2a318f23e7ab1dfdf45acdc9d049bd80e59de82a60895f562");
  CHECK(sha256_text(message.substr(0, 64)) ==
        "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108");
  CHECK(sha256_text(digests) == "e47ef5537b9dd181621d2b5c9e7c211b534bb9dff05257aae141a6c9031cfcdb");
}

TEST_CASE("SHA-256 of a file") {
  const TempDir dir;
  CHECK(olmoe::sha256_file(dir.write("empty", "")) == sha256_text(""));
  CHECK(olmoe::sha256_file(dir.write("abc", "abc")) == sha256_text("abc"));
  const std::string large(3'000'001, 'x');
  CHECK(olmoe::sha256_file(dir.write("large", large)) == sha256_text(large));

  const std::string missing = (dir.path() / "none").string();
  CHECK(error_of([&] { olmoe::sha256_file(missing); }) == missing + ": No such file or directory");
  CHECK(error_of([&] { olmoe::sha256_file(dir.path()); }) ==
        dir.path().string() + ": is a directory, not a file");
}
