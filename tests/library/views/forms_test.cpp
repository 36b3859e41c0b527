// One formula of weights per policy: every form of a routing has the bits of every other, whatever
// the batch and the slices that it is routed in, and the bits of the definition.

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fdroute/fdroute.hpp"
#include "library/definition.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

// The policies to compile, a bit each: a mutation run takes this file apart (tests/mutation/).
#ifndef FDROUTE_FORMS
#define FDROUTE_FORMS ~0U
#endif

namespace fd = fdroute;
using test::index;

namespace {

bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// What distinguishes a form of some tokens from their padded routing, token `first` and on.
template <class AnyPolicy>
std::string difference_of_dense(const AnyPolicy& router, fd::LogitsView<float> logits,
                                const test::Padded<>& padded, std::ptrdiff_t first) {
  const int experts = router.experts();
  const std::ptrdiff_t stride = experts + 3 * (first % 2);
  test::Guarded<float> dense(logits.tokens * stride);
  const test::Guarded<float> untouched(stride);
  test::Guarded<std::int32_t> counts(logits.tokens);
  test::Guarded<fd::TokenStatus> status(logits.tokens);
  router.route(logits, fd::DenseView{dense.data(), stride, counts.data(), status.data()});
  if (!dense.guards_intact() || !counts.guards_intact() || !status.guards_intact())
    return "dense: written outside";
  for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
    const std::ptrdiff_t row = (first + t) * padded.capacity;
    std::vector<float> expected(index(experts));
    for (int i = 0; i < padded.counts[first + t]; ++i)
      expected[index(padded.experts[row + i])] = padded.weights[row + i];
    if (counts[t] != padded.counts[first + t]) return "dense: count";
    if (status[t] != padded.status[first + t]) return "dense: status";
    for (int j = 0; j < experts; ++j) {
      if (!same_bits(dense[t * stride + j], expected[index(j)]))
        return "dense: token " + std::to_string(first + t) + ", expert " + std::to_string(j);
    }
    for (std::ptrdiff_t j = experts; j < stride; ++j) {
      if (!same_bits(dense[t * stride + j], untouched[j])) return "dense: written between rows";
    }
  }
  return "";
}

template <class AnyPolicy>
std::string difference_of_bitmask(const AnyPolicy& router, fd::LogitsView<float> logits,
                                  const test::Padded<>& padded, std::ptrdiff_t first) {
  const std::ptrdiff_t words = (router.experts() + 63) / 64 + 2 * (first % 2);
  test::Guarded<std::uint64_t> masks(logits.tokens * words);
  test::Guarded<std::int32_t> counts(logits.tokens);
  test::Guarded<fd::TokenStatus> status(logits.tokens);
  router.route(logits, fd::BitmaskView{masks.data(), words, counts.data(), status.data()});
  if (!masks.guards_intact() || !counts.guards_intact() || !status.guards_intact())
    return "bitmask: written outside";
  for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
    std::vector<std::uint64_t> expected(index(words));
    for (int i = 0; i < padded.counts[first + t]; ++i) {
      const int expert = padded.experts[(first + t) * padded.capacity + i];
      expected[index(expert / 64)] |= std::uint64_t{1} << (expert % 64);
    }
    if (counts[t] != padded.counts[first + t]) return "bitmask: count";
    if (status[t] != padded.status[first + t]) return "bitmask: status";
    for (std::ptrdiff_t w = 0; w < words; ++w) {
      if (masks[t * words + w] != expected[index(w)])
        return "bitmask: token " + std::to_string(first + t);
    }
  }
  return "";
}

/// What distinguishes two padded routings of the same tokens, `part` from token `first` of `whole`.
std::string difference_of_padded(const test::Padded<>& part, const test::Padded<>& whole,
                                 std::ptrdiff_t first) {
  for (std::ptrdiff_t t = 0; t < part.tokens; ++t) {
    const std::string token = ": token " + std::to_string(first + t);
    if (part.counts[t] != whole.counts[first + t]) return "counts" + token;
    if (part.status[t] != whole.status[first + t]) return "status" + token;
    for (int i = 0; i < part.capacity; ++i) {
      const std::ptrdiff_t a = t * part.capacity + i;
      const std::ptrdiff_t b = (first + t) * part.capacity + i;
      if (part.experts[a] != whole.experts[b]) return "experts" + token;
      if (!same_bits(part.weights[a], whole.weights[b])) return "weights" + token;
    }
  }
  return "";
}

