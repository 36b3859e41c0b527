#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/formats.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/residency.hpp"
#include "fdroute/rows.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/summary.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

/// What a process wrote to stderr before it aborted while running `action`; how it ended otherwise.
template <class Action>
std::string last_words(Action&& action) {
  std::array<int, 2> channel{};
  if (::pipe(channel.data()) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child < 0) return "no fork";
  if (child == 0) {
    // doctest would report the abort as its own failure.
    std::signal(SIGABRT, SIG_DFL);
    ::dup2(channel[1], STDERR_FILENO);
    ::close(channel[0]);
    action();
    ::_exit(0);
  }
  ::close(channel[1]);
  std::string words;
  std::array<char, 256> buffer{};
  for (ssize_t n = 0; (n = ::read(channel[0], buffer.data(), buffer.size())) > 0;)
    words.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(channel[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) return words;
  return "did not abort: " + words;
}

constexpr auto wrong_experts =
    "fdroute: precondition violated: logits.experts == router.experts()\n";
constexpr auto small_capacity =
    "fdroute: precondition violated: out.capacity >= router.capacity()\n";

template <class AnyPolicy>
void check_preconditions(const AnyPolicy& router) {
  REQUIRE(router.experts() == 4);
  REQUIRE(router.capacity() == 3);
  const std::array<float, 10> logits{};
  test::Padded out(2, 3);
  test::Padded narrow(2, 2);
  test::Guarded<float> weights(8);
  const auto route = [&](int experts, auto to, int tokens = 2) {
    return last_words([&] { router.route(fd::LogitsView(logits.data(), tokens, experts), to); });
  };
  CHECK(route(4, out.view()) == "did not abort: ");
  CHECK(route(5, out.view()) == wrong_experts);
  CHECK(route(3, out.view()) == wrong_experts);
  CHECK(route(4, narrow.view()) == small_capacity);
  CHECK(route(4, narrow.view(), 0) == small_capacity);  // a promise broken even without a token
  CHECK(route(4, fd::DenseView{weights.data(), 4}) == "did not abort: ");
  CHECK(route(5, fd::DenseView{weights.data(), 4}) == wrong_experts);
  test::Csr csr(2, 6);
  CHECK(route(4, csr.view()) == "did not abort: ");
  CHECK(route(5, csr.view()) == wrong_experts);
  CHECK(route(4, out.view(), -1) == "fdroute: precondition violated: logits.tokens >= 0\n");
  for (const int tokens : {0, 1, 2}) {
    CHECK(route(4, fd::DenseView{weights.data(), 3}, tokens) ==
          "fdroute: precondition violated: out.stride >= experts\n");
    CHECK(route(4, fd::DenseView{weights.data(), -4}, tokens) ==
          "fdroute: precondition violated: out.stride >= experts\n");
  }
  // One row for all tokens is a row; rows that overlap are a mistake.
  const auto route_from = [&](std::ptrdiff_t stride, int tokens) {
    return last_words(
        [&] { router.route(fd::LogitsView(logits.data(), tokens, 4, stride), out.view()); });
  };
  CHECK(route_from(0, 2) == "did not abort: ");
  CHECK(route_from(1, 1) == "did not abort: ");
  constexpr auto overlap =
      "fdroute: precondition violated: |logits.stride| >= logits.experts, or 0\n";
  CHECK(route_from(3, 2) == overlap);
  CHECK(route_from(-3, 2) == overlap);
}

constexpr auto narrow_id =
    "fdroute: precondition violated: every expert's id fits the view's type of ids\n";

/// What one token's routing over so many experts says, with ids of type Id, padded and in CSR.
template <class Id>
std::string words_of_ids(int experts) {
  const fd::Router router(experts, fd::TopK{1});
  const std::vector<float> logits(static_cast<std::size_t>(experts));
  Id id{};
  float weight = 0.0F;
  std::int32_t count = 0;
  std::array<std::int64_t, 2> offsets{};
  const fd::LogitsView view(logits.data(), 1, experts);
  const std::string words = last_words([&] {
    router.route(view, fd::RoutingView{&id, &weight, &count, 1});
  });
  CHECK(last_words([&] {
          router.route(view, fd::CsrView{offsets.data(), &id, &weight});
        }) == words);
  return words;
}

}  // namespace

TEST_CASE("a broken precondition ends the process with its name, in every build") {
  const fd::Router bh(4, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{},
                      fd::SoftmaxWeights{}, fd::ExpertBounds{1, 3});
  const fd::Router topk(4, fd::TopK{3});
  check_preconditions(bh);
  check_preconditions(topk);
  check_preconditions(fd::AnyRouter(bh, ""));
  check_preconditions(fd::AnyRouter(topk, ""));
}

