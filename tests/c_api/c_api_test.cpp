#include <doctest/doctest.h>
#include <fdroute/c_api.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "fdroute/fdroute.hpp"
#include "library/parse_once.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {
// Counts down to the allocation that fails; negative: none does. The shared library allocates by
// this program's operator new.
thread_local int allocations_left = -1;
}  // namespace

void* operator new(std::size_t size) {
  if (allocations_left == 0) throw std::bad_alloc{};
  if (allocations_left > 0) --allocations_left;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
// Inlined, delete would look to g++ like a free() of new's memory.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

extern "C" int route_from_c(const float* logits, std::int32_t* experts, float* weights);

namespace {

const std::string nulls_file = FDROUTE_SOURCE_DIR "/reference/model/nulls.safetensors";

const std::vector<double> grid{-6.0, -4.0, -3.0, -1.5};
const std::vector<double> log_sf{-0.1, -0.9, -2.5, -7.0};

struct Null {
  explicit Null(const std::string& score = "log_softmax") {
    REQUIRE(fdroute_null_create(grid.data(), log_sf.data(), grid.size(), score.c_str(), &handle) ==
            FDROUTE_OK);
  }
  ~Null() { fdroute_null_destroy(handle); }
  Null(const Null&) = delete;
  Null& operator=(const Null&) = delete;
  fdroute_null* handle = nullptr;
};

struct Router {
  explicit Router(const std::string& policy, int experts = 16, const fdroute_null* null = nullptr,
                  const float* bias = nullptr)
      : status(fdroute_router_create(policy.c_str(), experts, null, bias, &handle)),
        error(fdroute_last_error()) {}
  ~Router() { fdroute_router_destroy(handle); }
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  fdroute_router* handle = nullptr;
  fdroute_status status;
  std::string error;
};

/// Routes a batch through the C interface, into the shape that the C++ one has.
test::Padded<> routed(const fdroute_router* router, const void* logits, fdroute_dtype dtype,
                      std::ptrdiff_t tokens, fdroute_padding padding = FDROUTE_MINUS_ONE) {
  const int capacity = fdroute_router_capacity(router);
  test::Padded<> out(
      tokens, capacity,
      padding == FDROUTE_MINUS_ONE ? fd::Padding::minus_one : fd::Padding::repeat_valid);
  REQUIRE(fdroute_route(router, logits, dtype, tokens, fdroute_router_experts(router), capacity,
                        padding, out.experts.data(), out.weights.data(), out.counts.data(),
                        reinterpret_cast<std::uint8_t*>(out.status.data())) == FDROUTE_OK);
  REQUIRE(std::string(fdroute_last_error()).empty());
  return out;
}

}  // namespace

TEST_CASE("C calls the interface") {
  const std::array<float, 4> logits{0.0F, 2.0F, 1.0F, -1.0F};
  std::array<std::int32_t, 2> experts{};
  std::array<float, 2> weights{};
  REQUIRE(route_from_c(logits.data(), experts.data(), weights.data()) == 0);
  CHECK(experts == std::array<std::int32_t, 2>{1, 2});
  CHECK(weights[0] == doctest::Approx(0.6439).epsilon(1e-4));
}

TEST_CASE("the version is the headers'") {
  CHECK(std::string(fdroute_version()) == std::to_string(FDROUTE_VERSION_MAJOR) + "." +
                                              std::to_string(FDROUTE_VERSION_MINOR) + "." +
                                              std::to_string(FDROUTE_VERSION_PATCH));
}

TEST_CASE("the C interface routes as the C++ one does") {
  test::Random random(41);
  const test::Batch batch = test::batch_of_every_kind(16, 6, random);
  std::vector<float> bias(16);
  for (float& b : bias) b = random.normal();
  const Null null;
  const auto table =
      fd::TabulatedNull::from_log_survival(grid, log_sf, test::fitted_on("log_softmax"));
  for (const std::string policy :
       {"topk:k=3", "top_p:p=0.5", "bh:alpha=0.3,min_k=0", "bh:null=normal,max_k=4"}) {
    const Router router(policy, 16, null.handle);
    REQUIRE_MESSAGE(router.status == FDROUTE_OK, router.error);
    const fd::AnyRouter expected = fd::parse_router(policy, 16, table);
    CHECK(fdroute_router_experts(router.handle) == 16);
    CHECK(fdroute_router_capacity(router.handle) == expected.capacity());
    CHECK(fdroute_router_policy(router.handle) == expected.policy());
    CHECK(routed(router.handle, batch.logits.data(), FDROUTE_F32, batch.tokens()) ==
          test::routed(expected, batch.view()));
    CHECK(routed(router.handle, batch.logits.data(), FDROUTE_F32, batch.tokens(),
                 FDROUTE_REPEAT_VALID) ==
          test::routed(expected, batch.view(), fd::Padding::repeat_valid));
  }
  const Router biased("deepseek-v3:n_group=4,topk_group=2", 16, nullptr, bias.data());
  REQUIRE(biased.status == FDROUTE_OK);
  CHECK(
      routed(biased.handle, batch.logits.data(), FDROUTE_F32, batch.tokens()) ==
      test::routed(fd::parse_router("deepseek-v3:n_group=4,topk_group=2", 16, bias), batch.view()));
}

TEST_CASE("half-precision logits are the floats that they stand for") {
  // All 65536 values of either type would hold NaN in most rows; these are exact in both.
  test::Random random(5);
  const int experts = 24;
  test::Batch batch{experts};
  std::vector<std::uint16_t> bf16;
  std::vector<std::uint16_t> f16;
  for (int t = 0; t < 50; ++t) {
    std::vector<float> row;
    for (int e = 0; e < experts; ++e) {
      const int sixteenths = random.below(128) - 64;  // of -4 .. 4
      row.push_back(static_cast<float>(sixteenths) / 16.0F);
      const auto bits = std::bit_cast<std::uint32_t>(row.back());
      bf16.push_back(static_cast<std::uint16_t>(bits >> 16));
      // Sign; exponent with bias 15 for 127; mantissa.
      const std::uint32_t magnitude =
          sixteenths == 0 ? 0 : ((bits & 0x7FFF'FFFFU) - (112U << 23)) >> 13;
      f16.push_back(static_cast<std::uint16_t>((bits >> 31 << 15) | magnitude));
    }
    batch.add(row);
  }
  const Router router("topk:k=5", experts);
  const auto expected = routed(router.handle, batch.logits.data(), FDROUTE_F32, 50);
  CHECK(routed(router.handle, bf16.data(), FDROUTE_BF16, 50) == expected);
  CHECK(routed(router.handle, f16.data(), FDROUTE_F16, 50) == expected);
}

TEST_CASE("rows may lie apart and the output may be wider") {
  const std::vector<float> logits{1, 2, 3, 9, 9, 3, 2, 1, 9, 9};
  const Router router("topk:k=1", 3);
  std::vector<std::int32_t> experts(4, 7);
  std::vector<float> weights(4, 7.0F);
  std::vector<std::int32_t> counts(2);
  REQUIRE(fdroute_route(router.handle, logits.data(), FDROUTE_F32, 2, 5, 2, FDROUTE_REPEAT_VALID,
                        experts.data(), weights.data(), counts.data(), nullptr) == FDROUTE_OK);
  CHECK(experts == std::vector<std::int32_t>{2, 2, 0, 0});
  CHECK(weights[1] == 0.0F);
  CHECK(counts == std::vector<std::int32_t>{1, 1});
}

TEST_CASE("a nulls file gives a layer's null") {
  fdroute_null* null = nullptr;
  REQUIRE(fdroute_null_load(nulls_file.c_str(), 1, &null) == FDROUTE_OK);
  const Router router("bh:alpha=0.1", 64, null);
  CHECK(router.status == FDROUTE_OK);
  fdroute_null_destroy(null);  // the router has its own copy
  CHECK(
      std::string(fdroute_router_policy(router.handle)).find("null=tabulated,score=log_softmax") !=
      std::string::npos);

  null = nullptr;
  CHECK(fdroute_null_load(nulls_file.c_str(), 99, &null) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()).find(nulls_file + ": layer must lie in [0, ") == 0);
  CHECK(fdroute_null_load(nulls_file.c_str(), -1, &null) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_null_load("no/such/file", 0, &null) == FDROUTE_FILE_ERROR);
  CHECK(std::string(fdroute_last_error()).find("no/such/file") == 0);
  CHECK(fdroute_null_load(nullptr, 0, &null) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_null_load(nulls_file.c_str(), 0, nullptr) == FDROUTE_INVALID_ARGUMENT);
  CHECK(null == nullptr);
}

TEST_CASE("what is refused comes back as a status and the reason") {
  const Null zscore("zscore");
  const auto check = [](const Router& router, fdroute_status status, const std::string& error) {
    CHECK(router.status == status);
    CHECK(router.error == error);
    CHECK(router.handle == nullptr);
  };
  check(Router("topk:k=99"), FDROUTE_INVALID_ARGUMENT,
        "policy 'topk:k=99': TopK: k must lie in [1, 16], the number of experts, got 99");
  check(Router("bh"), FDROUTE_INVALID_ARGUMENT,
        "policy 'bh' needs a null distribution: give a fitted one, or null=normal");
  check(Router("topk", 0), FDROUTE_INVALID_ARGUMENT,
        "policy 'topk': Router: the number of experts must lie in [1, 1024], got 0");
  check(Router("deepseek-v3"), FDROUTE_INVALID_ARGUMENT,
        "policy 'deepseek-v3' needs a selection bias: give one value per expert, or "
        "selection_bias=none");
  const std::array<float, 16> bias{};
  check(Router("topk", -1, nullptr, bias.data()), FDROUTE_INVALID_ARGUMENT,
        "policy 'topk': Router: the number of experts must lie in [1, 1024], got -1");
  check(Router("topk", 16, zscore.handle, bias.data()), FDROUTE_INVALID_ARGUMENT,
        "no policy takes both a null and a selection_bias");
  const Router mismatch("bh:score=logit", 16, zscore.handle);
  CHECK(mismatch.status == FDROUTE_NULL_MISMATCH);
  CHECK(mismatch.error.find("was fitted on score 'zscore'") != std::string::npos);
  CHECK(fdroute_router_create(nullptr, 16, nullptr, nullptr, nullptr) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) == "policy must not be a null pointer");
  CHECK(fdroute_router_create("topk", 16, nullptr, nullptr, nullptr) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) == "router must not be a null pointer");

  fdroute_null* null = nullptr;
  const std::vector<double> rising{-0.9, -0.1, -2.5, -7.0};
  CHECK(fdroute_null_create(grid.data(), rising.data(), 4, "logit", &null) ==
        FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) ==
        "TabulatedNull: log_sf[1] = -0.1 after -0.9: log_sf must not increase");
  CHECK(fdroute_null_create(nullptr, rising.data(), 4, "logit", &null) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_null_create(grid.data(), nullptr, 4, "logit", &null) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_null_create(grid.data(), log_sf.data(), 4, nullptr, &null) ==
        FDROUTE_INVALID_ARGUMENT);
  CHECK(null == nullptr);

  // A long string is quoted in part.
  const Router endless("topk:" + std::string(5000, 'x'));
  CHECK(endless.status == FDROUTE_INVALID_ARGUMENT);
  CHECK(endless.error.size() < 512);
  CHECK(endless.error.find("xxx...") != std::string::npos);
}