/// What distinguishes the forms of a routing, in slices of `slice` tokens, from `whole`.
template <class AnyPolicy>
std::string difference_of_slices(const AnyPolicy& router, fd::LogitsView<float> logits,
                                 const test::Padded<>& whole, std::ptrdiff_t slice) {
  for (std::ptrdiff_t first = 0; first < logits.tokens; first += slice) {
    const auto part = logits.slice(first, std::min(slice, logits.tokens - first));
    std::string found =
        difference_of_padded(test::routed(router, part, whole.padding), whole, first);
    if (found.empty()) found = difference_of_dense(router, part, whole, first);
    if (found.empty()) found = difference_of_bitmask(router, part, whole, first);
    if (found.empty()) found = test::difference_of_csr(router, part);
    if (!found.empty()) return "slices of " + std::to_string(slice) + ": " + found;
  }
  return "";
}

/// Rows of every kind; rows of few experts, all in one lane of 16 or spread; rows far from 0, where
/// a float's steps are coarse; equal logits on both sides of a multiple of 64.
test::Batch batch_of(int experts, int repeats, test::Random& random) {
  test::Batch batch = test::batch_of_every_kind(experts, repeats, random);
  for (int i = 0; i < 4 * repeats; ++i) {
    std::vector<float> row(index(experts), -test::infinity);
    const int step = i % 2 == 0 ? 16 : 1 + random.below(experts);
    for (int j = random.below(experts); j < experts; j += step) row[index(j)] = random.normal();
    batch.add(row);
  }
  batch.add(std::vector<float>(index(experts), 1e30F));
  for (const float centre : {399.0F, 900.0F, -2000.0F, 20'000.0F}) {
    std::vector<float> row;
    for (int j = 0; j < experts; ++j) row.push_back(centre + 2.0F * random.normal());
    batch.add(row);
  }
  std::vector<float> tied(index(experts), -3.0F);
  for (int j = 0; j < experts; ++j) {
    if (j % 64 < 2 || j % 64 > 61) tied[index(j)] = 2.5F;
  }
  batch.add(tied);
  return batch;
}

constexpr bool compiled(int policy) {
  return ((FDROUTE_FORMS >> policy) & 1U) != 0;
}

/// Hands `use` two routers of every policy with kernels, or of `some`, which are to route alike:
/// one by the kernels, one by the definition. Under a sanitizer, every seventh.
template <bool some = false, class W, class Use>
void with_routers(int experts, const W& weights, fd::ExpertBounds bounds, const Use& use) {
  static int number = 0;
  const auto with = [&](const std::string& name, const auto& router) {
    if (++number % test::stride_of_cases == 0) use(name, router, test::Definition(router));
  };
  const auto both = [&](const std::string& name, const auto& rule, const auto& score,
                        const auto& null) {
    with(name, fd::Router(experts, rule, score, null, weights, bounds));
  };
  const auto free = [&](const std::string& name, const auto& rule) {
    with(name, fd::Router(experts, rule, weights, bounds));
  };
  constexpr auto wanted = [](int policy) { return compiled(some ? 8 : policy); };
  if constexpr (wanted(0))
    both("bh, logit", fd::BenjaminiHochberg{0.9}, fd::Logit{}, fd::NormalNull{0.0, 1.0});
  if constexpr (wanted(1)) free("topk", fd::TopK{1 + (experts - 1) / 2});
  if constexpr (!some) {
    if constexpr (wanted(1)) free("topk of few", fd::TopK{std::min(experts, 3)});
    if constexpr (wanted(2)) {
      both("bh, log_softmax", fd::BenjaminiHochberg{0.5}, fd::LogSoftmax{},
           fd::NormalNull{-5.0, 1.3});
    }
    if constexpr (wanted(3))
      both("bh, zscore", fd::BenjaminiHochberg{0.7}, fd::ZScore{}, fd::NormalNull{0.0, 0.8});
    if constexpr (wanted(4))
      both("holm, zscore", fd::Holm{0.9}, fd::ZScore{}, fd::NormalNull{0.0, 0.6});
    if constexpr (wanted(5))
      both("hc, logit", fd::HigherCriticism{0.5}, fd::Logit{}, fd::NormalNull{0.0, 1.5});
    if constexpr (wanted(6)) free("topp", fd::TopP{0.9});
    if constexpr (wanted(7)) free("relative", fd::RelativeThreshold{0.05});
  }
}

template <bool some = false, class W>
void check_forms(int experts, const W& weights, fd::ExpertBounds bounds, const test::Batch& batch) {
  with_routers<some>(
      experts, weights, bounds,
      [&](const std::string& name, const auto& router, const auto& definition) {
        INFO(name, ", ", experts, " experts, min_k ", bounds.min_k);
        const test::Padded<> whole = test::routed(router, batch.view());
        REQUIRE(difference_of_padded(test::routed(definition, batch.view()), whole, 0) == "");
        REQUIRE(difference_of_slices(definition, batch.view(), whole, 1) == "");
        // Alone, together, and in slices of one other size, all sizes over all widths.
        for (const std::ptrdiff_t slice :
             {std::ptrdiff_t{1}, std::ptrdiff_t{2 + experts % 16}, batch.tokens()})
          REQUIRE(difference_of_slices(router, batch.view(), whole, slice) == "");
      });
}

}  // namespace

