// Routing by policy, experts, tokens a call, type of the logits and threads. Every iteration routes
// one batch and, next to it, computes the softmax of the same batch: `x_softmax` is the quotient of
// the two times. Batches rotate through 8192 rows, so that neither caches nor branch predictors
// learn them by heart. `ns/token` counts routing alone.

#include <benchmark/benchmark.h>

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fdroute/openmp.hpp"
#include "logits.hpp"
#include "twins.hpp"

#if !defined(NDEBUG) || !defined(__OPTIMIZE__)
#error "a timing without optimisation or with asserts says nothing: CMAKE_BUILD_TYPE=Release"
#endif

namespace {

namespace fd = fdroute;
using Clock = std::chrono::steady_clock;

constexpr std::ptrdiff_t rows = 8192;

/// A bfloat16 as an engine may have it.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float x) noexcept
      : bits(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16)) {}
  explicit operator float() const noexcept {
    return std::bit_cast<float>(std::uint32_t{bits} << 16);
  }
};

}  // namespace

template <>
inline constexpr auto fdroute::logit_format<BFloat16> = fdroute::LogitFormat::bfloat16;

namespace {

/// The caller's memory for one batch.
struct Output {
  Output(std::ptrdiff_t tokens, int n_experts, int n_capacity)
      : experts(n_experts),
        capacity(n_capacity),
        ids(static_cast<std::size_t>(tokens * n_experts)),
        weights(ids.size()),
        counts(static_cast<std::size_t>(tokens)),
        offsets(static_cast<std::size_t>(tokens + 1)),
        masks(static_cast<std::size_t>(tokens * fd::BitmaskView::words_per_token(n_experts))) {}

  void view(fd::RoutingView<>& to) { to = {ids.data(), weights.data(), counts.data(), capacity}; }
  void view(fd::CsrView<>& to) { to = {offsets.data(), ids.data(), weights.data()}; }
  void view(fd::DenseView& to) { to = {weights.data(), experts, counts.data()}; }
  void view(fd::BitmaskView& to) {
    to = {masks.data(), fd::BitmaskView::words_per_token(experts), counts.data()};
  }

  int experts;
  int capacity;
  bench::Buffer<std::int32_t> ids;
  bench::Buffer<float> weights;
  bench::Buffer<std::int32_t> counts;
  bench::Buffer<std::int64_t> offsets;
  bench::Buffer<std::uint64_t> masks;
};

template <class View, class T, class AnyRouter>
void routing(benchmark::State& state, const AnyRouter& router, std::ptrdiff_t tokens, int threads) {
  const int experts = router.experts();
  const bench::Buffer<float> data = bench::router_logits(rows, experts, 1);
  bench::Buffer<T> stored;
  for (const float x : data) stored.push_back(static_cast<T>(x));
  Output out(tokens, experts, router.capacity());
  View view{};
  out.view(view);
  bench::Buffer<float> softmax(out.weights.size());

  std::ptrdiff_t first = 0;
  double routing_ns = 0.0;
  double softmax_ns = 0.0;
  for (auto _ : state) {
    const fd::LogitsView<T> logits(stored.data() + first * experts, tokens, experts);
    const float* floats = data.data() + first * experts;
    const auto start = Clock::now();
    if (threads > 1) {
      router.route(fd::OpenMP{threads}, logits, view);
    } else {
      router.route(logits, view);
    }
    benchmark::ClobberMemory();
    const auto middle = Clock::now();
    bench::softmax_rows<fd::DefaultArch>(fd::LogitsView(floats, tokens, experts), softmax.data());
    benchmark::ClobberMemory();
    const auto end = Clock::now();
    const std::chrono::duration<double> elapsed = middle - start;
    state.SetIterationTime(elapsed.count());
    routing_ns += 1e9 * elapsed.count();
    softmax_ns += std::chrono::duration<double, std::nano>(end - middle).count();
    first = (first + tokens) % rows;
  }
  const auto routed = static_cast<double>(state.iterations() * tokens);
  state.counters["ns/token"] = routing_ns / routed;
  state.counters["x_softmax"] = routing_ns / softmax_ns;
  state.counters["bytes/token"] = static_cast<double>(experts) * static_cast<double>(sizeof(T));
}

template <class View, class T, class AnyRouter>
void add(const std::string& policy, const char* form, const char* type, const AnyRouter& router,
         std::ptrdiff_t tokens, int threads = 1) {
  const std::string name =
      policy + "/" + form + "/" + type + "/experts:" + std::to_string(router.experts()) +
      "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    routing<View, T>(state, router, tokens, threads);
  })->UseManualTime();
}

