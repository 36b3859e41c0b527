// One table of routing times as ratios to a softmax: all cases run in turns, A B C ... A B C ...,
// so that whatever disturbs the machine disturbs them alike. A ratio is the median over the turns.
//
//     acceptance [--json FILE] [seconds [part of a name]]
//
// With part of a name, those cases alone, for a profiler; then ratios are to the first in turn.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/c_api.h"
#include "fdroute/dispatch.hpp"
#include "fdroute/openmp.hpp"
#include "logits.hpp"
#include "report.hpp"
#include "twins.hpp"

#if !defined(NDEBUG) || !defined(__OPTIMIZE__)
#error \
    "a timing without optimisation or with asserts says nothing: build with CMAKE_BUILD_TYPE=Release"
#endif

namespace {

namespace fd = fdroute;
using Clock = std::chrono::steady_clock;

constexpr std::ptrdiff_t tokens = 8192;

struct Case {
  std::string name;
  std::function<void()> pass;    // over all tokens
  std::string target{};          // what the ratio should not exceed
  bool twice = false;            // the first time not timed: it wakes the threads
  int parts = 1;                 // of a token that are counted, its assignments
  std::vector<double> ns{};      // per token or part of it, by turn
  std::vector<double> ratios{};  // to the first of the cases in turn with it
};

double lowest(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

void take_turns(std::vector<Case>& cases, double seconds) {
  for (Case& c : cases) c.pass();
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  std::mt19937 random(1);
  std::vector<std::size_t> order(cases.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  do {
    // In a new order every time: what runs before leaves its traces in the caches.
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      if (cases[i].twice) cases[i].pass();
      const auto start = Clock::now();
      cases[i].pass();
      const std::chrono::duration<double, std::nano> elapsed = Clock::now() - start;
      cases[i].ns.push_back(elapsed.count() / static_cast<double>(tokens * cases[i].parts));
    }
  } while (Clock::now() < end || cases[0].ns.size() < 5);
  for (Case& c : cases) {
    std::transform(c.ns.begin(), c.ns.end(), cases[0].ns.begin(), std::back_inserter(c.ratios),
                   std::divides<>());
  }
}

/// Two cases beside each other, turn by turn: the median of what `of` makes of their times.
struct Comparison {
  template <class Of>
  Comparison(const std::vector<Case>& cases, std::string what, const std::string& longer,
             const std::string& shorter, std::string wanted, const Of& of)
      : name(std::move(what)), target(std::move(wanted)) {
    const auto find = [&](const std::string& sought) -> const Case& {
      return *std::find_if(cases.begin(), cases.end(),
                           [&](const Case& c) { return c.name == sought; });
    };
    std::vector<double> values;
    std::transform(find(longer).ns.begin(), find(longer).ns.end(), find(shorter).ns.begin(),
                   std::back_inserter(values), of);
    value = bench::quantile(values, 0.5);
  }

  std::string name;
  std::string target;
  double value = 0.0;
};

void print(const std::vector<Case>& cases) {
  std::printf("| %-52s | %10s | %10s | %8s | %6s |\n", "", "ns/token",
              cases[0].name.starts_with("softmax") ? "x softmax" : "x first", "target", "spread");
  std::printf("|%s|---:|---:|---:|---:|\n", std::string(54, '-').c_str());
  for (const Case& c : cases) {
    std::printf("| %-52s | %10.1f | %10.2f | %8s | %4.0f %% |\n", c.name.c_str(), lowest(c.ns),
                bench::quantile(c.ratios, 0.5), c.target.c_str(), 100.0 * bench::spread(c.ns));
  }
}

/// All that is printed, for programs. Returns whether the file could be written.
bool write_json(const std::string& path, const bench::Circumstances& where,
                const std::string& noise, const std::vector<Case>& cases,
                const std::vector<Comparison>& comparisons) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  std::fprintf(file,
               "{\"processor\": %s, \"processors\": %u, \"others\": %d, \"compiler\": %s,\n"
               " \"version\": %s, \"date\": %s, \"noise\": %s, \"turns\": %zu,\n \"cases\": [",
               bench::quoted(where.processor).c_str(), where.processors, where.others,
               bench::quoted(where.compiler).c_str(), bench::quoted(where.version).c_str(),
               bench::quoted(where.date).c_str(), bench::quoted(noise).c_str(), cases[0].ns.size());
  for (const Case& c : cases) {
    std::fprintf(file,
                 "%s\n  {\"name\": %s, \"ns\": %.2f, \"median\": %.2f, \"spread\": %.4f, "
                 "\"ratio\": %.4f, \"target\": %s}",
                 &c == &cases[0] ? "" : ",", bench::quoted(c.name).c_str(), lowest(c.ns),
                 bench::quantile(c.ns, 0.5), bench::spread(c.ns), bench::quantile(c.ratios, 0.5),
                 bench::quoted(c.target).c_str());
  }
  std::fprintf(file, "],\n \"times\": [");
  for (const Comparison& c : comparisons) {
    std::fprintf(file, "%s\n  {\"name\": %s, \"times\": %.3f, \"target\": %s}",
                 &c == &comparisons[0] ? "" : ",", bench::quoted(c.name).c_str(), c.value,
                 bench::quoted(c.target).c_str());
  }
  std::fprintf(file, "]}\n");
  return std::fclose(file) == 0;
}

/// The caller's side of every view.
struct Output {
  explicit Output(int experts)
      : ids(static_cast<std::size_t>(tokens * 8)),
        weights(static_cast<std::size_t>(tokens * experts)),
        counts(static_cast<std::size_t>(tokens)),
        offsets(static_cast<std::size_t>(tokens + 1)),
        masks(static_cast<std::size_t>(tokens * fd::BitmaskView::words_per_token(experts))),
        width(experts) {}

