#include <doctest/doctest.h>
#include <fdroute/c_api.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "fdroute/compile_once.hpp"
#include "fdroute/fdroute.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;
using test::index;

// ThreadSanitizer has an operator new that no other can stand beside.
#ifndef FDROUTE_THREAD_SANITIZER

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

#endif

extern "C" {
int route_from_c(const float* logits, std::int32_t* experts, float* weights);
int other_forms_from_c(const float* logits, const std::int32_t* experts, const float* weights);
std::int64_t rejections_from_c(const double* p, std::size_t m);
int completion_from_c(const float* logits);
}

TEST_CASE("a completion from C") {
  const std::array<float, 8> logits{4.0F, 3.0F, 2.0F, 1.0F, 1.0F, 2.0F, 4.0F, 3.0F};
  CHECK(completion_from_c(logits.data()) == 0);
}

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
  CHECK(other_forms_from_c(logits.data(), experts.data(), weights.data()) == 0);
  const std::array<double, 4> p{0.9, 0.01, 0.02, 0.5};
  CHECK(rejections_from_c(p.data(), p.size()) == 2);
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

namespace {

/// Rows in C++, as the C interface reads them: element (t, j) at t * stride + j * expert_stride.
struct Rows {
  std::vector<float> memory;
  fdroute_logits logits;
};

Rows laid_out(const test::Batch& batch, std::int64_t stride, std::int64_t expert_stride) {
  const std::int64_t tokens = batch.tokens();
  const std::int64_t width = std::abs(stride) * tokens + std::abs(expert_stride) * batch.experts;
  Rows rows{std::vector<float>(test::index(2 * width + 1), 99.0F), {}};
  float* origin = rows.memory.data() + width;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t j = 0; j < batch.experts; ++j)
      origin[t * stride + j * expert_stride] = batch.logits[test::index(t * batch.experts + j)];
  }
  rows.logits = {origin, FDROUTE_F32, tokens, stride, expert_stride, nullptr, 0, nullptr};
  return rows;
}

/// Every form of a routing in ids of type Id against the padded one of C++.
template <class Id>
void check_forms(const fdroute_router* router, const fdroute_logits& logits, std::int32_t id_type,
                 const fd::AnyRouter& expected, const test::Batch& batch) {
  const std::ptrdiff_t tokens = batch.tokens();
  const int capacity = expected.capacity();
  const auto padded = test::routed(expected, batch.view());

  for (const int width : {capacity, capacity + 3}) {
    test::Padded<> of_cpp(tokens, width);
    expected.route(batch.view(), of_cpp.view());
    test::Padded<Id> of_c(tokens, width);
    const fdroute_padded out{of_c.experts.data(),
                             id_type,
                             width,
                             FDROUTE_MINUS_ONE,
                             of_c.weights.data(),
                             of_c.counts.data(),
                             reinterpret_cast<std::uint8_t*>(of_c.status.data())};
    REQUIRE(fdroute_route_padded(router, &logits, &out) == FDROUTE_OK);
    REQUIRE(of_c.guards_intact());
    CHECK(of_c.weights == of_cpp.weights);
    CHECK(of_c.counts == of_cpp.counts);
    CHECK(of_c.status == of_cpp.status);
    bool same_ids = true;
    for (std::ptrdiff_t i = 0; i < tokens * width; ++i)
      same_ids = same_ids && of_c.experts[i] == static_cast<Id>(of_cpp.experts[i]);
    CHECK(same_ids);
  }

  test::Csr<Id> csr(tokens, tokens * capacity);
  const fdroute_csr to_csr{
      csr.offsets.data(), csr.experts.data(), id_type,
      csr.weights.data(), tokens * capacity,  reinterpret_cast<std::uint8_t*>(csr.status.data())};
  REQUIRE(fdroute_route_csr(router, &logits, &to_csr) == FDROUTE_OK);
  test::Padded<Id> narrow(tokens, capacity);
  narrow.counts = padded.counts;
  narrow.weights = padded.weights;
  narrow.status = padded.status;
  for (std::ptrdiff_t i = 0; i < tokens * capacity; ++i)
    narrow.experts.data()[i] = static_cast<Id>(padded.experts[i]);
  CHECK(test::difference(csr, narrow) == "");
}

}  // namespace

