#include "fdroute/dispatch.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

struct Assignment {
  int expert;
  int token;
  float weight;
  friend bool operator==(const Assignment&, const Assignment&) = default;
};

/// All assignments of a padded routing in ascending order of expert, then token.
template <class Id>
std::vector<Assignment> by_expert(const test::Padded<Id>& routing, int experts) {
  std::vector<Assignment> assignments;
  for (int expert = 0; expert < experts; ++expert) {
    for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
      for (std::ptrdiff_t i = 0; i < routing.counts[t]; ++i) {
        const std::ptrdiff_t place = t * routing.capacity + i;
        if (routing.experts[place] == expert)
          assignments.push_back({expert, static_cast<int>(t), routing.weights[place]});
      }
    }
  }
  return assignments;
}

/// What a plan says, read by its documented layout.
std::vector<Assignment> read(const fd::DispatchPlan& plan) {
  std::vector<Assignment> assignments;
  for (std::size_t expert = 0; expert + 1 < plan.offsets().size(); ++expert) {
    for (std::size_t a = plan.offsets()[expert]; a < plan.offsets()[expert + 1]; ++a)
      assignments.push_back({static_cast<int>(expert), plan.tokens()[a], plan.weights()[a]});
  }
  return assignments;
}

auto dispatched_router(int experts, fd::ExpertBounds bounds) {
  return fd::Router(experts, fd::BenjaminiHochberg{0.4}, fd::ZScore{}, fd::NormalNull{},
                    fd::SoftmaxWeights{}, bounds);
}

template <class Id>
void check_plan(fd::DispatchPlan& plan, test::Padded<Id>& routing, int experts) {
  plan.build(routing.view(), routing.tokens, experts);
  CHECK(plan.offsets().size() == index(experts + 1));
  CHECK(plan.offsets().front() == 0);
  CHECK(plan.offsets().back() == plan.tokens().size());
  CHECK(plan.tokens().size() == plan.weights().size());
  CHECK(read(plan) == by_expert(routing, experts));
  // Each assignment belongs to its token, and to no other.
  std::size_t assigned = 0;
  for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
    const auto mine = plan.assignments_of(t);
    CHECK(mine.size() == index(routing.counts[t]));
    CHECK(std::is_sorted(mine.begin(), mine.end()));
    for (const std::size_t a : mine) CHECK(plan.tokens()[a] == t);
    assigned += mine.size();
  }
  CHECK(assigned == plan.tokens().size());
}

}  // namespace

TEST_CASE_TEMPLATE("a plan groups a routing by expert", Id, std::int32_t, std::int64_t) {
  test::Random random(91);
  fd::DispatchPlan plan;  // one object, larger and smaller batches in turn
  for (const int experts : {64, 1, 16, 5}) {
    for (const int repeats : {4, 1}) {
      for (const auto padding : {fd::Padding::minus_one, fd::Padding::repeat_valid}) {
        const test::Batch batch = test::batch_of_every_kind(experts, repeats, random);
        const auto router = dispatched_router(experts, {0, 6});
        auto routing = test::routed<Id>(router, batch.view(), padding);
        check_plan(plan, routing, experts);
      }
    }
  }
}

TEST_CASE("plans of no token and of no assignment") {
  fd::DispatchPlan plan;
  const auto router = dispatched_router(3, {0});
  const test::Batch none{3};
  auto nothing = test::routed(router, none.view());
  check_plan(plan, nothing, 3);
  CHECK(plan.tokens().empty());

  const test::Batch equal{3, std::vector<float>(12, 1.0F)};
  auto unassigned = test::routed(router, equal.view());
  check_plan(plan, unassigned, 3);
  CHECK(plan.tokens().empty());
  std::vector<float> out(5, 7.0F);
  for (std::ptrdiff_t t = 0; t < 4; ++t) {
    fd::combine(plan, t, nullptr, out);
    CHECK(out == std::vector<float>(5, 0.0F));
  }
}