  fd::RoutingView<> padded(int capacity) {
    return {ids.data(), weights.data(), counts.data(), capacity};
  }
  fd::CsrView<> csr() { return {offsets.data(), ids.data(), weights.data()}; }
  fd::DenseView dense() { return {weights.data(), width, counts.data()}; }
  fd::BitmaskView mask() {
    return {masks.data(), fd::BitmaskView::words_per_token(width), counts.data()};
  }

  bench::Buffer<std::int32_t> ids;
  bench::Buffer<float> weights;
  bench::Buffer<std::int32_t> counts;
  bench::Buffer<std::int64_t> offsets;
  bench::Buffer<std::uint64_t> masks;
  int width;
};

template <class Score>
auto bh_router(const bench::Buffer<float>& logits, int experts, Score score, int max_k) {
  return fd::Router(experts, fd::BenjaminiHochberg{0.05}, score,
                    bench::trimmed_null(logits, experts, score), fd::SoftmaxWeights{},
                    fd::ExpertBounds{1, max_k});
}

/// A ranking of the user's: the experts of a warm cache first, within a margin.
struct Warm {
  std::vector<float> bonus;
  fd::TieOrder ties = fd::TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    for (std::size_t j = 0; j < keys.size(); ++j) keys[j] = logits[j] + bonus[j];
  }
};

/// A case over rows of its own, many tokens a call and one: what outlives the call of add().
template <class AnyPolicy>
struct Model {
  Model(AnyPolicy policy, unsigned seed)
      : router(std::move(policy)),
        data(bench::router_logits(tokens, router.experts(), seed)),
        out(router.experts()) {}

  void add(std::vector<Case>& cases, const std::string& name, const char* batch, const char* one) {
    const fd::LogitsView<float> logits(data.data(), tokens, router.experts());
    cases.push_back(
        {name, [this, logits] { router.route(logits, out.padded(router.capacity())); }, batch});
    cases.push_back({"one token a call: " + name,
                     [this, logits] {
                       for (std::ptrdiff_t t = 0; t < tokens; ++t)
                         router.route(logits.slice(t, 1), out.padded(router.capacity()));
                     },
                     one});
  }

  AnyPolicy router;
  bench::Buffer<float> data;
  Output out;
};

std::vector<float> small_numbers(int n, float scale) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> numbers;
  for (int i = 0; i < n; ++i) numbers.push_back(scale * normal(random));
  return numbers;
}

template <class Score>
auto per_expert(int experts, Score score) {
  const auto data = bench::router_logits(tokens, experts, 3);
  const fd::PerExpertNull<fd::TabulatedNull> null{
      std::vector(static_cast<std::size_t>(experts), bench::trimmed_null(data, experts, score))};
  return fd::Router(experts, fd::BenjaminiHochberg{0.05}, score, null, fd::SoftmaxWeights{},
                    fd::ExpertBounds{1, 8});
}

