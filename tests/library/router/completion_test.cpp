#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/completion.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/group_limited.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/weights/normalized.hpp"
#include "fdroute/weights/scaled.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "fdroute/weights/sparse_mixer.hpp"
#include "library/every_policy.hpp"
#include "library/support.hpp"

// Completed routings against a definition in plain code: one token, sets of ids, a sort.

namespace fd = fdroute;
using test::index;

namespace {

using Mask = std::vector<bool>;  // (experts)
using Ids = std::vector<std::int32_t>;

/// A router and what its definition needs: how experts rank, and the weights of a set of them.
struct Kind {
  fd::AnyRouter router;
  std::function<Ids(const std::vector<float>&)> order;  // all experts, best first
  std::function<bool(const std::vector<float>&, int)> allowed;
  std::function<std::vector<float>(const std::vector<float>&, const Ids&)> weights;
};

std::vector<float> keys_by(const auto& ranking, const std::vector<float>& logits) {
  std::vector<float> keys(logits.size());
  ranking(std::span<const float>(logits), std::span<float>(keys));
  return keys;
}

Ids order_of(const std::vector<float>& keys, fd::TieOrder ties) {
  Ids ids(keys.size());
  std::iota(ids.begin(), ids.end(), 0);
  if (ties == fd::TieOrder::highest_index) std::reverse(ids.begin(), ids.end());
  std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) {
    const float x = keys[index(a)];
    const float y = keys[index(b)];
    if (std::isnan(x)) return false;
    return std::isnan(y) || x > y;
  });
  return ids;
}

template <class R, class S, class N, class W, class K>
Kind kind_of(const fd::Router<R, S, N, W, K>& router) {
  return {fd::AnyRouter(router, ""),
          [router](const std::vector<float>& logits) {
            const std::vector<float> keys = keys_by(router.ranking(), logits);
            Ids ids = order_of(keys, router.ranking().ties);
            if constexpr (fd::ExpertNull<N>) {
              if (std::none_of(keys.begin(), keys.end(), [](float x) { return std::isfinite(x); }))
                return ids;
              const fd::ScoreMap score = router.score()(keys);
              std::vector<double> p;
              for (std::size_t j = 0; j < keys.size(); ++j) {
                p.push_back(keys[j] > -test::infinity
                                ? router.null()(double{score(keys[j])}, static_cast<int>(j))
                                : 1.0);
              }
              std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) {
                return p[index(a)] < p[index(b)];
              });
            }
            return ids;
          },
          [router](const std::vector<float>& logits, int expert) {
            const std::vector<float> keys = keys_by(router.ranking(), logits);
            const auto finite = [](float x) { return std::isfinite(x); };
            const bool any_key = std::any_of(keys.begin(), keys.end(), finite);
            const bool any_logit = std::any_of(logits.begin(), logits.end(), finite);
            return (any_key || any_logit) && keys[index(expert)] > -test::infinity;
          },
          [router](const std::vector<float>& logits, const Ids& ids) {
            std::vector<float> weights(ids.size());
            router.weights()(std::span<const float>(logits), std::span(ids),
                             std::span<float>(weights));
            return weights;
          }};
}

