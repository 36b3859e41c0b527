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
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

/// ByLogit by another name: without kernels, so by the definition.
struct SlowRanking {
  fd::TieOrder ties = fd::TieOrder::lowest_index;
  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }
};

bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// What distinguishes a form of some tokens from their padded routing, token `first` and on.
template <class AnyPolicy>
std::string difference_of_dense(const AnyPolicy& router, fd::LogitsView<float> logits,
                                const test::Padded<>& padded, std::ptrdiff_t first) {
  const int experts = router.experts();
  test::Guarded<float> dense(logits.tokens * experts);
  test::Guarded<std::int32_t> counts(logits.tokens);
  router.route(logits, fd::DenseView{dense.data(), experts, counts.data()});
  if (!dense.guards_intact()) return "dense: written outside";
  for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
    const std::ptrdiff_t row = (first + t) * padded.capacity;
    std::vector<float> expected(index(experts));
    for (int i = 0; i < padded.counts[first + t]; ++i)
      expected[index(padded.experts[row + i])] = padded.weights[row + i];
    if (counts[t] != padded.counts[first + t]) return "dense: count";
    for (int j = 0; j < experts; ++j) {
      if (!same_bits(dense[t * experts + j], expected[index(j)]))
        return "dense: token " + std::to_string(first + t) + ", expert " + std::to_string(j);
    }
  }
  return "";
}

template <class AnyPolicy>
std::string difference_of_bitmask(const AnyPolicy& router, fd::LogitsView<float> logits,
                                  const test::Padded<>& padded, std::ptrdiff_t first) {
  const std::ptrdiff_t words = (router.experts() + 63) / 64;
  test::Guarded<std::uint64_t> masks(logits.tokens * words);
  test::Guarded<std::int32_t> counts(logits.tokens);
  router.route(logits, fd::BitmaskView{masks.data(), words, counts.data()});
  for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
    std::vector<std::uint64_t> expected(index(words));
    for (int i = 0; i < padded.counts[first + t]; ++i) {
      const int expert = padded.experts[(first + t) * padded.capacity + i];
      expected[index(expert / 64)] |= std::uint64_t{1} << (expert % 64);
    }
    if (counts[t] != padded.counts[first + t]) return "bitmask: count";
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

/// Rows of every kind, and rows of few experts, all in one lane of 16 or spread.
test::Batch batch_of(int experts, int repeats, test::Random& random) {
  test::Batch batch = test::batch_of_every_kind(experts, repeats, random);
  for (int i = 0; i < 4 * repeats; ++i) {
    std::vector<float> row(index(experts), -test::infinity);
    const int step = i % 2 == 0 ? 16 : 1 + random.below(experts);
    for (int j = random.below(experts); j < experts; j += step) row[index(j)] = random.normal();
    batch.add(row);
  }
  batch.add(std::vector<float>(index(experts), 1e30F));
  return batch;
}

/// Hands `use` two routers of every policy with kernels, or of `some`, which are to route alike:
/// one by the kernels, one by the definition.
template <bool some = false, class W, class Use>
void with_routers(int experts, const W& weights, fd::ExpertBounds bounds, const Use& use) {
  const auto both = [&](const std::string& name, const auto& rule, const auto& score,
                        const auto& null) {
    use(name, fd::Router(experts, rule, score, null, weights, bounds),
        fd::Router(experts, rule, score, null, weights, bounds, SlowRanking{}));
  };
  const auto free = [&](const std::string& name, const auto& rule) {
    use(name, fd::Router(experts, rule, weights, bounds),
        fd::Router(experts, rule, weights, bounds, SlowRanking{}));
  };
  both("bh, logit", fd::BenjaminiHochberg{0.9}, fd::Logit{}, fd::NormalNull{0.0, 1.0});
  free("topk", fd::TopK{1 + (experts - 1) / 2});
  if constexpr (!some) {
    both("bh, log_softmax", fd::BenjaminiHochberg{0.5}, fd::LogSoftmax{},
         fd::NormalNull{-5.0, 1.3});
    both("bh, zscore", fd::BenjaminiHochberg{0.7}, fd::ZScore{}, fd::NormalNull{0.0, 0.8});
    both("holm, zscore", fd::Holm{0.9}, fd::ZScore{}, fd::NormalNull{0.0, 0.6});
    both("hc, logit", fd::HigherCriticism{0.5}, fd::Logit{}, fd::NormalNull{0.0, 1.5});
    free("topk of few", fd::TopK{std::min(experts, 3)});
    free("topp", fd::TopP{0.9});
    free("relative", fd::RelativeThreshold{0.05});
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
  for (int experts = 1; experts <= 130; ++experts) widths.push_back(experts);
  for (const int experts : widths) {
    const test::Batch batch = batch_of(experts, 1, random);
    const int min_k = random.below(std::min(experts, 20) + 1);
    for (const bool renormalize : {false, true}) {
      const fd::SoftmaxWeights weights{.renormalize = renormalize};
      check_forms(experts, weights, {0}, batch);
      check_forms(experts, weights, {min_k, std::max(1, min_k + random.below(4))}, batch);
    }
    if (experts % 8 != 0) continue;
    check_forms(experts, fd::SoftmaxWeights{0.7, true}, {min_k}, batch);
    check_forms<true>(experts, fd::Scaled<fd::SoftmaxWeights>{{.renormalize = true}, 2.5F}, {1},
                      batch);
    check_forms<true>(experts, fd::SigmoidWeights{.renormalize = true}, {1}, batch);
  }
}

TEST_CASE("slices of 1 to 17 tokens") {
  test::Random random(122);
  for (const int experts : {5, 32, 64, 96, 256}) {
    const test::Batch batch = batch_of(experts, 2, random);
    for (const bool renormalize : {false, true}) {
      with_routers(experts, fd::SoftmaxWeights{.renormalize = renormalize}, {2},
                   [&](const std::string& name, const auto& router, const auto&) {
                     INFO(name, ", ", experts, " experts");
                     const test::Padded<> whole = test::routed(router, batch.view());
                     for (std::ptrdiff_t slice = 1; slice <= 17; ++slice)
                       REQUIRE(difference_of_slices(router, batch.view(), whole, slice) == "");
                   });
    }
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

TEST_CASE("a kept sum is the same in any order") {
  test::Random random(123);
  int ordered_otherwise = 0;
  for (int repeat = 0; repeat < 2000; ++repeat) {
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