template <class AnyRouter>
void add_all(const std::string& policy, const AnyRouter& router) {
  for (const std::ptrdiff_t tokens : {1, 16, 512, 8192}) {
    add<fd::RoutingView<>, float>(policy, "padded", "float", router, tokens);
    add<fd::DenseView, float>(policy, "dense", "float", router, tokens);
  }
  add<fd::CsrView<>, float>(policy, "csr", "float", router, 8192);
  add<fd::BitmaskView, float>(policy, "mask", "float", router, 8192);
  add<fd::RoutingView<>, double>(policy, "padded", "double", router, 8192);
  add<fd::RoutingView<>, BFloat16>(policy, "padded", "bfloat16", router, 8192);
  for (const int threads : {2, 4}) {
    add<fd::RoutingView<>, float>(policy, "padded", "float", router, 8192, threads);
    add<fd::DenseView, float>(policy, "dense", "float", router, 8192, threads);
    add<fd::CsrView<>, float>(policy, "csr", "float", router, 8192, threads);
  }
}

template <class Score>
auto bh(int experts, Score score) {
  const auto data = bench::router_logits(rows, experts, 1);
  return fd::Router(experts, fd::BenjaminiHochberg{0.05}, score,
                    bench::trimmed_null(data, experts, score), fd::SoftmaxWeights{},
                    fd::ExpertBounds{1, 8});
}

auto hc(int experts) {
  const auto data = bench::router_logits(rows, experts, 1);
  return fd::Router(experts, fd::HigherCriticism{}, fd::LogSoftmax{},
                    bench::trimmed_null(data, experts, fd::LogSoftmax{}), fd::SoftmaxWeights{},
                    fd::ExpertBounds{1, 8});
}

template <class Score>
void construction(benchmark::State& state, int experts, Score score) {
  const auto data = bench::router_logits(1024, experts, 1);
  const auto null = bench::trimmed_null(data, experts, score);
  for (auto _ : state) {
    benchmark::DoNotOptimize(fd::Router(experts, fd::BenjaminiHochberg{0.05}, score, null));
  }
}

/// Dispatch to 64 experts and combine of rows of `width` floats, the experts left out.
void dispatch_and_combine(benchmark::State& state, std::ptrdiff_t tokens, std::size_t width) {
  const auto router = bh(64, fd::LogSoftmax{});
  const auto data = bench::router_logits(tokens, 64, 1);
  Output out(tokens, 64, router.capacity());
  fd::RoutingView<> view{};
  out.view(view);
  router.route(fd::LogitsView(data.data(), tokens, 64), view);
  fd::DispatchPlan plan;
  plan.build(view, tokens, 64);
  std::vector<float> expert_rows(plan.tokens().size() * width, 1.0F);
  std::vector<float> combined(width);
  for (auto _ : state) {
    plan.build(view, tokens, 64);
    for (std::ptrdiff_t t = 0; t < tokens; ++t) fd::combine(plan, t, expert_rows.data(), combined);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * tokens);
}

}  // namespace

int main(int argc, char** argv) {
  for (const int experts : {8, 64, 128, 256, 512}) {
    add_all("topk", fd::Router(experts, fd::TopK{experts < 16 ? 2 : 8}));
    add_all("bh_logit", bh(experts, fd::Logit{}));
    add_all("bh_log_softmax", bh(experts, fd::LogSoftmax{}));
    add_all("bh_zscore", bh(experts, fd::ZScore{}));
    add_all("hc_log_softmax", hc(experts));
    benchmark::RegisterBenchmark(
        ("construction/bh_log_softmax/experts:" + std::to_string(experts)).c_str(),
        [=](benchmark::State& state) { construction(state, experts, fd::LogSoftmax{}); })
        ->Unit(benchmark::kMicrosecond);
  }
  for (const std::ptrdiff_t tokens : {1, 512}) {
    benchmark::RegisterBenchmark(
        ("dispatch_combine/width:2048/tokens:" + std::to_string(tokens)).c_str(),
        [=](benchmark::State& state) { dispatch_and_combine(state, tokens, 2048); });
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