/// Routers of every sort: by kernels of each kind, and by the definition alone.
std::vector<Kind> some_kinds(int experts) {
  const int few = std::min(experts, 3);
  const fd::NormalNull null;
  const fd::SoftmaxWeights softmax;
  const fd::SoftmaxWeights renormalized{.renormalize = true};
  std::vector<float> bias(index(experts));
  for (int j = 0; j < experts; ++j) bias[index(j)] = 0.1F * static_cast<float>(j % 5);
  if (experts > 2) bias[1] = -test::infinity;
  fd::PerExpertNull<fd::NormalNull> nulls;
  for (int j = 0; j < experts; ++j) nulls.nulls.push_back({0.1 * (j % 5), 0.5 + 0.1 * (j % 3)});
  using Bounds = fd::ExpertBounds;
  const Bounds any;
  std::vector<Kind> kinds;
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few})));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few}, renormalized)));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few}, fd::SoftmaxWeights{0.7, false})));
  kinds.push_back(kind_of(
      fd::Router(experts, fd::TopK{few}, fd::SoftmaxWeights{.mass_exponent = 0.4, .mass_k = 8})));
  kinds.push_back(
      kind_of(fd::Router(experts, fd::TopK{few}, fd::Scaled<fd::SoftmaxWeights>{softmax, 2.5F})));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few}, fd::SigmoidWeights{true})));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few}, fd::SparseMixerWeights{0.2F})));
  kinds.push_back(kind_of(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{},
                                     fd::NormalNull{-4.0, 1.0}, softmax, Bounds{0, 6})));
  kinds.push_back(kind_of(fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, null,
                                     renormalized, Bounds{1})));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopP{0.4}, softmax)));
  kinds.push_back(
      kind_of(fd::Router(experts, fd::RelativeThreshold{0.2}, softmax, Bounds{few, Bounds::all})));
  kinds.push_back(
      kind_of(fd::Router(experts, fd::TopK{few}, fd::SigmoidWeights{}, any, fd::BySigmoid{bias})));
  kinds.push_back(
      kind_of(fd::Router(experts, fd::TopK{few}, softmax, any,
                         fd::GroupLimited<fd::BySigmoid>{{bias}, experts % 4 == 0 ? 4 : 1, 1})));
  kinds.push_back(kind_of(fd::Router(experts, fd::TopK{few}, softmax, any,
                                     fd::ByLogit{.ties = fd::TieOrder::highest_index})));
  kinds.push_back(kind_of(
      fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, nulls, softmax, Bounds{1, 5})));
  return kinds;
}

/// One token's experts and weights, in order.
struct Chosen {
  Ids experts{};
  std::vector<float> weights{};
  friend bool operator==(const Chosen& a, const Chosen& b) {
    return a.experts == b.experts && a.weights.size() == b.weights.size() &&
           (a.weights.empty() ||
            std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)) == 0);
  }
};

template <class Id>
Chosen chosen_of(const test::Padded<Id>& routing, std::ptrdiff_t t) {
  Chosen token;
  for (std::ptrdiff_t i = t * routing.capacity; i < t * routing.capacity + routing.counts[t]; ++i) {
    token.experts.push_back(static_cast<std::int32_t>(routing.experts[i]));
    token.weights.push_back(routing.weights[i]);
  }
  return token;
}

bool holds(const Ids& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// The definition.
Chosen completed(const Kind& kind, const std::vector<float>& logits, const Mask& resident,
                 fd::Completion completion, const Chosen& token) {
  const Ids order = kind.order(logits);
  Ids set = token.experts;
  for (std::size_t i = 0; i < order.size() && i < index(completion.window); ++i) {
    const std::int32_t expert = order[i];
    if (set.size() < index(completion.max_k) && resident[index(expert)] && !holds(set, expert) &&
        kind.allowed(logits, expert))
      set.push_back(expert);
  }
  if (set.size() == token.experts.size()) return token;
  Chosen result;
  for (const std::int32_t expert : order)
    if (holds(set, expert)) result.experts.push_back(expert);
  result.weights = kind.weights(logits, result.experts);
  return result;
}

/// Random masks, one for each of `tokens`: of few experts, of half, of most, of all or of none.
struct Masks {
  Masks(int n_experts, std::ptrdiff_t tokens, test::Random& random)
      : experts(n_experts), stride(fd::BitmaskView::words_per_token(experts) + random.below(2)) {
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      const int density = random.below(5);
      for (std::ptrdiff_t w = 0; w < stride; ++w) {
        std::uint64_t word = random.bits();
        if (density == 1) word &= random.bits();
        if (density == 2) word |= random.bits();
        if (density == 3) word = ~std::uint64_t{0};
        if (density == 4) word = random.below(3) == 0 ? random.bits() : 0;
        words.push_back(word);
      }
    }
  }

  Mask of(std::ptrdiff_t t) const {
    Mask mask;
    for (int j = 0; j < experts; ++j)
      mask.push_back((words[index(t * stride + j / 64)] >> (j % 64) & 1U) != 0);
    return mask;
  }

  fd::Residency view() const { return fd::Residency(words.data(), stride); }

  int experts;
  std::ptrdiff_t stride;
  std::vector<std::uint64_t> words{};
};