TEST_CASE("a batch, a row list and a list of routers that break a promise end the process") {
  const fd::Router router(70, fd::TopK{3});
  const std::vector<fd::AnyRouter> two{{router, ""}, {router, ""}};
  const std::vector<float> logits(3 * 70);
  const std::vector<std::uint64_t> masks(6, ~std::uint64_t{0});
  test::Padded out(3, 3);
  const auto route = [&](fd::BatchView<float> batch) {
    const std::string words = last_words([&] { router.route(batch, out.view()); });
    CHECK(last_words([&] { two[0].route(batch, out.view()); }) == words);
    return words;
  };
  CHECK(route({logits.data(), 3, 70, 70}) == "did not abort: ");
  CHECK(route({logits.data(), 3, 69, 70}) ==
        "fdroute: precondition violated: batch.experts == router.experts()\n");
  CHECK(route({logits.data(), -1, 70, 70}) ==
        "fdroute: precondition violated: batch.tokens >= 0\n");
  CHECK(route({logits.data(), 3, 70, 70, 1, masks.data(), 2}) == "did not abort: ");
  CHECK(route({logits.data(), 3, 70, 70, 1, masks.data(), 0}) == "did not abort: ");
  CHECK(route({logits.data(), 3, 70, 70, 1, masks.data(), 1}) ==
        "fdroute: precondition violated: batch.mask_stride >= "
        "BitmaskView::words_per_token(experts), or 0\n");

  const fd::LogitsView view(logits.data(), 3, 70);
  const auto route_rows = [&](std::vector<std::int32_t> rows) {
    return last_words([&] { fd::route_rows(router, rows, view, out.view()); });
  };
  CHECK(route_rows({2, 0}) == "did not abort: ");
  constexpr auto no_row = "fdroute: precondition violated: every row lies in [0, logits.tokens)\n";
  CHECK(route_rows({0, -1}) == no_row);
  CHECK(route_rows({2, 3}) == no_row);
  const auto route_each = [&](std::vector<std::int32_t> router_of) {
    return last_words(
        [&] { fd::route_each(std::span<const fd::AnyRouter>(two), router_of, view, out.view()); });
  };
  CHECK(route_each({1, 0, 1}) == "did not abort: ");
  constexpr auto no_router =
      "fdroute: precondition violated: every router_of lies in [0, routers.size())\n";
  CHECK(route_each({1, 2, 1}) == no_router);
  CHECK(route_each({1, 0, -1}) == no_router);
  CHECK(route_each({1, 0}) ==
        "fdroute: precondition violated: router_of has an entry for each "
        "token\n");
}

TEST_CASE("a completion that breaks a promise ends the process") {
  const fd::Router router(70, fd::TopK{3});
  const fd::AnyRouter any(router, "");
  const std::vector<float> logits(2 * 70);
  const std::vector<std::uint64_t> masks(4, ~std::uint64_t{0});
  test::Padded out(2, 8);
  router.route(fd::LogitsView(logits.data(), 2, 70), out.view());
  const auto complete = [&](fd::Completion completion, std::ptrdiff_t stride, int experts,
                            const fd::RoutingView<>& routing) {
    const fd::LogitsView view(logits.data(), 2, experts);
    const fd::Residency resident(masks.data(), stride);
    const std::string words =
        last_words([&] { router.complete(view, resident, completion, routing); });
    CHECK(last_words([&] { any.complete(view, resident, completion, routing); }) == words);
    return words;
  };
  const auto precondition = [](const std::string& text) {
    return "fdroute: precondition violated: " + text + "\n";
  };
  const fd::RoutingView<> routing = out.view();
  CHECK(complete({8, 8}, 0, 70, routing) == "did not abort: ");
  CHECK(complete({8, 8}, 2, 70, routing) == "did not abort: ");
  CHECK(complete({8, 8}, 0, 69, routing) == wrong_experts);
  const std::string positive = precondition("completion.window >= 1 and completion.max_k >= 1");
  CHECK(complete({0, 8}, 0, 70, routing) == positive);
  CHECK(complete({8, 0}, 0, 70, routing) == positive);
  CHECK(complete({8, 9}, 0, 70, routing) ==
        precondition("routing.capacity >= min(completion.max_k, experts)"));
  const std::string stride =
      precondition("resident.stride >= BitmaskView::words_per_token(experts), or 0");
  CHECK(complete({8, 8}, 1, 70, routing) == stride);
  CHECK(complete({8, 8}, -2, 70, routing) == stride);
  const std::string count = precondition("0 <= every count <= routing.capacity");
  routing.counts[1] = 9;
  CHECK(complete({8, 8}, 0, 70, routing) == count);
  CHECK(last_words([&] { fd::union_of(routing, 2, 70); }) == count);
  routing.counts[1] = -1;
  CHECK(complete({8, 8}, 0, 70, routing) == count);
  routing.counts[1] = 3;
  const std::string id = precondition("every id lies in [0, experts)");
  for (const int wrong : {70, -1}) {
    routing.experts[8] = wrong;
    CHECK(complete({8, 8}, 0, 70, routing) == id);
    CHECK(last_words([&] { fd::union_of(routing, 2, 70); }) == id);
    CHECK(last_words([&] { fd::budget_of(routing, 2, 70, 8); }) == id);
    CHECK(last_words([&] { fd::ExpertCache(70, 8).touch(routing, 2); }) == id);
  }
  CHECK(last_words([&] { fd::union_of(routing, 0, 1025); }) ==
        precondition("1 <= experts <= max_experts"));
}