TEST_CASE("every form, type of ids and layout gives the C++ routing, bit for bit") {
  test::Random random(43);
  for (const int experts : {1, 16, 100}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 7, random);
    for (const std::string policy : {"relative:t=0.2", "bh:null=normal,alpha=0.3,min_k=0,max_k=9",
                                     "top_p:p=0.8,weights=sigmoid,ranking=sigmoid"}) {
      CAPTURE(policy);
      const fd::AnyRouter expected = fd::parse_router(policy, experts);
      const Router router(policy, experts);
      REQUIRE_MESSAGE(router.status == FDROUTE_OK, router.error);
      const std::int64_t tokens = batch.tokens();
      for (const auto& strides :
           std::vector<std::pair<std::int64_t, std::int64_t>>{{experts, 1},
                                                              {experts + 5, 1},
                                                              {-experts, 1},
                                                              {1, tokens},
                                                              {1, tokens + 2},
                                                              {2 * experts, 2},
                                                              {experts, -1}}) {
        const auto stride = strides.first;
        const auto expert_stride = strides.second;
        CAPTURE(stride);
        CAPTURE(expert_stride);
        const Rows rows = laid_out(batch, stride, expert_stride);
        check_forms<std::int32_t>(router.handle, rows.logits, FDROUTE_I32, expected, batch);
        check_forms<std::int64_t>(router.handle, rows.logits, FDROUTE_I64, expected, batch);
        check_forms<std::int16_t>(router.handle, rows.logits, FDROUTE_I16, expected, batch);
        check_forms<std::uint8_t>(router.handle, rows.logits, FDROUTE_U8, expected, batch);

        test::Guarded<float> dense(tokens * (experts + 1));
        test::Guarded<float> dense_of_cpp(tokens * (experts + 1));
        test::Guarded<std::int32_t> counts(tokens);
        test::Guarded<std::int32_t> counts_of_cpp(tokens);
        const fdroute_dense to_dense{dense.data(), experts + 1, counts.data(), nullptr};
        REQUIRE(fdroute_route_dense(router.handle, &rows.logits, &to_dense) == FDROUTE_OK);
        expected.route(batch.view(), fd::DenseView{.weights = dense_of_cpp.data(),
                                                   .stride = experts + 1,
                                                   .counts = counts_of_cpp.data()});
        CHECK(dense == dense_of_cpp);
        CHECK(counts == counts_of_cpp);

        const int words = fd::BitmaskView::words_per_token(experts) + 1;
        test::Guarded<std::uint64_t> bits(tokens * words);
        test::Guarded<std::uint64_t> bits_of_cpp(tokens * words);
        const fdroute_bitmask to_bits{bits.data(), words, counts.data(), nullptr};
        REQUIRE(fdroute_route_bitmask(router.handle, &rows.logits, &to_bits) == FDROUTE_OK);
        expected.route(batch.view(), fd::BitmaskView{.words = bits_of_cpp.data(), .stride = words});
        CHECK(bits == bits_of_cpp);
        CHECK(counts == counts_of_cpp);
      }
    }
  }
}

TEST_CASE("transposed half-precision logits are the floats that they stand for") {
  const std::vector<std::uint16_t> bf16{0x3F80, 0x4000, 0x4040, 0x4080, 0x0000, 0xBF80};
  const Router router("topk:k=1", 3);
  std::array<std::int32_t, 2> experts{};
  std::array<float, 2> weights{};
  std::array<std::int32_t, 2> counts{};
  // (experts, tokens): 1 2 / 3 4 / 0 -1
  const fdroute_logits logits{bf16.data(), FDROUTE_BF16, 2, 1, 2, nullptr, 0, nullptr};
  const fdroute_padded out{experts.data(), FDROUTE_I32,   1,      FDROUTE_MINUS_ONE,
                           weights.data(), counts.data(), nullptr};
  REQUIRE(fdroute_route_padded(router.handle, &logits, &out) == FDROUTE_OK);
  CHECK(experts == std::array<std::int32_t, 2>{1, 1});
}

