#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <string>

#include "fdroute/any_router.hpp"
#include "fdroute/formats.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "support.hpp"

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