TEST_CASE("no conversion drops an expert that finds no place") {
  const fd::Router router(4, fd::TopK{3});
  const std::array<float, 8> logits{};
  const fd::LogitsView view(logits.data(), 2, 4);
  test::Padded wide = test::routed(router, view);
  test::Padded narrow(2, 2);
  std::array<std::int64_t, 3> offsets{};
  std::array<std::int32_t, 6> experts{};
  std::array<float, 8> weights{};
  const fd::CsrView csr{offsets.data(), experts.data(), weights.data()};
  fd::to_csr(wide.view(), 2, csr);
  std::array<std::uint64_t, 2> bits{7, 7};
  fd::DispatchPlan plan;
  plan.build(wide.view(), 2, 4);
  const fd::DenseView dense{weights.data(), 4};
  const fd::BitmaskView selected{bits.data(), 1};
  constexpr auto too_narrow = "fdroute: precondition violated: out.capacity >= every count\n";
  CHECK(last_words([&] { fd::to_padded(wide.view(), 2, narrow.view()); }) == too_narrow);
  CHECK(last_words([&] { fd::to_padded(csr, 2, narrow.view()); }) == too_narrow);
  CHECK(last_words([&] { fd::to_padded(dense, selected, 2, narrow.view()); }) == too_narrow);
  CHECK(last_words([&] { fd::to_padded(plan, 2, narrow.view()); }) == too_narrow);
}

TEST_CASE("a type of ids too narrow for the experts is refused") {
  CHECK(words_of_ids<std::uint8_t>(256) == "did not abort: ");
  CHECK(words_of_ids<std::uint8_t>(257) == narrow_id);
  CHECK(words_of_ids<std::uint8_t>(300) == narrow_id);
  CHECK(words_of_ids<std::int8_t>(128) == "did not abort: ");
  CHECK(words_of_ids<std::int8_t>(129) == narrow_id);
  CHECK(words_of_ids<std::int8_t>(1024) == narrow_id);
  CHECK(words_of_ids<std::int16_t>(1024) == "did not abort: ");
  CHECK(words_of_ids<std::uint64_t>(1024) == "did not abort: ");
}

TEST_CASE("a bitmask has a bit for every expert") {
  std::array<std::uint64_t, 4> words{};
  for (const int experts : {1, 64, 65, 128, 129}) {
    const fd::Router router(experts, fd::TopK{1});
    const std::vector<float> logits(static_cast<std::size_t>(experts));
    const fd::LogitsView view(logits.data(), 1, experts);
    const int enough = (experts + 63) / 64;
    const auto route = [&](std::ptrdiff_t stride) {
      return last_words([&] { router.route(view, fd::BitmaskView{words.data(), stride}); });
    };
    CAPTURE(experts);
    CHECK(route(enough) == "did not abort: ");
    CHECK(route(enough + 1) == "did not abort: ");
    CHECK(route(enough - 1) ==
          "fdroute: precondition violated: out.stride >= BitmaskView::words_per_token(experts)\n");
  }
}

namespace {

struct MyScore {
  static constexpr std::string_view name = "mine";
  fd::ScoreMap map;
  fd::ScoreMap operator()(std::span<const float>) const noexcept { return map; }
};

}  // namespace

