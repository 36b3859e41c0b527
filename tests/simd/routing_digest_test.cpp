// A digest of routings over a fixed set of rows, policies and forms: the same on every instruction
// set, by the definition and with every compiler. A change that is to leave routings alone leaves
// these numbers alone; one that is to change them replaces the numbers and says why. The C library
// has a part in them (erfc and exp of nulls and sigmoids), whose last bits no count here hangs on.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "archs.hpp"
#include "library/support.hpp"
#include "routes.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;

namespace {

/// FNV-1a, over numbers of 64 bits.
class Digest {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    add(std::uint64_t{values.size()});
    for (const T& value : values) {
      if constexpr (std::is_same_v<T, float>) {
        add(std::uint64_t{std::bit_cast<std::uint32_t>(value)});
      } else {
        add(static_cast<std::uint64_t>(value));
      }
    }
  }

  void add(std::uint64_t value) { state_ = (state_ ^ value) * 0x100'0000'01B3U; }

  std::string text() const {
    std::ostringstream out;
    out << std::hex << std::setw(16) << std::setfill('0') << (state_ ^ (state_ >> 32));
    return out.str();
  }

 private:
  std::uint64_t state_ = 0xCBF2'9CE4'8422'2325U;
};

std::vector<Case> cases_of(Case::Policy policy) {
  constexpr std::array alphas{0.05, 0.4, 0.9};
  test::Random random(2026);
  std::vector<Case> cases;
  for (const int experts : {1, 8, 37, 64, 100, 128, 256, 1024}) {
    for (const bool renormalize : {false, true}) {
      Case c;
      c.policy = policy;
      c.k = 1 + random.below(std::min(experts, 20));
      c.alpha = alphas[test::index(random.below(3))];
      c.bounds = {random.below(2) * std::min(experts, 2), fd::ExpertBounds::all};
      c.weights.softmax.renormalize = renormalize;
      c.stored = Case::Stored::as_float;
      c.slice = random.below(2) * 5;
      c.experts = experts;
      c.logits = test::batch_of_every_kind(experts, experts > 130 ? 1 : 2, random).logits;
      cases.push_back(c);
    }
  }
  return cases;
}

template <class Route>
std::string digest_of(Case::Policy policy, const Route& route) {
  Digest digest;
  for (const Case& c : cases_of(policy)) {
    const Routes routes = route(c);
    digest.add(routes.experts);
    digest.add(routes.weights);
    digest.add(routes.counts);
    digest.add(routes.status);
    digest.add(routes.dense);
    digest.add(routes.masks);
    digest.add(routes.offsets);
    digest.add(routes.csr_experts);
    digest.add(routes.csr_weights);
  }
  return digest.text();
}

/// In the order of Case::Policy.
constexpr std::array<const char*, Case::policies> committed{
    "3fc553d03d6a3953", "343b1d590be6d668", "de2534706a194979", "e208347e8f141c74",
    "e52c1485a07b61e4", "f6208f39e1c05b8b", "de6da60e6fb22f8e", "b16bfbf0799d8e48",
    "e5b9b586bcfa3f45", "740f57136f1ad0c3", "dce830e013976a93", "28ca5c096ca2f2d5",
    "6d4caf233d69b2da", "863199f6ad44c8d6", "2cdf0d15528b228d", "bda849c0703676cc",
    "e6d082eb4ab8120a", "21e4cce1eecf2d47", "207e7178ab46bb08", "ac8b7039a7f8424b"};

template <class AnyPolicy>
std::string digest_of(const AnyPolicy& router, const test::Batch& batch) {
  const auto out = test::routed(router, batch.view());
  Digest digest;
  const std::ptrdiff_t places = out.tokens * out.capacity;
  digest.add(std::vector<std::int32_t>(&out.experts[0], &out.experts[0] + places));
  digest.add(std::vector<float>(&out.weights[0], &out.weights[0] + places));
  return digest.text();
}

}  // namespace

TEST_CASE("routings have the committed digest, on every Arch and by the definition") {
  const std::vector<Compiled> archs = vector_archs();
  [[maybe_unused]] std::uint64_t all = 0;
  for (int i = 0; i < Case::policies; i += test::stride_of_cases) {
    const auto policy = static_cast<Case::Policy>(i);
    if (!is_compiled(policy)) continue;
    INFO("policy ", i);
    const std::string expected = committed[test::index(i)];
#if !defined(FDROUTE_TEST_NATIVE)  // alone with one Arch where tests/matrix is quick
    CHECK(digest_of(policy, compiled_for_scalar().route) == expected);
    CHECK(digest_of(policy, route_by_definition) == expected);
#endif
    for (const Compiled& arch : archs) {
      const std::string digest = digest_of(policy, arch.route);
      CHECK_MESSAGE(digest == expected, arch.name);
      all = 31 * all + std::stoull(digest, nullptr, 16);
    }
  }
#if defined(FDROUTE_TEST_NATIVE)
  MESSAGE("digest of all routings: ", all);
#endif
}

TEST_CASE("routings of presets have the committed digest") {
  test::Random random(2027);
  const test::Batch batch = test::batch_of_every_kind(32, 4, random);
  std::vector<float> bias;
  for (int j = 0; j < 32; ++j) bias.push_back(0.25F * random.normal());
  CHECK(digest_of(fd::presets::olmoe({32, 8, true}), batch) == "b98b8c7b2b41225a");
  CHECK(digest_of(fd::presets::llama4({32, 2}), batch) == "b6c2274d831ceb70");
  CHECK(digest_of(fd::presets::deepseek_v2({32, 6, 4, 2, 16.0F}), batch) == "16b426f93a78bd4e");
  CHECK(digest_of(fd::presets::deepseek_v3({32, 8, 4, 2, true, 2.5F}, bias), batch) ==
        "68a6c99284b41437");
}