TEST_CASE("masks of experts and tokens to skip, from C, are those of a BatchView") {
  test::Random random(47);
  const int experts = 70;
  const test::Batch batch = test::batch_of_every_kind(experts, 5, random);
  const std::ptrdiff_t tokens = batch.tokens();
  std::vector<std::uint64_t> masks(test::index(3 * tokens));
  for (std::uint64_t& word : masks) word = random.bits() | random.bits();
  std::vector<std::uint8_t> skip(test::index(tokens));
  for (std::uint8_t& s : skip) s = random.below(4) == 0 ? 1 : 0;
  const std::string policy = "bh:null=normal,alpha=0.4,max_k=12";
  const fd::AnyRouter expected = fd::parse_router(policy, experts);
  const Router router(policy, experts);
  for (const int mask_stride : {0, 2, 3}) {
    CAPTURE(mask_stride);
    const fd::BatchView<float> rows{batch.logits.data(), tokens,      experts,    experts, 1,
                                    masks.data(),        mask_stride, skip.data()};
    const fdroute_logits logits{batch.logits.data(), FDROUTE_F32, tokens,     experts, 1,
                                masks.data(),        mask_stride, skip.data()};
    test::Padded<> of_cpp(tokens, 12);
    expected.route(rows, of_cpp.view());
    test::Padded<> of_c(tokens, 12);
    const fdroute_padded out{of_c.experts.data(),
                             FDROUTE_I32,
                             12,
                             FDROUTE_MINUS_ONE,
                             of_c.weights.data(),
                             of_c.counts.data(),
                             reinterpret_cast<std::uint8_t*>(of_c.status.data())};
    REQUIRE(fdroute_route_padded(router.handle, &logits, &out) == FDROUTE_OK);
    CHECK(of_c == of_cpp);
  }
  std::array<float, 70> dense{};
  fdroute_logits logits{batch.logits.data(), FDROUTE_F32, 1, experts, 1, masks.data(), 1, nullptr};
  const fdroute_dense out{dense.data(), experts, nullptr, nullptr};
  CHECK(fdroute_route_dense(router.handle, &logits, &out) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) ==
        "mask_stride must be at least the words of a mask, 2, got 1");
}

TEST_CASE("a model's ranking and weights with another rule, from C") {
  test::Random random(44);
  const test::Batch batch = test::batch_of_every_kind(16, 6, random);
  std::vector<float> bias(16);
  for (float& b : bias) b = random.normal();
  const auto model = fd::presets::deepseek_v3({16, 1, 4, 2, true, 2.5F}, bias);
  const Router by_formula(
      "preset:deepseek-v3,n_group=4,topk_group=2,rule=bh,alpha=0.3,null=normal,sd=0.5", 16, nullptr,
      bias.data());
  REQUIRE_MESSAGE(by_formula.status == FDROUTE_OK, by_formula.error);
  CHECK(routed(by_formula.handle, batch.logits.data(), FDROUTE_F32, batch.tokens()) ==
        test::routed(
            fd::Router(16, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{0.0, 0.5},
                       model.weights(), fd::ExpertBounds{}, model.ranking()),
            batch.view()));
  // A fitted null and a bias together.
  const Null null("zscore");
  const auto table = fd::TabulatedNull::from_log_survival(grid, log_sf, test::fitted_on("zscore"));
  const Router by_table("preset:deepseek-v3,n_group=4,topk_group=2,rule=holm,alpha=0.3", 16,
                        null.handle, bias.data());
  REQUIRE_MESSAGE(by_table.status == FDROUTE_OK, by_table.error);
  CHECK(routed(by_table.handle, batch.logits.data(), FDROUTE_F32, batch.tokens()) ==
        test::routed(fd::Router(16, fd::Holm{0.3}, fd::ZScore{}, table, model.weights(),
                                fd::ExpertBounds{}, model.ranking()),
                     batch.view()));
}