/// A completion whose padded rows are not too wide for a test.
fd::Completion random_completion(int experts, test::Random& random) {
  const int window = std::array{1, 2, 8, 12, 16, 17, 30, 2000}[index(random.below(8))];
  return {window, 1 + random.below(random.below(2) == 0 ? 10 : experts + 2)};
}

int width_for(const fd::AnyRouter& router, fd::Completion completion) {
  return std::max(router.capacity(), std::min(completion.max_k, router.experts()));
}

template <class Id = std::int32_t, class AnyPolicy, class Logits>
test::Padded<Id> routed_wide(const AnyPolicy& router, Logits logits, int width,
                             fd::Padding padding = fd::Padding::minus_one) {
  test::Padded<Id> out(logits.tokens, width, padding);
  router.route(logits, out.view());
  return out;
}

std::string text_of(const Chosen& token) {
  std::string text;
  for (std::size_t i = 0; i < token.experts.size(); ++i)
    text += std::to_string(token.experts[i]) + ":" + std::to_string(token.weights[i]) + " ";
  return text;
}

/// The first row of a completed routing that differs from the definition, padding and status too;
/// empty if none does.
std::string difference(const Kind& kind, const test::Batch& batch, const Masks& masks,
                       bool one_mask, fd::Completion completion, const test::Padded<>& before,
                       const test::Padded<>& after) {
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const std::vector<float> logits = batch.row(t);
    const Chosen token =
        completed(kind, logits, masks.of(one_mask ? 0 : t), completion, chosen_of(before, t));
    bool same = token == chosen_of(after, t) && before.status[t] == after.status[t];
    const bool repeats = after.padding == fd::Padding::repeat_valid;
    const std::int32_t best = before.status[t] != fd::TokenStatus::ok &&
                                      fd::has(before.status[t], fd::TokenStatus::no_finite_logit)
                                  ? 0
                                  : kind.order(logits)[0];
    for (std::ptrdiff_t i = after.counts[t]; i < after.capacity; ++i) {
      const std::ptrdiff_t place = t * after.capacity + i;
      same = same && after.experts[place] == (repeats ? best : -1) && after.weights[place] == 0.0F;
    }
    if (!same) {
      return "token " + std::to_string(t) + ": " + text_of(chosen_of(before, t)) + "became " +
             text_of(chosen_of(after, t)) + "expected " + text_of(token);
    }
  }
  return "";
}

std::vector<int> every_width() {
  std::vector<int> widths(130);
  std::iota(widths.begin(), widths.end(), 1);
  widths.push_back(256);
  widths.push_back(1024);
  return widths;
}

}  // namespace

