#include <doctest/doctest.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/dispatch.hpp"
#include "fdroute/formats.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/residency.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

// This executable counts what goes through operator new.

namespace {

std::atomic<std::int64_t> allocations{0};

constexpr std::align_val_t natural{alignof(std::max_align_t)};

void* counted(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  void* memory = nullptr;
  if (::posix_memalign(&memory, static_cast<std::size_t>(alignment), size == 0 ? 1 : size) != 0)
    throw std::bad_alloc();
  return memory;
}

}  // namespace

// All forms, since sanitizers replace each of them. Inlined, delete would look to g++ like a free()
// of new's memory.
void* operator new(std::size_t size) {
  return counted(size, natural);
}
void* operator new[](std::size_t size) {
  return counted(size, natural);
}
void* operator new(std::size_t size, std::align_val_t to) {
  return counted(size, to);
}
void* operator new[](std::size_t size, std::align_val_t to) {
  return counted(size, to);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, natural);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, natural);
}
void* operator new(std::size_t size, std::align_val_t to, const std::nothrow_t&) noexcept {
  return counted(size, to);
}
void* operator new[](std::size_t size, std::align_val_t to, const std::nothrow_t&) noexcept {
  return counted(size, to);
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete[](void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace fd = fdroute;

namespace {

template <class Action>
std::int64_t allocations_of(Action&& action) {
  const std::int64_t before = allocations;
  action();
  return allocations - before;
}

/// An execution that is not in order, without threads.
struct BackToFront {
  template <class Body>
  fd::TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    fd::TokenStatus status = fd::TokenStatus::ok;
    while (n > 0) status = status | body(--n);
    return status;
  }
};

template <class AnyPolicy>
void check_no_allocation(const AnyPolicy& router) {
  test::Random random(111);
  const test::Batch batch = test::batch_of_every_kind(router.experts(), 6, random);
  std::vector<double> as_double(batch.logits.begin(), batch.logits.end());
  const fd::LogitsView doubles(as_double.data(), batch.tokens(), router.experts());
  const std::vector<std::uint64_t> masks(16, 0x5A5A'5A5A'5A5A'5A5AU);
  const fd::BatchView<float> masked{.data = batch.logits.data(),
                                    .tokens = batch.tokens(),
                                    .experts = router.experts(),
                                    .stride = router.experts(),
                                    .masks = masks.data()};
  test::Padded out(batch.tokens(), router.capacity());
  test::Padded<std::int64_t> wide(batch.tokens(), router.capacity(), fd::Padding::repeat_valid);
  test::Guarded<float> dense(batch.tokens() * router.experts());
  test::Csr csr(batch.tokens(), batch.tokens() * router.capacity());
  test::Csr<std::int64_t> wide_csr(batch.tokens(), batch.tokens() * router.capacity());
  fd::ExpertCache cache(router.experts(), (router.experts() + 1) / 2);
  CHECK(allocations_of([&] {
          router.route(batch.view(), csr.view());
          router.route(doubles, wide_csr.view());
          router.route(BackToFront{}, batch.view(), csr.view());
          router.route(batch.view(), out.view());
          router.route(batch.view(), wide.view());
          router.route(doubles, out.view());
          router.route(batch.view(), fd::DenseView{dense.data(), router.experts()});
          router.route(masked, out.view());
          const fd::Completion completion{12, router.capacity()};
          router.complete(masked, fd::union_of(out.view(), batch.tokens(), router.experts()),
                          completion, out.view());
          router.route(doubles, wide.view());
          cache.touch(wide.view(), batch.tokens());
          router.complete(doubles, cache.resident(), completion, wide.view());
          router.complete(BackToFront{}, batch.view(),
                          fd::budget_of(wide.view(), batch.tokens(), router.experts(), 20),
                          completion, wide.view());
        }) == 0);
  CHECK(out.guards_intact());
}

}  // namespace

TEST_CASE("the count of allocations counts") {
  // Calls of the operators: a compiler may leave out a new-expression that is deleted at once.
  CHECK(allocations_of([] { ::operator delete(::operator new(8)); }) == 1);
  CHECK(allocations_of([] { ::operator delete[](::operator new[](8)); }) == 1);
  CHECK(allocations_of([] { ::operator delete(::operator new(8, std::nothrow)); }) == 1);
  constexpr std::align_val_t line{64};
  CHECK(allocations_of([] { ::operator delete(::operator new(8, line), line); }) == 1);
  CHECK(allocations_of(
            [] { fd::Router(64, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{}); }) > 0);
}

TEST_CASE("routing allocates nothing") {
  const fd::NormalNull normal;
  const auto table = fd::TabulatedNull::from_log_survival({-6.0, -4.0, -3.0}, {-0.1, -0.9, -2.5},
                                                          test::fitted_on("log_softmax"));
  const auto plain_bh = [](std::span<const double> p) noexcept {
    return fd::BenjaminiHochberg{0.3}(p);
  };
  for (const int experts : {1, 64, fd::max_experts}) {
    const fd::Router topk(experts, fd::TopK{(experts + 1) / 2});
    const fd::Router nucleus(experts, fd::TopP{0.7});
    const fd::Router relative(experts, fd::RelativeThreshold{0.2});
    const fd::Router table_hc(experts, fd::HigherCriticism{}, fd::LogSoftmax{}, table);
    const fd::Router normal_bh(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, normal);
    const fd::Router table_bh(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{}, table);
    const fd::Router general(experts, plain_bh, fd::ZScore{}, normal);
    check_no_allocation(topk);
    check_no_allocation(nucleus);
    check_no_allocation(relative);
    check_no_allocation(table_hc);
    check_no_allocation(normal_bh);
    check_no_allocation(table_bh);
    check_no_allocation(general);
    check_no_allocation(fd::AnyRouter(topk, "topk"));
    check_no_allocation(fd::AnyRouter(table_bh, "bh"));
    check_no_allocation(fd::AnyRouter(general, "general"));
  }
}

// Without optimisation, and with sanitizers, frames are as large as the compiler pleases.
#if defined(__OPTIMIZE__) && !defined(FDROUTE_ADDRESS_SANITIZER)

namespace {

/// The bytes of stack that a thread has written to when it ends, from the far end of what it used.
std::size_t stack_of(std::function<void()> action) {
  constexpr std::size_t size = std::size_t{1} << 20;
  constexpr unsigned char untouched = 0xA5;
  struct alignas(4096) Stack {
    std::array<unsigned char, size> bytes;
  };
  const auto stack = std::make_unique<Stack>();
  stack->bytes.fill(untouched);
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstack(&attributes, stack->bytes.data(), size) == 0);
  pthread_t thread;
  const auto run = [](void* f) -> void* {
    (*static_cast<std::function<void()>*>(f))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &action) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  REQUIRE(pthread_attr_destroy(&attributes) == 0);
  const auto first = std::find_if(stack->bytes.begin(), stack->bytes.end(),
                                  [](unsigned char byte) { return byte != untouched; });
  return static_cast<std::size_t>(stack->bytes.end() - first);
}

}  // namespace

TEST_CASE("routing by keys that are not the logits uses at most 192 KiB of stack") {
  const auto plain_bh = [](std::span<const double> p) noexcept {
    return fd::BenjaminiHochberg{0.3}(p);
  };
  for (const int experts : {64, fd::max_experts}) {
    const fd::AnyRouter router(fd::Router(experts, plain_bh, fd::ZScore{}, fd::NormalNull{},
                                          fd::SigmoidWeights{}, {}, fd::BySigmoid{}),
                               "");
    test::Random random(114);
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    const std::vector<double> logits(batch.logits.begin(), batch.logits.end());
    const fd::LogitsView doubles(logits.data(), batch.tokens(), experts);
    test::Padded<std::int64_t> padded(batch.tokens(), experts);
    const std::size_t thread_alone = stack_of([] {});
    const std::size_t used = stack_of([&] { router.route(doubles, padded.view()); });
    CHECK(used - thread_alone > 128 * 1024);
    CHECK(used - thread_alone <= 192 * 1024);
  }
}

TEST_CASE("completing uses at most 192 KiB of stack") {
  for (const int experts : {64, fd::max_experts}) {
    const fd::AnyRouter router(
        fd::Router(experts, fd::TopK{3}, fd::SigmoidWeights{}, {}, fd::BySigmoid{}), "");
    test::Random random(115);
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    const std::vector<double> logits(batch.logits.begin(), batch.logits.end());
    const fd::LogitsView doubles(logits.data(), batch.tokens(), experts);
    test::Padded<std::int64_t> padded(batch.tokens(), experts);
    const std::vector<std::uint64_t> mask(16, ~std::uint64_t{0});
    const fd::Completion completion{40, 40};
    const std::size_t thread_alone = stack_of([] {});
    const std::size_t used = stack_of([&] {
      router.route(doubles, padded.view());
      router.complete(doubles, fd::Residency(mask.data()), completion, padded.view());
    });
    CHECK(used - thread_alone > 64 * 1024);
    CHECK(used - thread_alone <= 192 * 1024);
  }
}

TEST_CASE("routing uses at most 128 KiB of stack") {
  // What is largest: a conversion of the logits, and a rule that reads p-values.
  const auto plain_bh = [](std::span<const double> p) noexcept {
    return fd::BenjaminiHochberg{0.3}(p);
  };
  for (const int experts : {64, fd::max_experts}) {
    const fd::AnyRouter router(fd::Router(experts, plain_bh, fd::ZScore{}, fd::NormalNull{}), "");
    test::Random random(113);
    const test::Batch batch = test::batch_of_every_kind(experts, 6, random);
    const std::vector<double> logits(batch.logits.begin(), batch.logits.end());
    const fd::LogitsView doubles(logits.data(), batch.tokens(), experts);
    test::Padded<std::int64_t> padded(batch.tokens(), experts);
    test::Csr<std::int64_t> csr(batch.tokens(), batch.tokens() * experts);
    test::Guarded<float> dense(batch.tokens() * experts);
    const std::vector<std::uint64_t> masks(16, ~std::uint64_t{0});
    const fd::BatchView<double> masked{.data = logits.data(),
                                       .tokens = batch.tokens(),
                                       .experts = experts,
                                       .stride = experts,
                                       .masks = masks.data()};
    const std::size_t thread_alone = stack_of([] {});
    for (const std::size_t used :
         {stack_of([&] { router.route(doubles, padded.view()); }),
          stack_of([&] { router.route(masked, padded.view()); }),
          stack_of([&] { router.route(doubles, csr.view()); }), stack_of([&] {
            router.route(doubles, fd::DenseView{dense.data(), experts});
          })}) {
      CHECK(used - thread_alone > 64 * 1024);
      CHECK(used - thread_alone <= 128 * 1024);
    }
  }
}
#endif

TEST_CASE("a dispatch plan allocates nothing once it has seen the largest batch") {
  test::Random random(112);
  const fd::Router router(64, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{});
  const test::Batch batch = test::batch_of_every_kind(64, 6, random);
  auto routing = test::routed(router, batch.view());
  fd::DispatchPlan reserved;
  reserved.reserve(batch.tokens(), batch.tokens() * 64, 64);
  CHECK(allocations_of([&] {
          for (const std::int64_t most : {1000, 3, 0}) {
            const fd::DispatchLimits limits{.capacity = most, .drop = fd::Drop::lowest_weight};
            reserved.build_reserved(fd::serial, routing.view(), batch.tokens(), 64, limits);
          }
        }) == 0);
  fd::DispatchPlan plan;
  plan.build(routing.view(), batch.tokens(), 64);
  std::vector<float> rows(plan.tokens().size() * 8);
  std::vector<float> combined(8);
  CHECK(allocations_of([&] {
          plan.build(routing.view(), batch.tokens(), 64);
          plan.build(routing.view(), batch.tokens() / 2, 64);
          fd::combine(plan, 1, rows.data(), combined);
        }) == 0);
}

TEST_CASE("routing by groups and biases allocates nothing") {
  const std::vector<float> bias(256, 0.125F);
  check_no_allocation(fd::presets::deepseek_v2({}));
  check_no_allocation(fd::presets::deepseek_v3({}, bias));
}

TEST_CASE("conversions between the forms of a routing allocate nothing") {
  test::Random random(112);
  const fd::Router router(70, fd::BenjaminiHochberg{0.4}, fd::ZScore{}, fd::NormalNull{});
  const test::Batch batch = test::batch_of_every_kind(70, 4, random);
  const std::ptrdiff_t tokens = batch.tokens();
  auto routing = test::routed(router, batch.view());
  fd::DispatchPlan plan;
  plan.build(routing.view(), tokens, 70);
  test::Padded<std::int64_t> out(tokens, 70);
  const auto places = static_cast<std::size_t>(fd::assignments(routing.view(), tokens));
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(tokens) + 1);
  std::vector<std::int32_t> experts(places);
  std::vector<float> weights(places);
  std::vector<float> dense(static_cast<std::size_t>(tokens) * 70);
  std::vector<std::uint64_t> words(static_cast<std::size_t>(tokens) * 2);
  CHECK(allocations_of([&] {
          const fd::CsrView csr{offsets.data(), experts.data(), weights.data()};
          const fd::DenseView wide{dense.data(), 70};
          const fd::BitmaskView selected{words.data(), 2};
          fd::to_csr(routing.view(), tokens, csr);
          fd::to_dense(routing.view(), tokens, 70, wide);
          fd::to_bitmask(routing.view(), tokens, selected);
          fd::to_padded(routing.view(), tokens, out.view());
          fd::to_padded(csr, tokens, out.view());
          fd::to_padded(wide, selected, tokens, out.view());
          fd::to_padded(plan, tokens, out.view());
        }) == 0);
}