TEST_CASE("null distributions of every kind") {
  test::Random random(45);
  const test::Batch batch = test::batch_of_every_kind(4, 6, random);
  const fd::BenjaminiHochberg bh{0.4};
  const fd::ZScore score{};
  const auto check = [&](const std::string& policy, const fdroute_null* null,
                         const auto& expected) {
    CAPTURE(policy);
    const Router router(policy, 4, null);
    REQUIRE_MESSAGE(router.status == FDROUTE_OK, router.error);
    CHECK(routed(router.handle, batch.logits.data(), FDROUTE_F32, batch.tokens()) ==
          test::routed(expected, batch.view()));
  };
  const std::vector<double> sample{0.3, -1.0, 0.8, 0.1, -0.4, 1.2};
  const std::vector<double> prior{1.5, 0.5, 2.0, 0.0};
  fdroute_null* conformal = nullptr;
  REQUIRE(fdroute_null_create_conformal(sample.data(), sample.size(), "zscore", &conformal) ==
          FDROUTE_OK);
  const fd::ConformalNull of_sample(sample, test::fitted_on("zscore"));
  check("bh:alpha=0.4", conformal, fd::Router(4, bh, score, of_sample));

  const Null null("zscore");
  const auto table = fd::TabulatedNull::from_log_survival(grid, log_sf, test::fitted_on("zscore"));
  const std::vector<double> other_sf{-0.2, -0.5, -2.0, -3.0};
  fdroute_null* other = nullptr;
  REQUIRE(fdroute_null_create(grid.data(), other_sf.data(), 4, "zscore", &other) == FDROUTE_OK);
  const auto other_table =
      fd::TabulatedNull::from_log_survival(grid, other_sf, test::fitted_on("zscore"));
  const std::array<const fdroute_null*, 4> each{null.handle, other, other, null.handle};
  fdroute_null* per_expert = nullptr;
  REQUIRE(fdroute_null_create_per_expert(each.data(), 4, &per_expert) == FDROUTE_OK);
  check("bh:alpha=0.4", per_expert,
        fd::Router(4, bh, score,
                   fd::PerExpertNull<fd::TabulatedNull>{{table, other_table, other_table, table}}));

  fdroute_null* weighted = nullptr;
  REQUIRE(fdroute_null_create_weighted(null.handle, prior.data(), 4, &weighted) == FDROUTE_OK);
  check("bh:alpha=0.4", weighted, fd::Router(4, bh, score, fd::WeightedNull{table, prior}));
  check("bh:alpha=0.4,prior=none", weighted, fd::Router(4, bh, score, table));
  const std::array<const fdroute_null*, 2> unfit{null.handle, weighted};
  fdroute_null* none = nullptr;
  CHECK(fdroute_null_create_per_expert(unfit.data(), 2, &none) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) == "nulls[1] is no table");
  fdroute_null* of_formula = nullptr;
  REQUIRE(fdroute_null_create_weighted(nullptr, prior.data(), 4, &of_formula) == FDROUTE_OK);
  check("bh:alpha=0.4,null=normal", of_formula,
        fd::Router(4, bh, score, fd::WeightedNull{fd::NormalNull{}, prior}));
  const Router lacking("bh", 4, of_formula);
  CHECK(lacking.error.find("needs a null distribution") != std::string::npos);

  CHECK(fdroute_null_create_conformal(nullptr, 3, "zscore", &none) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_null_create_conformal(sample.data(), 0, "zscore", &none) ==
        FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) == "ConformalNull: the sample is empty");
  const std::array<const fdroute_null*, 2> holes{null.handle, nullptr};
  CHECK(fdroute_null_create_per_expert(holes.data(), 2, &none) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) == "nulls[1] must not be a null pointer");
  CHECK(fdroute_null_create_weighted(null.handle, nullptr, 4, &none) == FDROUTE_INVALID_ARGUMENT);
  CHECK(none == nullptr);
  for (fdroute_null* handle : {conformal, other, per_expert, weighted, of_formula})
    fdroute_null_destroy(handle);
}