TEST_CASE("a completed routing is the definition's, by any policy") {
  test::Random random(1601);
  std::int64_t added = 0;
  for (const int experts : every_width()) {
    const bool many = experts > 130;
    int number = -1;
    for (const Kind& kind : some_kinds(experts)) {
      ++number;
      const test::Batch batch = test::batch_of_every_kind(experts, 1, random);
      for (int repeat = 0; repeat < (many ? 1 : 2); ++repeat) {
        const Masks masks(experts, batch.tokens(), random);
        const bool one_mask = random.below(2) == 0;
        const fd::Completion completion = random_completion(experts, random);
        const auto padding =
            random.below(2) == 0 ? fd::Padding::minus_one : fd::Padding::repeat_valid;
        const int width = width_for(kind.router, completion) + random.below(2);
        const test::Padded<> before = routed_wide(kind.router, batch.view(), width, padding);
        test::Padded<> after = before;
        kind.router.complete(batch.view(),
                             one_mask ? fd::Residency(masks.words.data()) : masks.view(),
                             completion, after.view());
        CHECK(after.guards_intact());
        const std::string wrong =
            difference(kind, batch, masks, one_mask, completion, before, after);
        CHECK_MESSAGE(wrong == "", experts, " experts, window ", completion.window, ", max_k ",
                      completion.max_k, ", kind ", number);
        for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
          added += after.counts[t] - before.counts[t];
      }
    }
  }
  CHECK(added > 10'000);
}

TEST_CASE("softmax weights keep their mass, and are near the double-precision softmax") {
  test::Random random(1602);
  const fd::Router router(64, fd::TopK{3});
  const fd::Router renormalizing(64, fd::TopK{3}, fd::SoftmaxWeights{.renormalize = true});
  test::Batch batch{64};
  for (int i = 0; i < 200; ++i) batch.add(test::random_row(test::Rows::random, 64, random));
  const Masks masks(64, batch.tokens(), random);
  const fd::Completion completion{8, 8};
  const test::Padded<> before = routed_wide(router, batch.view(), 8);
  test::Padded<> after = before;
  router.complete(batch.view(), masks.view(), completion, after.view());
  test::Padded<> renormalized = routed_wide(renormalizing, batch.view(), 8);
  renormalizing.complete(batch.view(), masks.view(), completion, renormalized.view());
  int grown = 0;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
    const std::vector<float> logits = batch.row(t);
    const std::vector<double> exact = oracle::softmax(logits, 1.0);
    const Chosen token = chosen_of(after, t);
    const Chosen old = chosen_of(before, t);
    double mass = 0.0;
    for (std::size_t i = 0; i < token.experts.size(); ++i) {
      const double weight = exact[index(token.experts[i])];
      mass += weight;
      CHECK(oracle::ulps_between(token.weights[i], static_cast<float>(weight)) <= 4);
      if (i < old.experts.size()) CHECK(token.weights[i] == old.weights[i]);
    }
    const Chosen shared = chosen_of(renormalized, t);
    CHECK(shared.experts == token.experts);
    for (std::size_t i = 0; i < token.experts.size(); ++i) {
      const auto weight = static_cast<float>(exact[index(token.experts[i])] / mass);
      CHECK(oracle::ulps_between(shared.weights[i], weight) <= 4);
    }
    if (token.experts.size() > 3) ++grown;
  }
  CHECK(grown > 50);
}

TEST_CASE("with all experts resident, top-k completed to a window is top-k of the window") {
  test::Random random(1603);
  constexpr int experts = 64;
  const fd::ExpertSet all = [] {
    fd::ExpertSet set;
    for (int j = 0; j < experts; ++j) set.insert(j);
    return set;
  }();
  const std::vector<float> bias(experts, 0.125F);
  int compared = 0;
  for (const std::string& name : test::names_of_presets()) {
    const auto parsed = [&](int k) {
      return fd::parse_router(name + ":num_experts_per_tok=" + std::to_string(k), experts,
                              fd::ParseOptions<>{.selection_bias = bias});
    };
    std::vector<fd::AnyRouter> few;
    std::vector<fd::AnyRouter> more;
    try {
      few.push_back(parsed(2));
      more.push_back(parsed(6));
    } catch (const std::invalid_argument&) {
      continue;  // of one expert alone, or without the bias
    }
    const test::Batch batch = test::batch_of_every_kind(experts, 4, random);
    test::Padded<> completed = routed_wide(few[0], batch.view(), 6);
    few[0].complete(batch.view(), all, {6, 6}, completed.view());
    const test::Padded<> routed = routed_wide(more[0], batch.view(), 6);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      // Otherwise top-6 takes masked experts and NaN, too, which completion never adds.
      const std::vector<float> row = batch.row(t);
      const auto finite =
          std::count_if(row.begin(), row.end(), [](float x) { return std::isfinite(x); });
      if (finite == experts) CHECK_MESSAGE(chosen_of(completed, t) == chosen_of(routed, t), name);
    }
    ++compared;
  }
  CHECK(compared >= 8);
}