TEST_CASE("route() refuses what would read or write beyond the caller's memory") {
  const Router router("topk:k=2", 4);
  const std::array<float, 8> logits{};
  std::array<std::int32_t, 4> experts{};
  std::array<float, 4> weights{};
  std::array<std::int32_t, 2> counts{};
  struct Call {
    const void* logits;
    std::int32_t dtype = FDROUTE_F32;
    std::int64_t tokens = 2;
    std::int64_t stride = 4;
    std::int32_t capacity = 2;
    std::int32_t padding = FDROUTE_MINUS_ONE;
  };
  const auto refusal = [&](Call call) {
    const fdroute_status status = fdroute_route(
        router.handle, call.logits, call.dtype, call.tokens, call.stride, call.capacity,
        call.padding, experts.data(), weights.data(), counts.data(), nullptr);
    CHECK(status == (*fdroute_last_error() == '\0' ? FDROUTE_OK : FDROUTE_INVALID_ARGUMENT));
    return std::string(fdroute_last_error());
  };
  CHECK(refusal({logits.data()}).empty());
  CHECK(refusal({.logits = nullptr, .tokens = 0}).empty());
  CHECK(refusal({nullptr}) == "logits must not be a null pointer");
  CHECK(refusal({.logits = logits.data(), .tokens = -1}) == "tokens must be >= 0, got -1");
  CHECK(refusal({.logits = logits.data(), .stride = 3}) ==
        "stride must be at least the 4 experts, got 3");
  CHECK(refusal({.logits = logits.data(), .capacity = 1}) ==
        "capacity must be at least the router's, 2, got 1");
  CHECK(refusal({.logits = logits.data(), .dtype = 3}) == "dtype is no fdroute_dtype: 3");
  CHECK(refusal({.logits = logits.data(), .padding = 2}) == "padding is no fdroute_padding: 2");
  CHECK(fdroute_route(nullptr, logits.data(), FDROUTE_F32, 1, 4, 2, FDROUTE_MINUS_ONE,
                      experts.data(), weights.data(), counts.data(),
                      nullptr) == FDROUTE_INVALID_ARGUMENT);
}