TEST_CASE("every form, batch and slicing of a routing has the same bits, those of the definition") {
  test::Random random(121);
  std::vector<int> widths{255, 256, 257, 1000, 1024};
  for (int experts = 1; experts <= 130; experts += test::stride_of_cases) widths.push_back(experts);
  for (const int experts : widths) {
    const test::Batch batch = batch_of(experts, 1, random);
    const int min_k = random.below(std::min(experts, 20) + 1);
    const int mass_k = 1 + random.below(std::min(experts + 2, 24));
    for (const fd::SoftmaxWeights& weights :
         {fd::SoftmaxWeights{}, fd::SoftmaxWeights{.renormalize = true},
          fd::SoftmaxWeights{.mass_exponent = 0.4, .mass_k = mass_k}}) {
      check_forms(experts, weights, {0}, batch);
      check_forms(experts, weights, {min_k, std::max(1, min_k + random.below(4))}, batch);
    }
    if (experts % 8 != 0) continue;
    check_forms(experts, fd::SoftmaxWeights{0.7, true}, {min_k}, batch);
    if constexpr (compiled(8)) {
      check_forms<true>(
          experts, fd::SoftmaxWeights{.temperature = 0.7, .mass_exponent = 0.4, .mass_k = mass_k},
          {min_k}, batch);
    }
    if constexpr (compiled(8)) {
      check_forms<true>(experts, fd::Scaled<fd::SoftmaxWeights>{{.renormalize = true}, 2.5F}, {1},
                        batch);
      check_forms<true>(experts, fd::SigmoidWeights{.renormalize = true}, {1}, batch);
    }
  }
}

TEST_CASE("slices of 1 to 17 tokens") {
  test::Random random(122);
  for (const int experts : {5, 32, 64, 96, 256}) {
    const test::Batch batch = batch_of(experts, 2, random);
    for (const fd::SoftmaxWeights& weights :
         {fd::SoftmaxWeights{}, fd::SoftmaxWeights{.renormalize = true},
          fd::SoftmaxWeights{.mass_exponent = 0.4, .mass_k = 8}}) {
      with_routers(experts, weights, {2},
                   [&](const std::string& name, const auto& router, const auto&) {
                     INFO(name, ", ", experts, " experts");
                     const test::Padded<> whole = test::routed(router, batch.view());
                     for (std::ptrdiff_t slice = 1; slice <= 17; ++slice)
                       REQUIRE(difference_of_slices(router, batch.view(), whole, slice) == "");
                   });
    }
  }
}

TEST_CASE("rows of logits that stand apart are routed as rows side by side") {
  test::Random random(124);
  for (const int experts : {16, 63, 64, 65, 128}) {
    const test::Batch batch = batch_of(experts, 1, random);
    const std::ptrdiff_t stride = experts + 5;
    std::vector<float> apart(index(stride * batch.tokens()), 1e9F);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      std::copy(row.begin(), row.end(), apart.begin() + t * stride);
    }
    const fd::LogitsView<float> view(apart.data(), batch.tokens(), experts, stride);
    with_routers(experts, fd::SoftmaxWeights{}, {1},
                 [&](const std::string& name, const auto& router, const auto&) {
                   INFO(name, ", ", experts, " experts");
                   const test::Padded<> whole = test::routed(router, batch.view());
                   for (const std::ptrdiff_t slice : {std::ptrdiff_t{1}, batch.tokens()})
                     REQUIRE(difference_of_slices(router, view, whole, slice) == "");
                 });
  }
}