TEST_CASE("every policy that strings can name is completed by the definition") {
  test::Random random(1604);
  constexpr int experts = 64;
  std::vector<std::string> names = test::names_of_null_free_rules();
  for (const std::string& name : test::names_of_rules_of_p())
    names.push_back(name + ":null=normal");
  std::int64_t added = 0;
  for (const std::string& name : names) {
    const auto parsed = [&](const std::string& text) {
      return fd::parse_router(
          text + (text.find(':') == std::string::npos ? ":" : ",") + "min_k=1,max_k=4", experts);
    };
    const fd::AnyRouter router = parsed(name);
    const Kind kind{router,
                    [](const std::vector<float>& logits) {
                      const std::vector<int> order = oracle::order(logits);
                      return Ids(order.begin(), order.end());
                    },
                    [](const std::vector<float>& logits, int expert) {
                      return logits[index(expert)] > -test::infinity &&
                             std::any_of(logits.begin(), logits.end(),
                                         [](float x) { return std::isfinite(x); });
                    },
                    [](const std::vector<float>& logits, const Ids& ids) {
                      std::vector<float> weights(ids.size());
                      fd::SoftmaxWeights{}(logits, ids, weights);
                      return weights;
                    }};
    const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
    const Masks masks(experts, batch.tokens(), random);
    const test::Padded<> before = routed_wide(router, batch.view(), 9);
    test::Padded<> after = before;
    router.complete(batch.view(), masks.view(), {10, 9}, after.view());
    const std::string wrong = difference(kind, batch, masks, false, {10, 9}, before, after);
    CHECK_MESSAGE(wrong == "", router.policy());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) added += after.counts[t] - before.counts[t];
  }
  CHECK(added > 1000);
}

TEST_CASE("a token is completed alone as in a batch, in slices, and by threads") {
  test::Random random(1605);
  for (const int experts : {5, 64, 100, 300}) {
    for (const Kind& kind : some_kinds(experts)) {
      const test::Batch batch = test::batch_of_every_kind(experts, 4, random);
      const Masks masks(experts, batch.tokens(), random);
      const fd::Completion completion{8, 9};
      const int width = width_for(kind.router, completion);
      const test::Padded<> before = routed_wide(kind.router, batch.view(), width);
      test::Padded<> together = before;
      kind.router.complete(batch.view(), masks.view(), completion, together.view());
      for (const int slice : {1, 3, 16, 17}) {
        test::Padded<> sliced = before;
        for (std::ptrdiff_t t = 0; t < batch.tokens(); t += slice) {
          const std::ptrdiff_t n = std::min<std::ptrdiff_t>(slice, batch.tokens() - t);
          kind.router.complete(batch.view().slice(t, n), masks.view().from(t), completion,
                               sliced.view().from(t));
        }
        CHECK(sliced == together);
      }
      test::Padded<> threaded = before;
      kind.router.complete(fd::OpenMP{2}, batch.view(), masks.view(), completion, threaded.view());
      CHECK(threaded == together);
    }
  }
}

TEST_CASE("completing again adds nothing, and masks may come one after the other") {
  test::Random random(1606);
  for (const int experts : {5, 64, 100, 300}) {
    for (const Kind& kind : some_kinds(experts)) {
      const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
      const Masks first(experts, batch.tokens(), random);
      const Masks second(experts, batch.tokens(), random);
      Masks both = first;
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        for (int w = 0; w < fd::BitmaskView::words_per_token(experts); ++w)
          both.words[index(t * first.stride + w)] |= second.words[index(t * second.stride + w)];
      }
      const fd::Completion completion{8, experts};  // of two steps, max_k would bind the first
      const test::Padded<> before = routed_wide(kind.router, batch.view(), experts);
      test::Padded<> once = before;
      kind.router.complete(batch.view(), both.view(), completion, once.view());
      test::Padded<> twice = once;
      kind.router.complete(batch.view(), both.view(), completion, twice.view());
      CHECK(twice == once);
      test::Padded<> in_turn = before;
      kind.router.complete(batch.view(), first.view(), completion, in_turn.view());
      kind.router.complete(batch.view(), second.view(), completion, in_turn.view());
      CHECK(in_turn == once);
    }
  }
}