TEST_CASE("memory that runs out anywhere is a status, and leaves nothing behind") {
  const auto until_it_works = [](const auto& call) {
    int failures = 0;
    for (fdroute_status status = FDROUTE_OUT_OF_MEMORY; status != FDROUTE_OK; ++failures) {
      allocations_left = failures;
      status = call();
      allocations_left = -1;
      if (status == FDROUTE_OK) break;
      REQUIRE(status == FDROUTE_OUT_OF_MEMORY);
      REQUIRE(std::string(fdroute_last_error()) == "out of memory");
      REQUIRE(failures < 10'000);
    }
    return failures;
  };
  fdroute_null* null = nullptr;
  CHECK(until_it_works([&] {
          return fdroute_null_create(grid.data(), log_sf.data(), 4, "log_softmax", &null);
        }) > 0);
  fdroute_router* router = nullptr;
  CHECK(until_it_works(
            [&] { return fdroute_router_create("bh:alpha=0.1", 64, null, nullptr, &router); }) > 0);
  const std::array<float, 64> logits{};
  std::array<std::int32_t, 64> experts{};
  std::array<float, 64> weights{};
  std::int32_t count = 0;
  CHECK(until_it_works([&] {
          return fdroute_route(router, logits.data(), FDROUTE_BF16, 1, 64, 64, FDROUTE_MINUS_ONE,
                               experts.data(), weights.data(), &count, nullptr);
        }) == 0);  // routing allocates nothing
  fdroute_router_destroy(router);
  fdroute_null_destroy(null);
}

TEST_CASE("every thread has its own error") {
  const Router bad("nonsense");
  const std::string here = fdroute_last_error();
  std::string there = "?";
  std::thread([&] { there = fdroute_last_error(); }).join();
  CHECK(there.empty());
  CHECK(fdroute_last_error() == here);
}

TEST_CASE("destroying nothing is allowed") {
  fdroute_null_destroy(nullptr);
  fdroute_router_destroy(nullptr);
}