template <class Score>
auto weighted(int experts, Score score) {
  const auto data = bench::router_logits(tokens, experts, 3);
  std::vector<double> weights;
  for (int j = 0; j < experts; ++j) weights.push_back(j % 2 == 0 ? 0.5 : 1.5);
  return fd::Router(experts, fd::BenjaminiHochberg{0.05}, score,
                    fd::WeightedNull{bench::trimmed_null(data, experts, score), weights},
                    fd::SoftmaxWeights{}, fd::ExpertBounds{1, 8});
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::string json;
  const char* const usage =
      "usage: acceptance [--json FILE] [seconds [part of a name]]\n"
      "Times of routing as ratios to a softmax, all cases in turns for some seconds, 10 by "
      "default.\n"
      "With part of a name, those cases alone; --json writes the figures to a file, too.\n";
  for (auto option = arguments.begin(); option != arguments.end();) {
    if (*option == "--help") {
      std::fputs(usage, stdout);
      return EXIT_SUCCESS;
    }
    if (*option == "--json" && option + 1 != arguments.end()) {
      json = option[1];
      option = arguments.erase(option, option + 2);
    } else if (option->starts_with("-")) {
      std::fprintf(stderr, "acceptance: '%s' is no option, or lacks its value\n%s", option->c_str(),
                   usage);
      return 2;
    } else {
      ++option;
    }
  }
  const double seconds = arguments.empty() ? 10.0 : std::atof(arguments[0].c_str());
  if (!(seconds > 0.0) || arguments.size() > 2) {
    std::fprintf(stderr, "acceptance: seconds must be a positive number\n%s", usage);
    return 2;
  }
  const bench::Circumstances where;
  const int experts = 64;
  const bench::Buffer<float> data = bench::router_logits(tokens, experts, 1);
  const fd::LogitsView<float> logits(data.data(), tokens, experts);
  Output out(experts);

  const auto each_token = [&](auto&& body) {
    return [&, body] {
      for (std::ptrdiff_t t = 0; t < tokens; ++t) body(t);
    };
  };
  const auto logit = bh_router(data, experts, fd::Logit{}, fd::ExpertBounds::all);
  const auto log_softmax = bh_router(data, experts, fd::LogSoftmax{}, fd::ExpertBounds::all);
  const auto zscore = bh_router(data, experts, fd::ZScore{}, fd::ExpertBounds::all);
  const auto logit8 = bh_router(data, experts, fd::Logit{}, 8);
  const auto log_softmax8 = bh_router(data, experts, fd::LogSoftmax{}, 8);
  const auto hc = [&](auto score, int max_k) {
    return fd::Router(experts, fd::HigherCriticism{}, score,
                      bench::trimmed_null(data, experts, score), fd::SoftmaxWeights{},
                      fd::ExpertBounds{1, max_k});
  };
  const auto hc_log_softmax = hc(fd::LogSoftmax{}, fd::ExpertBounds::all);
  const auto hc_log_softmax8 = hc(fd::LogSoftmax{}, 8);
  const fd::Router topk(experts, fd::TopK{8});
  const fd::Router topp(experts, fd::TopP{0.5}, fd::SoftmaxWeights{}, fd::ExpertBounds{1, 8});
  const bench::Buffer<float> wide_data = bench::router_logits(tokens, 256, 2);
  const fd::LogitsView<float> wide_logits(wide_data.data(), tokens, 256);
  Output wide_out(256);
  const auto wide = bh_router(wide_data, 256, fd::LogSoftmax{}, 8);

  std::vector<Case> cases;
  cases.push_back({"softmax (the floor)",
                   [&] { bench::softmax_rows<fd::DefaultArch>(logits, out.weights.data()); }});
  cases.push_back({"BH, logit: mask", [&] { logit.route(logits, out.mask()); }, "0.7"});
  cases.push_back({"BH, logit: dense", [&] { logit.route(logits, out.dense()); }, "1.5"});
  cases.push_back(
      {"BH, log_softmax: dense", [&] { log_softmax.route(logits, out.dense()); }, "1.8"});
  cases.push_back({"BH, zscore: dense", [&] { zscore.route(logits, out.dense()); }, "1.8"});
  cases.push_back({"BH, logit: padded 8", [&] { logit8.route(logits, out.padded(8)); }, "50 ns"});
  cases.push_back(
      {"BH, log_softmax: padded 8", [&] { log_softmax8.route(logits, out.padded(8)); }, "54 ns"});
  cases.push_back(
      {"BH, log_softmax: CSR, at most 8", [&] { log_softmax8.route(logits, out.csr()); }});
  cases.push_back({"top-k 8: padded", [&] { topk.route(logits, out.padded(8)); }, "3"});
  cases.push_back({"top-p 0.5: padded 8", [&] { topp.route(logits, out.padded(8)); }});
  cases.push_back(
      {"HC, log_softmax: dense", [&] { hc_log_softmax.route(logits, out.dense()); }, "10"});
  cases.push_back({"HC, log_softmax: padded 8",
                   [&] { hc_log_softmax8.route(logits, out.padded(8)); }, "130 ns"});
  cases.push_back({"one token a call: BH, logit: padded 8", each_token([&](std::ptrdiff_t t) {
                     logit8.route(logits.slice(t, 1), out.padded(8));
                   }),
                   "70 ns"});
  cases.push_back({"one token a call: BH, log_softmax: padded 8", each_token([&](std::ptrdiff_t t) {
                     log_softmax8.route(logits.slice(t, 1), out.padded(8));
                   }),
                   "95 ns"});
  cases.push_back({"one token a call: HC, log_softmax: padded 8", each_token([&](std::ptrdiff_t t) {
                     hc_log_softmax8.route(logits.slice(t, 1), out.padded(8));
                   }),
                   "350 ns"});
  cases.push_back({"256 experts: BH, log_softmax: padded 8",
                   [&] { wide.route(wide_logits, wide_out.padded(8)); }});
  cases.push_back({"2 threads: BH, log_softmax: padded 8",
                   [&] { log_softmax8.route(fd::OpenMP{2}, logits, out.padded(8)); }, "", true});
  cases.push_back({"2 threads: BH, log_softmax: CSR, at most 8",
                   [&] { log_softmax8.route(fd::OpenMP{2}, logits, out.csr()); }, "", true});
  cases.push_back({"plain loops: std::sort BH by erfc, softmax", each_token([&](std::ptrdiff_t t) {
                     out.counts[static_cast<std::size_t>(t)] =
                         bench::sorted_bh(logits.row(t), experts, 0.05, -2.8, 0.85, 8,
                                          out.ids.data(), out.weights.data());
                   })});
  cases.push_back(
      {"plain loops: softmax, partial_sort of pairs, top 8", each_token([&](std::ptrdiff_t t) {
         bench::partial_sort_topk(logits.row(t), experts, 8, out.ids.data(), out.weights.data());
       })});
  cases.push_back({"plain loops: softmax, argmax passes, top 8", each_token([&](std::ptrdiff_t t) {
                     bench::argmax_topk(logits.row(t), experts, 8, out.ids.data(),
                                        out.weights.data());
                   })});
  const fd::AnyRouter any(log_softmax8, "");
  cases.push_back(
      {"AnyRouter: BH, log_softmax: padded 8", [&] { any.route(logits, out.padded(8)); }});
  cases.push_back(
      {"one token a call: AnyRouter: BH, log_softmax: padded 8",
       each_token([&](std::ptrdiff_t t) { any.route(logits.slice(t, 1), out.padded(8)); })});
  fdroute_router* c_router = nullptr;
  if (fdroute_router_create("topk:k=8", experts, nullptr, nullptr, &c_router) != FDROUTE_OK) {
    std::fprintf(stderr, "acceptance: %s\n", fdroute_last_error());
    return EXIT_FAILURE;
  }
  const auto route_in_c = [&, c_router](std::ptrdiff_t first, std::ptrdiff_t n) {
    fdroute_route(c_router, logits.row(first), FDROUTE_F32, n, experts, 8, FDROUTE_MINUS_ONE,
                  out.ids.data(), out.weights.data(), out.counts.data(), nullptr);
  };
  cases.push_back({"C interface: top-k 8: padded", [&] { route_in_c(0, tokens); }});
  cases.push_back({"one token a call: top-k 8: padded", each_token([&](std::ptrdiff_t t) {
                     topk.route(logits.slice(t, 1), out.padded(8));
                   })});
  cases.push_back({"one token a call: C interface: top-k 8: padded",
                   each_token([&](std::ptrdiff_t t) { route_in_c(t, 1); })});
  // Of 8192 tokens with 8 of 256 experts each.
  const fd::Router top8_of_256(256, fd::TopK{8});
  top8_of_256.route(wide_logits, wide_out.padded(8));
  const fd::RoutingView<> to_dispatch = wide_out.padded(8);
  fd::DispatchPlan plan;
  bench::CountingSort sorted_assignments;
  // A plan checks what it is given and has every token's assignments, too.
  cases.push_back({"plain counting sort: 8 of 256, by assignment",
                   [&] { sorted_assignments.build(to_dispatch, tokens, 256); }, "", false, 8});
  cases.push_back({"DispatchPlan: 8 of 256, by assignment",
                   [&] { plan.build(to_dispatch, tokens, 256); }, "", false, 8});
  cases.push_back({"2 threads: DispatchPlan: 8 of 256, by assignment",
                   [&] { plan.build(fd::OpenMP{2}, to_dispatch, tokens, 256); }, "", true, 8});
  // What experts of this width wrote for those assignments: 134 MB. These cases have turns of their
  // own, since they leave nothing of the others' in the caches.
  constexpr std::size_t width = 512;
  fd::DispatchPlan to_combine;
  to_combine.build(to_dispatch, tokens, 256);
  const bench::Buffer<float> written(width * 8 * std::size_t{tokens}, 0.5F);
  bench::Buffer<float> combined(width * std::size_t{tokens});
  const std::string combining = "combine: 512 floats of 8 experts, by assignment";
  const std::string reading = "reading them once in order, by assignment";
  std::vector<Case> by_memory{cases[0]};
  by_memory.push_back({combining, each_token([&](std::ptrdiff_t t) {
                         float* to = combined.data() + t * std::ptrdiff_t{width};
                         fd::combine(to_combine, t, written.data(), {to, width});
                       }),
                       "", false, 8});
  by_memory.push_back({reading, [&] { combined[0] = bench::sum_in_order(written); }, "", false, 8});
  namespace presets = fd::presets;
  Model deepseek_v3(presets::deepseek_v3({}, small_numbers(256, 0.05F)), 11);
  Model kimi_k2(
      presets::deepseek_v3(
          {.n_routed_experts = 384, .n_group = 1, .topk_group = 1, .routed_scaling_factor = 2.827F},
          small_numbers(384, 0.05F)),
      12);
  Model glm4_moe(presets::glm4_moe({}, small_numbers(160, 0.05F)), 13);
  Model deepseek_v2(presets::deepseek_v2({}), 14);
  Model mixtral(presets::mixtral({}), 15);
  Model llama4(presets::llama4({}), 16);
  Model olmoe(presets::olmoe({}), 17);
  Model qwen3_moe(presets::qwen3_moe({}), 18);
  Model gpt_oss(presets::gpt_oss({}), 19);
  Model top_p(topp, 20);
  Model own(fd::Router(64, fd::TopK{8}, fd::SoftmaxWeights{}, fd::ExpertBounds{},
                       Warm{small_numbers(64, 0.2F)}),
            21);
  Model of_each(per_expert(64, fd::LogSoftmax{}), 3);
  Model with_weights(weighted(64, fd::LogSoftmax{}), 3);
  deepseek_v3.add(cases, "deepseek-v3, 256 experts", "200 ns", "300 ns");
  kimi_k2.add(cases, "kimi-k2, 384 experts", "300 ns", "450 ns");
  glm4_moe.add(cases, "glm4-moe, 160 experts", "130 ns", "220 ns");
  deepseek_v2.add(cases, "deepseek-v2, 160 experts", "160 ns", "250 ns");
  mixtral.add(cases, "mixtral, 8 experts", "5 ns", "30 ns");
  llama4.add(cases, "llama4, 16 experts", "7 ns", "25 ns");
  olmoe.add(cases, "olmoe: top-k 8, 64 experts", "52 ns", "80 ns");
  qwen3_moe.add(cases, "qwen3-moe, 128 experts", "85 ns", "120 ns");
  gpt_oss.add(cases, "gpt-oss, 128 experts", "70 ns", "105 ns");
  top_p.add(cases, "top-p 0.5, 64 experts", "90 ns", "200 ns");
  own.add(cases, "a ranking of the user's, 64 experts", "400 ns", "400 ns");
  of_each.add(cases, "PerExpertNull, 64 experts", "400 ns", "400 ns");
  with_weights.add(cases, "WeightedNull, 64 experts", "400 ns", "400 ns");
  const std::string wanted = arguments.size() > 1 ? arguments[1] : "";
  const auto is_wanted = [&](const Case& c) { return c.name.find(wanted) != std::string::npos; };
  const std::ptrdiff_t floors = is_wanted(by_memory[0]) ? 1 : 0;
  for (auto* some : {&cases, &by_memory}) std::erase_if(*some, std::not_fn(is_wanted));
  if (cases.empty() && by_memory.empty()) {
    std::fprintf(stderr, "no case has '%s' in its name\n", wanted.c_str());
    return EXIT_FAILURE;
  }
  if (!cases.empty()) take_turns(cases, seconds);
  if (!by_memory.empty()) take_turns(by_memory, seconds / 8);
  cases.insert(cases.end(), by_memory.begin() + floors, by_memory.end());
  log_softmax.route(logits, out.mask());
  std::printf(
      "%d experts, %td tokens a call, float, 1 thread; BH selects %.1f on average\n\n", experts,
      tokens,
      std::accumulate(out.counts.begin(), out.counts.end(), 0.0) / static_cast<double>(tokens));
  const std::string noise = where.noise(bench::spread(cases[0].ns));
  std::printf("%s\n%s%s\n", where.line().c_str(), noise.c_str(), noise.empty() ? "" : "\n");
  print(cases);
  std::vector<Comparison> comparisons;
  if (wanted.empty()) {
    const std::string padded = "BH, log_softmax: padded 8";
    const std::string csr = "BH, log_softmax: CSR, at most 8";
    const std::string sorted = "plain loops: std::sort BH by erfc, softmax";
    const auto add = [&](const char* name, const std::string& longer, const std::string& shorter,
                         const char* target) {
      comparisons.emplace_back(cases, name, longer, shorter, target, std::divides<>());
    };
    const auto add_ns = [&](const char* name, const std::string& longer, const std::string& shorter,
                            const char* target) {
      comparisons.emplace_back(cases, name, longer, shorter, target, std::minus<>());
    };
    add("std::sort BH by erfc / BH, log_softmax: padded 8", sorted, padded, ">= 60");
    add("std::sort BH by erfc / BH, log_softmax: dense", sorted, "BH, log_softmax: dense", ">= 60");
    add("1 thread / 2 threads", padded, "2 threads: " + padded, ">= 1.8");
    add("CSR / padded 8", csr, padded, "");
    add("CSR: 1 thread / 2 threads", csr, "2 threads: " + csr, "");
    const std::string one = "one token a call: ";
    const std::string top8 = "top-k 8: padded";
    add("AnyRouter / Router", "AnyRouter: " + padded, padded, "<= 1.05");
    add_ns("AnyRouter - Router, one token a call, ns", one + "AnyRouter: " + padded, one + padded,
           "<= 15");
    add("C interface / Router", "C interface: " + top8, top8, "<= 1.05");
    add_ns("C interface - Router, one token a call, ns", one + "C interface: " + top8, one + top8,
           "<= 15");
    const std::string dispatch = "DispatchPlan: 8 of 256, by assignment";
    add("DispatchPlan / plain counting sort", dispatch,
        "plain counting sort: 8 of 256, by assignment", "");
    add("DispatchPlan: 1 thread / 2 threads", dispatch, "2 threads: " + dispatch, ">= 1.7");
    add("combine / reading what it sums", combining, reading, "");
    add("256 experts / 64 experts", "256 experts: " + padded, padded, "<= 6");
    std::printf("\n| %-52s | %10s | %8s |\n", "", "times", "target");
    std::printf("|%s|---:|---:|\n", std::string(54, '-').c_str());
    for (const Comparison& c : comparisons)
      std::printf("| %-52s | %10.2f | %8s |\n", c.name.c_str(), c.value, c.target.c_str());
  }
  if (!json.empty() && !write_json(json, where, noise, cases, comparisons)) {
    std::fprintf(stderr, "acceptance: cannot write %s\n", json.c_str());
    return EXIT_FAILURE;
  }
}