TEST_CASE("masked and skipped tokens of a batch, and logits at any stride") {
  test::Random random(1607);
  for (const int experts : {7, 64, 130}) {
    for (const Kind& kind : some_kinds(experts)) {
      const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
      const Masks allowed(experts, batch.tokens(), random);
      const Masks masks(experts, batch.tokens(), random);
      std::vector<float> columns(batch.logits.size());
      std::vector<float> masked = batch.logits;
      std::vector<std::uint8_t> skip;
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        skip.push_back(static_cast<std::uint8_t>(t % 5 == 3));
        const Mask may = allowed.of(t);
        for (int j = 0; j < experts; ++j) {
          columns[index(j * batch.tokens() + t)] = batch.logits[index(t * experts + j)];
          if (!may[index(j)]) masked[index(t * experts + j)] = -test::infinity;
        }
      }
      const fd::BatchView<float> view{
          columns.data(), batch.tokens(),       experts,        1,
          batch.tokens(), allowed.words.data(), allowed.stride, skip.data()};
      const fd::Completion completion{8, 8};
      const int width = width_for(kind.router, completion);
      const test::Padded<> before = routed_wide(kind.router, view, width);
      test::Padded<> after = before;
      kind.router.complete(view, masks.view(), completion, after.view());
      for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
        const std::vector<float> logits(masked.begin() + t * experts,
                                        masked.begin() + (t + 1) * experts);
        const Chosen old = chosen_of(before, t);
        const Chosen expected =
            skip[index(t)] != 0 ? old : completed(kind, logits, masks.of(t), completion, old);
        CHECK(chosen_of(after, t) == expected);
        for (const std::int32_t expert : chosen_of(after, t).experts)
          CHECK(allowed.of(t)[index(expert)]);
      }
    }
  }
}

TEST_CASE("logits of other types and ids of other types, by a Router and by an AnyRouter") {
  test::Random random(1608);
  const int experts = 70;
  const fd::Router router(experts, fd::TopK{2}, fd::SoftmaxWeights{.renormalize = true});
  const fd::AnyRouter any(router, "");
  const test::Batch batch = test::batch_of_every_kind(experts, 3, random);
  const std::vector<double> doubles(batch.logits.begin(), batch.logits.end());
  const fd::LogitsView wide(doubles.data(), batch.tokens(), experts);
  const Masks masks(experts, batch.tokens(), random);
  const fd::Completion completion{6, 5};
  test::Padded<> expected = routed_wide(router, batch.view(), 5);
  any.complete(batch.view(), masks.view(), completion, expected.view());
  const auto check = [&]<class Id>(Id, const auto& by, const auto& logits) {
    auto actual = routed_wide<Id>(router, logits, 5);
    by.complete(logits, masks.view(), completion, actual.view());
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
      CHECK(chosen_of(actual, t) == chosen_of(expected, t));
  };
  check(std::int32_t{}, router, batch.view());
  check(std::int64_t{}, router, batch.view());
  check(std::int16_t{}, router, batch.view());
  check(std::uint8_t{}, router, batch.view());
  check(std::int32_t{}, router, wide);
  check(std::int32_t{}, any, wide);
  check(std::int64_t{}, any, wide);
}

TEST_CASE("a completion's numbers are checked") {
  CHECK(test::rejection_of([] {
          fd::Completion{0, 8}.validate();
        }) == "Completion: window and max_k must be at least 1, got window 0, max_k 8");
  CHECK(test::rejection_of([] {
          fd::Completion{8, 0}.validate();
        }) == "Completion: window and max_k must be at least 1, got window 8, max_k 0");
  CHECK(test::rejection_of([] { fd::Completion{1, 1}.validate(); }) == "no error");
}