TEST_CASE("the forms refuse what would read or write beyond the caller's memory") {
  const Router router("topk:k=2", 4);
  const Router wide("topk:k=2", 300);
  const std::vector<float> memory(600);
  std::array<std::int64_t, 3> offsets{};
  std::array<std::int32_t, 8> ids{};
  std::array<float, 600> weights{};
  std::array<std::uint64_t, 10> words{};
  std::array<std::int32_t, 2> counts{};
  const fdroute_logits good{memory.data(), FDROUTE_F32, 2, 4, 1, nullptr, 0, nullptr};
  const auto refusal = [&](fdroute_status status) {
    CHECK(status == (*fdroute_last_error() == '\0' ? FDROUTE_OK : FDROUTE_INVALID_ARGUMENT));
    return std::string(fdroute_last_error());
  };
  const auto padded = [&](const fdroute_logits* logits, fdroute_padded out,
                          const fdroute_router* by) {
    return refusal(fdroute_route_padded(by, logits, &out));
  };
  const fdroute_padded to{ids.data(), 0, 2, 0, weights.data(), counts.data(), nullptr};
  CHECK(padded(&good, to, router.handle).empty());
  CHECK(padded(nullptr, to, router.handle) == "logits must not be a null pointer");
  CHECK(padded(&good, to, nullptr) == "router must not be a null pointer");
  CHECK(refusal(fdroute_route_padded(router.handle, &good, nullptr)) ==
        "out must not be a null pointer");
  fdroute_padded bad = to;
  bad.id_type = 4;
  CHECK(padded(&good, bad, router.handle) == "id_type is no fdroute_id_type: 4");
  bad = to;
  bad.capacity = 1;
  CHECK(padded(&good, bad, router.handle) == "capacity must be at least the router's, 2, got 1");
  bad = to;
  bad.id_type = FDROUTE_U8;
  bad.capacity = 4097;
  CHECK(padded(&good, bad, router.handle) ==
        "capacity must be at most 4096 for ids of this type, got 4097");
  bad.capacity = 2;
  const fdroute_logits of_300{memory.data(), FDROUTE_F32, 2, 300, 1, nullptr, 0, nullptr};
  CHECK(padded(&of_300, bad, wide.handle) ==
        "ids of type FDROUTE_U8 are for at most 256 experts, got 300");
  bad = to;
  bad.padding = -1;
  CHECK(padded(&good, bad, router.handle) == "padding is no fdroute_padding: -1");
  for (const int missing : {0, 1, 2}) {
    bad = to;
    if (missing == 0) bad.experts = nullptr;
    if (missing == 1) bad.weights = nullptr;
    if (missing == 2) bad.counts = nullptr;
    CHECK(padded(&good, bad, router.handle).ends_with(" must not be a null pointer"));
  }
  fdroute_logits rows = good;
  rows.tokens = -1;
  CHECK(padded(&rows, to, router.handle) == "tokens must be >= 0, got -1");
  rows = good;
  rows.data = nullptr;
  CHECK(padded(&rows, to, router.handle) == "logits must not be a null pointer");
  rows = good;
  rows.dtype = -1;
  CHECK(padded(&rows, to, router.handle) == "dtype is no fdroute_dtype: -1");

  fdroute_csr csr{offsets.data(), ids.data(), 0, weights.data(), 4, nullptr};
  CHECK(refusal(fdroute_route_csr(router.handle, &good, &csr)).empty());
  csr.places = 3;
  CHECK(refusal(fdroute_route_csr(router.handle, &good, &csr)) ==
        "places must be at least the tokens times the router's capacity, 2, got 3");
  rows = good;
  rows.tokens = 0;
  rows.data = nullptr;
  offsets[0] = 9;
  csr = {offsets.data(), nullptr, 0, nullptr, 0, nullptr};
  CHECK(refusal(fdroute_route_csr(router.handle, &rows, &csr)).empty());
  CHECK(offsets[0] == 0);
  fdroute_dense dense{weights.data(), 3, nullptr, nullptr};
  CHECK(refusal(fdroute_route_dense(router.handle, &good, &dense)) ==
        "stride must be at least the experts, 4, got 3");
  fdroute_bitmask bitmask{words.data(), 4, nullptr, nullptr};
  CHECK(refusal(fdroute_route_bitmask(wide.handle, &of_300, &bitmask)) ==
        "stride must be at least the words of a row, 5, got 4");
  bitmask.words = nullptr;
  CHECK(refusal(fdroute_route_bitmask(router.handle, &good, &bitmask)) ==
        "words must not be a null pointer");
}