TEST_CASE("gather, run each expert once, combine: as token by token") {
  test::Random random(92);
  const int experts = 8;
  const std::size_t width = 5;
  const test::Batch batch = test::batch_of_every_kind(experts, 4, random);
  const auto router = dispatched_router(experts, {1, 6});
  auto routing = test::routed(router, batch.view());
  fd::DispatchPlan plan;
  plan.build(routing.view(), routing.tokens, experts);

  // Expert e maps token t's feature i to this; small integers, so that sums are exact.
  const auto expert_output = [](int expert, int token, std::size_t i) {
    return static_cast<float>((expert + 1) * (token % 7 + 1) + static_cast<int>(i));
  };
  std::vector<float> rows(plan.tokens().size() * width);
  for (int e = 0; e < experts; ++e) {
    for (std::size_t a = plan.offsets()[index(e)]; a < plan.offsets()[index(e) + 1]; ++a) {
      for (std::size_t i = 0; i < width; ++i)
        rows[a * width + i] = expert_output(e, plan.tokens()[a], i);
    }
  }
  for (std::ptrdiff_t t = 0; t < routing.tokens; ++t) {
    std::vector<float> combined(width, -1.0F);
    fd::combine(plan, t, rows.data(), combined);
    for (std::size_t i = 0; i < width; ++i) {
      double expected = 0.0;
      for (std::ptrdiff_t k = 0; k < routing.counts[t]; ++k) {
        const std::ptrdiff_t place = t * routing.capacity + k;
        const float output = expert_output(routing.experts[place], static_cast<int>(t), i);
        expected += static_cast<double>(routing.weights[place]) * static_cast<double>(output);
      }
      CHECK(static_cast<double>(combined[i]) == doctest::Approx(expected).epsilon(1e-6));
    }
  }
}

TEST_CASE("combine sums in ascending order of expert, whatever order the routing has") {
  // 2^24 + 1 - 2^24 is 0 or 1 in float, depending on the order.
  fd::DispatchPlan plan;
  std::vector<std::int32_t> ids{2, 0, 1};
  std::vector<float> weights{1.0F, 1.0F, 1.0F};
  std::int32_t count = 3;
  const std::vector<float> rows{0x1p24F, -0x1p24F, 1.0F};  // of experts 0, 1, 2
  std::sort(ids.begin(), ids.end());
  do {
    plan.build(fd::RoutingView{ids.data(), weights.data(), &count, 3}, 1, 3);
    std::vector<float> out(1);
    fd::combine(plan, 0, rows.data(), out);
    CHECK(out[0] == 1.0F);
  } while (std::next_permutation(ids.begin(), ids.end()));
}

TEST_CASE("ids outside of the experts are refused") {
  fd::DispatchPlan plan;
  std::vector<std::int64_t> ids{0, 3, 1, -1};
  std::vector<float> weights(4, 0.5F);
  std::vector<std::int32_t> counts{2, 1};
  const fd::RoutingView routing{ids.data(), weights.data(), counts.data(), 2};
  const auto rejection = [&](int experts) {
    return test::rejection_of([&] { plan.build(routing, 2, experts); });
  };
  CHECK(rejection(4) == "no error");  // the -1 is padding
  CHECK(rejection(3) == "DispatchPlan: expert id 3 is outside [0, 3)");
  counts[1] = 2;
  CHECK(rejection(4) == "DispatchPlan: expert id -1 is outside [0, 4)");
  ids[3] = std::int64_t{1} << 33;
  CHECK(rejection(4) == "DispatchPlan: expert id 8589934592 is outside [0, 4)");
  // A plan that refused can be built again.
  ids[3] = 2;
  CHECK(rejection(4) == "no error");
  CHECK(read(plan) ==
        std::vector<Assignment>{{0, 0, 0.5F}, {1, 1, 0.5F}, {2, 1, 0.5F}, {3, 0, 0.5F}});
}