#if (FDROUTE_FORMS) & 1U
// By hand: where a count, a bound, the number of candidates and the width of a row meet the sizes
// of registers and lists.
TEST_CASE("counts and bounds at the edges of words, lanes and lists") {
  for (const int experts : {63, 64, 65, 127, 128, 129}) {
    for (const int strong : {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, experts - 1, experts}) {
      // From the last expert backwards, so that the first ids are the weak ones.
      std::vector<float> row(index(experts), -9.0F);
      std::fill(row.end() - strong, row.end(), 9.0F);
      test::Batch batch{experts};
      for (int t = 0; t < 3; ++t) batch.add(row);
      for (const int min_k : {0, strong, std::min(strong + 1, experts)}) {
        for (const int max_k : {strong - 1, strong, strong + 1, experts}) {
          if (max_k < std::max(min_k, 1)) continue;
          INFO(experts, " experts, ", strong, " strong ones, bounds ", min_k, " and ", max_k);
          const fd::Router router(experts, fd::BenjaminiHochberg{0.9}, fd::Logit{},
                                  fd::NormalNull{0.0, 1.0}, fd::SoftmaxWeights{},
                                  fd::ExpertBounds{min_k, max_k});
          const auto out = test::routed(router, batch.view());
          REQUIRE(out.guards_intact());
          REQUIRE(router.capacity() == std::min(max_k, experts));
          const int count = std::min(std::max(strong, min_k), router.capacity());
          for (std::ptrdiff_t t = 0; t < 3; ++t) {
            REQUIRE(out.counts[t] == count);
            for (int i = 0; i < count; ++i) {
              const int expert = i < strong ? experts - strong + i : i - strong;
              REQUIRE(out.experts[t * out.capacity + i] == expert);
            }
          }
          REQUIRE(difference_of_slices(router, batch.view(), out, 1) == "");
          REQUIRE(difference_of_slices(router, batch.view(), out, 3) == "");
        }
      }
    }
  }
}

TEST_CASE("one number beside NaN, and rows without a finite logit, in every form") {
  for (const int experts : {1, 16, 63, 64, 65, 128}) {
    test::Batch batch{experts};
    std::vector<int> finite;
    for (const int at : {0, experts / 2, experts - 1}) {
      for (const float other : {test::nan, -test::infinity}) {
        std::vector<float> row(index(experts), other);
        row[index(at)] = 3.0F;
        batch.add(row);
        finite.push_back(at);
        batch.add(std::vector<float>(index(experts), other));
        finite.push_back(-1);
      }
    }
    const fd::Router router(experts, fd::BenjaminiHochberg{0.9}, fd::Logit{},
                            fd::NormalNull{0.0, 1.0}, fd::SoftmaxWeights{}, fd::ExpertBounds{0, 1});
    const auto out = test::routed(router, batch.view());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      INFO(experts, " experts, token ", t);
      const int best = finite[index(t)];
      const bool any_nan = t % 4 < 2 && !(experts == 1 && best == 0);
      const auto status = (any_nan ? fd::TokenStatus::has_nan : fd::TokenStatus::ok) |
                          (best < 0 ? fd::TokenStatus::no_finite_logit : fd::TokenStatus::ok);
      CHECK(out.status[t] == status);
      CHECK(out.counts[t] == (best < 0 ? 0 : 1));
      if (best >= 0) CHECK((out.experts[t] == best && out.weights[t] == 1.0F));
    }
    for (const std::ptrdiff_t slice : {std::ptrdiff_t{1}, std::ptrdiff_t{2}, batch.tokens()})
      CHECK(difference_of_slices(router, batch.view(), out, slice) == "");
  }
}

TEST_CASE("a row of two experts in one lane, alone and in a batch") {
  std::vector<float> row(32, -test::infinity);
  row[0] = 0.5F;
  row[16] = 0.25F;
  test::Batch batch{32};
  batch.add(row);
  batch.add(row);
  const fd::Router router(32, fd::BenjaminiHochberg{0.9}, fd::Logit{}, fd::NormalNull{0.0, 1.0},
                          fd::SoftmaxWeights{}, fd::ExpertBounds{2, 2});
  const auto together = test::routed(router, batch.view());
  const auto alone = test::routed(router, batch.view().slice(0, 1));
  for (int i = 0; i < 4; ++i) CHECK(same_bits(together.weights[i], alone.weights[i % 2]));
}

#endif

TEST_CASE("a kept sum is the same in any order") {
  test::Random random(123);
  int ordered_otherwise = 0;
  for (int repeat = 0; repeat < 2000; repeat += test::stride_of_cases) {
    std::vector<float> exps{1.0F};
    const int n = 1 + random.below(fd::max_experts);
    while (static_cast<int>(exps.size()) < n)
      exps.push_back(std::ldexp(static_cast<float>(random.uniform()), -random.below(60)));
    const auto sums = [&] {
      struct {
        double fixed = 0.0, plain = 0.0;
      } sum;
      for (const float e : exps) {
        sum.fixed += fd::detail::fixed_point(static_cast<double>(e));
        sum.plain += static_cast<double>(e);
      }
      return sum;
    };
    const auto before = sums();
    random.shuffle(exps);
    const auto after = sums();
    CHECK(before.fixed == after.fixed);
    CHECK(std::abs(after.fixed - after.plain) <= 0x1p-33 * after.plain);
    ordered_otherwise += static_cast<int>(before.plain != after.plain);
  }
  CHECK(ordered_otherwise > 100);
}
