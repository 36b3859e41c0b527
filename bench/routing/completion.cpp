// What complete() costs, as ratios to a softmax: batches of 16 tokens by top-k 3, of which each may
// use what its batch loads, up to 8. All cases run in turns; a ratio is the median over the turns.
//
//     completion [turns]
//
// A case is a function of its own, pass_NAME, for callgrind:
//
//     valgrind --tool=callgrind --collect-atstart=no --toggle-collect=pass_complete completion 0

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fdroute/residency.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "logits.hpp"
#include "twins.hpp"

#if !defined(NDEBUG) || !defined(__OPTIMIZE__)
#error "a timing without optimisation or with asserts says nothing"
#endif

namespace {

namespace fd = fdroute;

constexpr std::ptrdiff_t tokens = 2048;
constexpr int experts = 64;

const bench::Buffer<float> data = bench::router_logits(tokens, experts, 1);
const fd::LogitsView<float> logits(data.data(), tokens, experts);
const fd::Router top3(experts, fd::TopK{3});
const fd::Router top8(experts, fd::TopK{8});
const fd::Router shared3(experts, fd::TopK{3}, fd::SoftmaxWeights{.renormalize = true});

bench::Buffer<std::int32_t> ids(tokens * 8);
bench::Buffer<float> weights(tokens* experts);
bench::Buffer<std::int32_t> counts(tokens);
bench::Buffer<std::uint64_t> masks(tokens);  // of the token's batch
const fd::RoutingView<> routing{ids.data(), weights.data(), counts.data(), 8};

}  // namespace

extern "C" {
[[gnu::noinline]] void pass_softmax() {
  bench::softmax_rows<fd::DefaultArch>(logits, weights.data());
}
[[gnu::noinline]] void pass_route_3() {
  top3.route(logits, routing);
}
[[gnu::noinline]] void pass_route_8() {
  top8.route(logits, routing);
}
[[gnu::noinline]] void pass_route_shared_3() {
  shared3.route(logits, routing);
}
[[gnu::noinline]] void pass_union() {
  for (std::ptrdiff_t t = 0; t < tokens; t += 16)
    std::fill_n(masks.begin() + t, 16, fd::union_of(routing.from(t), 16, experts).words[0]);
}
[[gnu::noinline]] void pass_complete() {
  top3.complete(logits, fd::Residency(masks.data(), 1), {8, 8}, routing);
}
[[gnu::noinline]] void pass_complete_shared() {
  shared3.complete(logits, fd::Residency(masks.data(), 1), {8, 8}, routing);
}
}

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*before)();  // not timed
    void (*pass)();
    std::vector<double> ns{};
  };
  std::array cases{
      Case{"softmax (the floor)", [] {}, pass_softmax},
      Case{"route, top-k 3: padded 8", [] {}, pass_route_3},
      Case{"route, top-k 8: padded 8", [] {}, pass_route_8},
      Case{"union_of, batches of 16", pass_route_3, pass_union},
      Case{"complete, top-k 3: padded 8", pass_route_3, pass_complete},
      Case{"complete, top-k 3, renormalised: padded 8", pass_route_shared_3, pass_complete_shared},
  };
  const int turns = argc > 1 ? std::atoi(argv[1]) : 400;
  for (int turn = 0; turn <= turns; ++turn) {
    for (Case& c : cases) {
      c.before();
      const auto start = std::chrono::steady_clock::now();
      c.pass();
      const std::chrono::duration<double, std::nano> elapsed =
          std::chrono::steady_clock::now() - start;
      if (turn > 0) c.ns.push_back(elapsed.count() / static_cast<double>(tokens));
    }
  }
  if (turns < 1) return 0;
  std::printf("| %-42s | %8s | %9s |\n|%s|---:|---:|\n", "", "ns/token", "x softmax",
              "--------------------------------------------");
  for (const Case& c : cases) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < c.ns.size(); ++i) ratios.push_back(c.ns[i] / cases[0].ns[i]);
    const auto middle = ratios.begin() + turns / 2;
    std::nth_element(ratios.begin(), middle, ratios.end());
    std::printf("| %-42s | %8.1f | %9.2f |\n", c.name, *std::min_element(c.ns.begin(), c.ns.end()),
                *middle);
  }
}