TEST_CASE("a score that would change the order of the logits ends the process") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float nan = std::nanf("");
  test::Padded out(1, 4);
  // One row for the block kernels and one, with a NaN, for the definition.
  for (const float first : {1.0F, nan}) {
    const std::array<float, 4> logits{first, 2.0F, 3.0F, 4.0F};
    const auto route = [&](fd::ScoreMap map) {
      const fd::Router router(4, fd::BenjaminiHochberg{}, MyScore{map}, fd::NormalNull{});
      return last_words([&] { router.route(fd::LogitsView(logits.data(), 1, 4), out.view()); });
    };
    CHECK(route({0.5F, 2.0F}) == "did not abort: ");
    for (const fd::ScoreMap bad : {fd::ScoreMap{0.0F, 0.0F},
                                   {0.0F, -1.0F},
                                   {0.0F, nan},
                                   {0.0F, inf},
                                   {nan, 1.0F},
                                   {-inf, 1.0F}}) {
      CHECK(route(bad) ==
            "fdroute: precondition violated: a score's scale is positive and finite, its shift "
            "finite\n");
    }
  }
}

TEST_CASE("conversions check what they read") {
  std::array<std::int32_t, 2> experts{3, 200};
  std::array<float, 2> weights{0.5F, 0.25F};
  std::array<float, 256> dense{};
  std::array<std::int32_t, 1> counts{2};
  std::array<std::int64_t, 2> offsets{};
  std::array<std::uint8_t, 4> bytes{};
  std::array<std::int8_t, 4> signed_bytes{};
  std::array<std::uint64_t, 4> words{};
  const fd::RoutingView view{experts.data(), weights.data(), counts.data(), 2};
  const auto bytes_view = fd::RoutingView{bytes.data(), weights.data(), counts.data(), 2};
  const auto signed_view = fd::RoutingView{signed_bytes.data(), weights.data(), counts.data(), 2};
  const fd::DenseView all{dense.data(), 256};
  constexpr auto bad_id = "fdroute: precondition violated: every id lies in [0, experts)\n";
  constexpr auto bad_count =
      "fdroute: precondition violated: 0 <= every count <= routing.capacity\n";

  CHECK(last_words([&] { fd::to_padded(view, 1, bytes_view); }) == "did not abort: ");
  CHECK(last_words([&] { fd::to_padded(view, 1, signed_view); }) == narrow_id);
  CHECK(last_words([&] {
          fd::to_csr(view, 1, fd::CsrView{offsets.data(), signed_bytes.data(), weights.data()});
        }) == narrow_id);
  CHECK(last_words([&] { fd::to_dense(view, 1, 201, all); }) == "did not abort: ");
  CHECK(last_words([&] { fd::to_dense(view, 1, 200, all); }) == bad_id);
  CHECK(last_words([&] {
          fd::to_dense(view, 1, 201, fd::DenseView{dense.data(), 200});
        }) == "fdroute: precondition violated: out.stride >= experts\n");
  CHECK(last_words([&] {
          fd::to_bitmask(view, 1, fd::BitmaskView{words.data(), 4});
        }) == "did not abort: ");
  CHECK(last_words([&] { fd::to_bitmask(view, 1, fd::BitmaskView{words.data(), 3}); }) == bad_id);
  for (const int count : {-1, 3}) {
    counts[0] = count;
    CHECK(last_words([&] { fd::to_dense(view, 1, 256, all); }) == bad_count);
    CHECK(last_words([&] { fd::to_padded(view, 1, bytes_view); }) == bad_count);
    fd::DispatchPlan plan;
    CHECK_THROWS_AS(plan.build(view, 1, 256), std::invalid_argument);
    CHECK_THROWS_AS(fd::summarize(view, 1, 256), std::invalid_argument);
  }
}

TEST_CASE("a dispatch plan numbers its tokens by int32: more are refused before any is read") {
  fd::DispatchPlan plan;
  const fd::RoutingView<std::int32_t> nothing{nullptr, nullptr, nullptr, 1};
  const auto refusal = [&](std::ptrdiff_t tokens) -> std::string {
    try {
      plan.build(nothing, tokens, 4);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "taken";
  };
  CHECK(refusal((std::int64_t{1} << 31) + 1) ==
        "DispatchPlan: tokens must lie in [0, 2147483648], got 2147483649");
  CHECK(refusal(-1) == "DispatchPlan: tokens must lie in [0, 2147483648], got -1");
  CHECK(refusal(0) == "taken");
  CHECK(last_words([&] { plan.assignments_of(0); }) ==
        "fdroute: precondition violated: 0 <= token < the plan's tokens\n");
}