TEST_CASE("multiple testing from C is that of C++") {
  test::Random random(46);
  for (const int m : {1, 5, 40}) {
    std::vector<double> p(test::index(m));
    for (int i = 0; i < 20; ++i) {
      for (double& value : p)
        value = random.below(2) == 0 ? 0.01 * random.below(4) : random.uniform();
      if (random.below(3) == 0) p[0] = std::numeric_limits<double>::quiet_NaN();
      const auto check = [&](const char* rule, const auto& expected) {
        CAPTURE(rule);
        std::int64_t count = -1;
        std::vector<std::uint8_t> rejected(p.size(), 7);
        REQUIRE(fdroute_rejections(rule, p.data(), p.size(), &count, rejected.data()) ==
                FDROUTE_OK);
        CHECK(count == fd::rejections(expected, std::span<const double>(p)));
        const auto threshold = fd::threshold(expected, std::span<const double>(p));
        for (std::size_t j = 0; j < p.size(); ++j) {
          const double value = std::isnan(p[j]) ? 1.0 : p[j];
          CHECK(rejected[j] == (threshold.has_value() && value <= *threshold ? 1 : 0));
        }
        if constexpr (fd::AdjustingRule<std::remove_cvref_t<decltype(expected)>>) {
          std::vector<double> adjusted(p.size());
          std::vector<double> in_place = p;
          fd::adjusted(expected, std::span<const double>(p), std::span<double>(adjusted));
          REQUIRE(fdroute_adjusted(rule, in_place.data(), p.size(), in_place.data()) == FDROUTE_OK);
          CHECK(in_place == adjusted);
        }
      };
      check("bh:alpha=0.1", fd::BenjaminiHochberg{0.1});
      check("holm", fd::Holm{});
      check("hc:search=0.5", fd::HigherCriticism{});
      check("topk:k=1", fd::TopK{1});
      std::vector<double> prior(p.size(), 1.0);
      if (m > 1) {
        prior[0] = 2.0;
        prior[1] = 0.0;
      }
      std::vector<double> weighted(p.size());
      REQUIRE(fdroute_weighted_p_values(p.data(), prior.data(), p.size(), weighted.data()) ==
              FDROUTE_OK);
      CHECK(weighted == fd::weighted_p_values(p, prior));
    }
  }
  std::int64_t count = -1;
  CHECK(fdroute_rejections("bh", nullptr, 0, &count, nullptr) == FDROUTE_OK);
  CHECK(count == 0);
  CHECK(fdroute_adjusted("bh", nullptr, 0, nullptr) == FDROUTE_OK);
  const auto error = [&](const char* rule, const std::vector<double>& p) {
    CHECK(fdroute_rejections(rule, p.data(), p.size(), &count, nullptr) ==
          FDROUTE_INVALID_ARGUMENT);
    return std::string(fdroute_last_error());
  };
  CHECK(error("bh:alpha=7", {0.5}) ==
        "policy 'bh:alpha=7': BenjaminiHochberg: alpha must lie in (0, 1), got 7");
  CHECK(error("bh", {0.5, 1.5}) == "p[1] must lie in [0, 1], got 1.5");
  CHECK(error("top_p", {0.5}) == "policy 'top_p' reads logits, not p-values");
  CHECK(fdroute_rejections("bh", nullptr, 3, &count, nullptr) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_rejections(nullptr, nullptr, 0, &count, nullptr) == FDROUTE_INVALID_ARGUMENT);
  std::vector<double> p{0.1, 0.2};
  CHECK(fdroute_adjusted("hc", p.data(), 2, p.data()) == FDROUTE_INVALID_ARGUMENT);
  CHECK(std::string(fdroute_last_error()) ==
        "hc:search=0.5,deviation=rank,level=1 has no adjusted p-values");
}

namespace {

template <class Id>
void check_completion(std::int32_t id_type) {
  test::Random random(1621);
  const Router router("topk:k=3", 70);
  const fd::Router expected_router(70, fd::TopK{3});
  const test::Batch batch = test::batch_of_every_kind(70, 4, random);
  const std::ptrdiff_t tokens = batch.tokens();
  test::Padded<Id> routing(tokens, 8, fd::Padding::repeat_valid);
  const fdroute_logits logits{batch.logits.data(), FDROUTE_F32, tokens, 70, 1, nullptr, 0, nullptr};
  const fd::RoutingView<Id> view = routing.view();
  const fdroute_padded out{view.experts,
                           id_type,
                           8,
                           FDROUTE_REPEAT_VALID,
                           view.weights,
                           view.counts,
                           reinterpret_cast<std::uint8_t*>(view.status)};
  REQUIRE(fdroute_route_padded(router.handle, &logits, &out) == FDROUTE_OK);
  std::array<std::uint64_t, 2> mask{};
  REQUIRE(fdroute_union(&out, tokens, 70, mask.data()) == FDROUTE_OK);
  const fd::ExpertSet united = fd::union_of(view, tokens, 70);
  CHECK(mask == std::array{united.words[0], united.words[1]});
  REQUIRE(fdroute_budget(&out, tokens, 70, 30, 2, mask.data()) == FDROUTE_OK);
  const fd::ExpertSet bought = fd::budget_of(view, tokens, 70, 30, 2);
  CHECK(mask == std::array{bought.words[0], bought.words[1]});

  test::Padded<Id> expected = routing;
  expected_router.complete(batch.view(), fd::Residency(mask.data()), {9, 8}, expected.view());
  REQUIRE(fdroute_complete(router.handle, &logits, mask.data(), 0, 9, 8, &out) == FDROUTE_OK);
  CHECK(routing == expected);
  std::vector<std::uint64_t> masks(index(tokens) * 3);
  for (auto& word : masks) word = random.bits();
  expected_router.complete(batch.view(), fd::Residency(masks.data(), 3), {12, 8}, expected.view());
  REQUIRE(fdroute_complete(router.handle, &logits, masks.data(), 3, 12, 8, &out) == FDROUTE_OK);
  CHECK(routing == expected);

  fdroute_cache* cache = nullptr;
  REQUIRE(fdroute_cache_create(70, 16, &cache) == FDROUTE_OK);
  fd::ExpertCache expected_cache(70, 16);
  std::int64_t loads = -1;
  for (int turn = 0; turn < 2; ++turn) {
    REQUIRE(fdroute_cache_touch(cache, &out, tokens, &loads) == FDROUTE_OK);
    CHECK(loads == expected_cache.touch(view, tokens));
    REQUIRE(fdroute_cache_resident(cache, mask.data()) == FDROUTE_OK);
    CHECK(mask ==
          std::array{expected_cache.resident().words[0], expected_cache.resident().words[1]});
  }
  CHECK(fdroute_cache_touch(cache, &out, tokens, nullptr) == FDROUTE_OK);
  fdroute_cache_destroy(cache);
}

}  // namespace

TEST_CASE("completions and masks are the library's, whatever the type of the ids") {
  check_completion<std::int32_t>(FDROUTE_I32);
  check_completion<std::int64_t>(FDROUTE_I64);
  check_completion<std::int16_t>(FDROUTE_I16);
  check_completion<std::uint8_t>(FDROUTE_U8);
}

TEST_CASE("what completion refuses leaves the routing as it was") {
  const Router router("topk:k=2", 4);
  const std::array<float, 4> logits{3.0F, 2.0F, 1.0F, 0.0F};
  std::array<std::int32_t, 3> experts{0, 1, -1};
  std::array<float, 3> weights{0.5F, 0.25F, 0.0F};
  std::int32_t count = 2;
  const std::uint64_t all = 0xF;
  const fdroute_logits rows{logits.data(), FDROUTE_F32, 1, 4, 1, nullptr, 0, nullptr};
  fdroute_padded out{experts.data(), FDROUTE_I32, 3,      FDROUTE_MINUS_ONE,
                     weights.data(), &count,      nullptr};
  const auto refusal = [&](int window, int max_k, std::int64_t stride = 0,
                           const std::uint64_t* resident = nullptr) {
    CHECK(fdroute_complete(router.handle, &rows, resident, stride, window, max_k, &out) ==
          FDROUTE_INVALID_ARGUMENT);
    CHECK(weights[0] == 0.5F);
    return std::string(fdroute_last_error());
  };
  CHECK(refusal(0, 3, 0, &all) ==
        "Completion: window and max_k must be at least 1, got window 0, max_k 3");
  CHECK(refusal(3, 3) == "resident must not be a null pointer");
  CHECK(refusal(3, 3, -1, &all) ==
        "resident_stride must be at least the words of a mask, 1, got -1");
  CHECK(refusal(3, 4, 0, &all) == "capacity must be at least min(max_k, experts), 4, got 3");
  count = 4;
  CHECK(refusal(3, 3, 0, &all) == "counts must lie in [0, 3], got 4");
  count = -1;
  CHECK(refusal(3, 3, 0, &all) == "counts must lie in [0, 3], got -1");
  count = 2;
  experts[1] = 4;
  CHECK(refusal(3, 3, 0, &all) == "ids must lie in [0, 4), got 4");
  experts[1] = 1;
  CHECK(fdroute_complete(nullptr, &rows, &all, 0, 3, 3, &out) == FDROUTE_INVALID_ARGUMENT);
  CHECK(fdroute_complete(router.handle, &rows, &all, 0, 3, 3, &out) == FDROUTE_OK);
  CHECK(count == 3);
  CHECK(experts[2] == 2);

  std::uint64_t mask = 7;
  const auto error = [](fdroute_status status) {
    CHECK(status == FDROUTE_INVALID_ARGUMENT);
    return std::string(fdroute_last_error());
  };
  CHECK(error(fdroute_union(&out, 1, 0, &mask)) == "experts must lie in [1, 1024], got 0");
  CHECK(error(fdroute_union(&out, -1, 4, &mask)) == "tokens must be >= 0, got -1");
  CHECK(error(fdroute_union(&out, 1, 2, &mask)) == "ids must lie in [0, 2), got 2");
  CHECK(error(fdroute_union(&out, 1, 4, nullptr)) == "mask must not be a null pointer");
  CHECK(mask == 7);
  CHECK(fdroute_union(nullptr, 0, 4, &mask) == FDROUTE_OK);
  CHECK(mask == 0);
  out.weights = nullptr;
  CHECK(fdroute_union(&out, 1, 4, &mask) == FDROUTE_OK);
  CHECK(mask == 7);
  CHECK(error(fdroute_budget(&out, 1, 4, 2, 1, &mask)) == "weights must not be a null pointer");
  fdroute_cache* cache = nullptr;
  CHECK(error(fdroute_cache_create(4, 5, &cache)) ==
        "ExpertCache: 1 <= size <= experts <= 1024 must hold, got size 5, experts 4");
  CHECK(error(fdroute_cache_touch(nullptr, &out, 1, nullptr)) ==
        "cache must not be a null pointer");
  CHECK(error(fdroute_cache_resident(nullptr, &mask)) == "cache must not be a null pointer");
  fdroute_cache_destroy(nullptr);
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
        "stride must be at least the experts, 4, got 3");
  CHECK(refusal({.logits = logits.data(), .capacity = 1}) ==
        "capacity must be at least the router's, 2, got 1");
  CHECK(refusal({.logits = logits.data(), .dtype = 3}) == "dtype is no fdroute_dtype: 3");
  CHECK(refusal({.logits = logits.data(), .padding = 2}) == "padding is no fdroute_padding: 2");
  CHECK(fdroute_route(nullptr, logits.data(), FDROUTE_F32, 1, 4, 2, FDROUTE_MINUS_ONE,
                      experts.data(), weights.data(), counts.data(),
                      nullptr) == FDROUTE_INVALID_ARGUMENT);
}

#ifndef FDROUTE_THREAD_SANITIZER

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

#endif

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
