#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/dispatch.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/group_limited.hpp"
#include "fdroute/rows.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

// Masks, skips, strides, row lists and routers by token, against an oracle that routes one token at
// a time by the plain call. FDROUTE_RANDOM_BATCHES says how many random batches; CI takes few.

namespace fd = fdroute;
using test::index;

namespace {

int random_batches() {
  const char* text = std::getenv("FDROUTE_RANDOM_BATCHES");
  return text == nullptr ? 300 : std::atoi(text);
}

/// Routers of several kinds over `experts`: kernels of each sort, and the definition alone.
std::vector<fd::AnyRouter> some_routers(int experts) {
  const int few = std::min(experts, 4);
  const fd::NormalNull null;
  std::vector<float> bias(index(experts));
  for (int j = 0; j < experts; ++j) bias[index(j)] = 0.1F * static_cast<float>(j % 5);
  std::vector<float> half_masked = bias;  // the upper half: a mask's experts may stand before
  for (int j = (experts + 1) / 2; j < experts; ++j) half_masked[index(j)] = -test::infinity;
  using Bounds = fd::ExpertBounds;
  const fd::SoftmaxWeights weights;
  const fd::SoftmaxWeights renormalized{.renormalize = true};
  return {
      {fd::Router(experts, fd::TopK{few}), ""},
      {fd::Router(experts, fd::TopK{experts}, renormalized), ""},
      {fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, null, weights, Bounds{0, few}),
       ""},
      {fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{}, null, renormalized,
                  Bounds{1}),
       ""},
      {fd::Router(experts, fd::RelativeThreshold{0.2}, weights, Bounds{1, few}), ""},
      {fd::Router(experts, fd::TopK{few}, weights, Bounds{}, fd::BySigmoid{bias}), ""},
      {fd::Router(experts, fd::TopK{few}, weights, Bounds{}, fd::BySigmoid{half_masked}), ""},
      {fd::Router(experts, fd::TopK{few}, weights, Bounds{},
                  fd::GroupLimited<fd::BySigmoid>{{half_masked}, experts % 4 == 0 ? 4 : 1, 1}),
       ""},
      {fd::Router(experts, fd::TopK{few}, weights, Bounds{},
                  fd::ByLogit{.ties = fd::TieOrder::highest_index}),
       ""},
  };
}

/// A token's routing as the tests compare it, in order of rank.
struct Token {
  std::vector<std::int32_t> experts{};
  std::vector<float> weights{};
  fd::TokenStatus status = fd::TokenStatus::ok;

  friend bool operator==(const Token& a, const Token& b) {
    return a.experts == b.experts && a.status == b.status && a.weights.size() == b.weights.size() &&
           (a.weights.empty() ||
            std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)) == 0);
  }
};

/// The definition of a mask: the logits of the others are -inf, and none of them is selected.
Token oracle(const fd::AnyRouter& router, std::vector<float> logits,
             const std::vector<bool>& allowed) {
  for (std::size_t j = 0; j < logits.size(); ++j)
    if (!allowed[j]) logits[j] = -test::infinity;
  std::vector<std::int32_t> experts(index(router.capacity()));
  std::vector<float> weights(experts.size());
  std::int32_t count = 0;
  Token token;
  token.status =
      router.route(fd::LogitsView(logits.data(), 1, router.experts()),
                   fd::RoutingView{experts.data(), weights.data(), &count, router.capacity()});
  for (std::size_t i = 0; i < index(count); ++i) {
    if (!allowed[index(experts[i])]) continue;
    token.experts.push_back(experts[i]);
    token.weights.push_back(weights[i]);
  }
  return token;
}

/// One random batch with everything that an engine may ask for, and what must come of it.
struct Case {
  int experts;
  std::ptrdiff_t tokens;
  std::vector<float> rows;                 // (tokens, experts)
  std::vector<std::vector<bool>> allowed;  // (tokens, experts)
  std::vector<std::uint64_t> masks;        // (tokens, words)
  std::vector<std::uint8_t> skip;          // (tokens)
  bool masked;
  bool skips;
  std::vector<float> memory{};  // with the strides of `batch`
  fd::BatchView<float> batch{nullptr, 0, 0, 0};

  Case(int n_experts, test::Random& random) : experts(n_experts), tokens(random.below(40)) {
    masked = random.below(4) != 0;
    skips = random.below(3) != 0;
    const int words = fd::BitmaskView::words_per_token(experts);
    const bool one_mask = random.below(4) == 0;
    masks.resize(index(std::max<std::ptrdiff_t>(tokens, 1) * words));
    const int density = random.below(3);
    for (auto& word : masks) {
      word = random.bits();
      if (density == 1) word |= random.bits() | random.bits();
      if (density == 2) word &= random.bits() & random.bits();
    }
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      const auto kind = test::every_kind[index(
          random.below(random.below(3) == 0 ? static_cast<int>(test::every_kind.size()) : 3))];
      const std::vector<float> row = test::random_row(kind, experts, random);
      rows.insert(rows.end(), row.begin(), row.end());
      std::vector<bool> may(index(experts), true);
      for (int j = 0; masked && j < experts; ++j) {
        const std::uint64_t word = masks[index((one_mask ? 0 : t * words) + j / 64)];
        may[index(j)] = (word >> (j % 64) & 1U) != 0;
      }
      allowed.push_back(may);
      skip.push_back(static_cast<std::uint8_t>(skips && random.below(3) == 0 ? 7 : 0));
    }
    const bool transposed = random.below(2) == 0;
    const std::ptrdiff_t gap = random.below(3);
    const std::ptrdiff_t stride = transposed ? 1 : experts + gap;
    const std::ptrdiff_t expert_stride = transposed ? tokens + gap : 1;
    memory.assign(index((tokens + gap) * (experts + gap)), test::nan);
    for (std::ptrdiff_t t = 0; t < tokens; ++t)
      for (std::ptrdiff_t j = 0; j < experts; ++j)
        memory[index(t * stride + j * expert_stride)] = rows[index(t * experts + j)];
    batch = {.data = memory.data(),
             .tokens = tokens,
             .experts = experts,
             .stride = stride,
             .expert_stride = expert_stride,
             .masks = masked ? masks.data() : nullptr,
             .mask_stride = one_mask ? 0 : words,
             .skip = skips ? skip.data() : nullptr};
  }

  std::vector<float> row(std::ptrdiff_t t) const {
    return {rows.begin() + t * experts, rows.begin() + (t + 1) * experts};
  }

  Token expected(const fd::AnyRouter& router, std::ptrdiff_t t) const {
    return skip[index(t)] != 0 ? Token{} : oracle(router, row(t), allowed[index(t)]);
  }
};

template <class Id>
Token token_of(const test::Padded<Id>& out, std::ptrdiff_t t) {
  Token token;
  for (std::ptrdiff_t i = t * out.capacity; i < t * out.capacity + out.counts[t]; ++i) {
    token.experts.push_back(static_cast<std::int32_t>(out.experts[i]));
    token.weights.push_back(out.weights[i]);
  }
  token.status = out.status[t];
  return token;
}

/// Whether the padding is `id`, with weight 0.
template <class Id>
bool padded_by(const test::Padded<Id>& out, std::ptrdiff_t t, Id id) {
  for (std::ptrdiff_t i = out.counts[t]; i < out.capacity; ++i) {
    const std::ptrdiff_t place = t * out.capacity + i;
    if (out.experts[place] != id || out.weights[place] != 0.0F) return false;
  }
  return true;
}

/// Every form of a batch's routing, by one router.
template <class AnyPolicy, class E>
int differences(const Case& c, const AnyPolicy& router, const fd::AnyRouter& plain, E execution) {
  int wrong = 0;
  const int capacity = router.capacity();
  test::Padded padded(c.tokens, capacity + 1);
  test::Padded<std::int64_t> repeated(c.tokens, capacity + 1, fd::Padding::repeat_valid);
  test::Csr csr(c.tokens, c.tokens * capacity);
  test::Guarded<float> dense(c.tokens * c.experts);
  test::Guarded<std::int32_t> dense_counts(c.tokens);
  const int words = fd::BitmaskView::words_per_token(c.experts);
  test::Guarded<std::uint64_t> bits(c.tokens * words);
  test::Guarded<std::int32_t> bit_counts(c.tokens);
  const fd::TokenStatus status = router.route(execution, c.batch, padded.view());
  router.route(execution, c.batch, repeated.view());
  router.route(execution, c.batch, csr.view());
  router.route(execution, c.batch, fd::DenseView{dense.data(), c.experts, dense_counts.data()});
  router.route(execution, c.batch, fd::BitmaskView{bits.data(), words, bit_counts.data()});

  fd::TokenStatus expected_status = fd::TokenStatus::ok;
  for (std::ptrdiff_t t = 0; t < c.tokens; ++t) {
    const Token expected = c.expected(plain, t);
    expected_status = expected_status | expected.status;
    const auto count = static_cast<std::int32_t>(expected.experts.size());
    wrong += static_cast<int>(!(token_of(padded, t) == expected));
    wrong += static_cast<int>(!padded_by(padded, t, -1));
    wrong += static_cast<int>(!(token_of(repeated, t) == expected));
    if (c.skip[index(t)] != 0) wrong += static_cast<int>(!padded_by(repeated, t, std::int64_t{0}));
    if (count > 0)
      wrong += static_cast<int>(!padded_by(repeated, t, std::int64_t{expected.experts[0]}));
    std::vector<float> weights(index(c.experts), 0.0F);
    std::vector<std::uint64_t> set(index(words), 0);
    for (std::size_t i = 0; i < index(count); ++i) {
      const std::int32_t e = expected.experts[i];
      weights[index(e)] = expected.weights[i];
      set[index(e / 64)] |= std::uint64_t{1} << (e % 64);
    }
    for (std::ptrdiff_t j = 0; j < c.experts; ++j)
      wrong += static_cast<int>(dense[t * c.experts + j] != weights[index(j)]);
    for (std::ptrdiff_t w = 0; w < words; ++w)
      wrong += static_cast<int>(bits[t * words + w] != set[index(w)]);
    wrong += static_cast<int>(dense_counts[t] != count || bit_counts[t] != count);
  }
  wrong += static_cast<int>(status != expected_status);
  test::Padded same_width(c.tokens, capacity);
  router.route(execution, c.batch, same_width.view());
  wrong += static_cast<int>(!difference(csr, same_width).empty());
  wrong += static_cast<int>(!padded.guards_intact() || !dense.guards_intact() ||
                            !bits.guards_intact() || !csr.guards_intact());
  return wrong;
}

constexpr int sizes[] = {1, 5, 8, 16, 37, 64, 70, 128};

}  // namespace

TEST_CASE("strides, masks and skips: random batches against the oracle") {
  test::Random random(131);
  int wrong = 0;
  std::vector<std::vector<fd::AnyRouter>> routers;
  for (const int experts : sizes) routers.push_back(some_routers(experts));
  for (int i = 0; i < random_batches(); ++i) {
    const std::size_t size = index(random.below(static_cast<int>(std::size(sizes))));
    const Case c(sizes[size], random);
    const auto& router = routers[size][index(random.below(static_cast<int>(routers[0].size())))];
    wrong += i % 8 == 0 ? differences(c, router, router, fd::OpenMP{2})
                        : differences(c, router, router, fd::serial);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a Router takes a batch as an AnyRouter does, of any type of logits") {
  test::Random random(132);
  const fd::Router router(64, fd::BenjaminiHochberg{0.3}, fd::LogSoftmax{}, fd::NormalNull{},
                          fd::SoftmaxWeights{}, fd::ExpertBounds{1, 8});
  const fd::AnyRouter any(router, "");
  for (int i = 0; i < 30; ++i) {
    const Case c(64, random);
    CHECK(differences(c, router, any, fd::serial) == 0);
    const std::vector<double> doubles(c.memory.begin(), c.memory.end());
    const fd::BatchView<double> batch{
        doubles.data(),      c.tokens,    64, c.batch.stride, c.batch.expert_stride, c.batch.masks,
        c.batch.mask_stride, c.batch.skip};
    test::Padded floats(c.tokens, 8);
    test::Padded wide(c.tokens, 8);
    any.route(c.batch, floats.view());
    any.route(batch, wide.view());
    CHECK(floats == wide);
  }
}

TEST_CASE("row lists: each token by the router that lists it, other rows untouched") {
  test::Random random(133);
  int wrong = 0;
  std::vector<std::vector<fd::AnyRouter>> routers;
  for (const int experts : sizes) routers.push_back(some_routers(experts));
  for (int i = 0; i < random_batches(); ++i) {
    const std::size_t size = index(random.below(static_cast<int>(std::size(sizes))));
    const Case c(sizes[size], random);
    const std::vector<fd::AnyRouter>& of_layer = routers[size];
    const int n = static_cast<int>(of_layer.size());
    std::vector<std::int32_t> router_of;
    for (std::ptrdiff_t t = 0; t < c.tokens; ++t)
      router_of.push_back(t > 0 && random.below(2) == 0 ? router_of.back() : random.below(n));
    int capacity = 1;
    for (const fd::AnyRouter& router : of_layer) capacity = std::max(capacity, router.capacity());

    test::Padded each(c.tokens, capacity);
    const std::span<const fd::AnyRouter> span(of_layer);
    const fd::TokenStatus status =
        i % 8 == 0 ? fd::route_each(fd::OpenMP{2}, span, router_of, c.batch, each.view())
                   : fd::route_each(span, router_of, c.batch, each.view());
    test::Padded listed(c.tokens, capacity);
    fd::TokenStatus listed_status = fd::TokenStatus::ok;
    for (int r = 0; r < n; ++r) {
      std::vector<std::int32_t> rows;
      for (std::ptrdiff_t t = 0; t < c.tokens; ++t)
        if (router_of[index(t)] == r) rows.push_back(static_cast<std::int32_t>(t));
      if (random.below(2) == 0) random.shuffle(rows);
      listed_status =
          listed_status |
          (i % 8 == 0 ? fd::route_rows(fd::OpenMP{2}, span[index(r)], rows, c.batch, listed.view())
                      : fd::route_rows(span[index(r)], rows, c.batch, listed.view()));
    }
    fd::TokenStatus expected_status = fd::TokenStatus::ok;
    for (std::ptrdiff_t t = 0; t < c.tokens; ++t) {
      const Token expected = c.expected(of_layer[index(router_of[index(t)])], t);
      expected_status = expected_status | expected.status;
      wrong += static_cast<int>(!(token_of(each, t) == expected) || !padded_by(each, t, -1));
      wrong += static_cast<int>(!(token_of(listed, t) == expected) || !padded_by(listed, t, -1));
    }
    wrong += static_cast<int>(status != expected_status || listed_status != expected_status);
    wrong += static_cast<int>(!each.guards_intact() || !listed.guards_intact());
  }
  CHECK(wrong == 0);

  // The rows that no list names keep what they held.
  const fd::AnyRouter top(fd::Router(4, fd::TopK{2}), "");
  const std::vector<float> logits(20, 1.0F);
  const fd::LogitsView view(logits.data(), 5, 4);
  test::Padded untouched(5, 2);
  test::Padded some(5, 2);
  const std::vector<std::int32_t> rows{3, 1};
  fd::route_rows(top, rows, view, some.view());
  for (const std::ptrdiff_t t : {0, 2, 4}) {
    CHECK(some.counts[t] == untouched.counts[t]);
    CHECK(some.experts[2 * t] == untouched.experts[0]);
  }
  for (const std::ptrdiff_t t : {1, 3}) CHECK(some.counts[t] == 2);
}

namespace {

/// A pool that counts: neither copied nor const.
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  template <class Body>
  fd::TokenStatus for_each(std::ptrdiff_t n, const Body& body) noexcept {
    jobs += n;
    fd::TokenStatus status = fd::TokenStatus::ok;
    while (n > 0) status = status | body(--n);
    return status;
  }

  std::ptrdiff_t jobs = 0;
};

}  // namespace

TEST_CASE("a pool of one's own is an execution by reference") {
  test::Random random(134);
  const test::Batch batch = test::batch_of_every_kind(64, 5, random);
  const fd::AnyRouter router(fd::Router(64, fd::TopK{4}), "");
  Pool pool;
  test::Padded by_pool(batch.tokens(), 4);
  router.route(fd::ByReference{pool}, batch.view(), by_pool.view());
  CHECK(pool.jobs == (batch.tokens() + 15) / 16);
  CHECK(by_pool == test::routed(router, batch.view()));
}

TEST_CASE("capacity limits, expert ranges, executions and CSR: random plans against the oracle") {
  test::Random random(135);
  int wrong = 0;
  fd::DispatchPlan plan;
  fd::DispatchPlan reserved;
  reserved.reserve(1500, 1500 * 6, 40);
  Pool pool;
  for (int i = 0; i < random_batches(); ++i) {
    const int experts = 1 + random.below(40);
    const bool large = i % 64 == 0;  // several parts of tokens
    const std::ptrdiff_t tokens = large ? 512 + random.below(900) : random.below(30);
    const int capacity = std::min(experts, 6);
    std::vector<std::int32_t> ids(index(tokens * capacity), -1);
    std::vector<float> weights(ids.size());
    std::vector<std::int32_t> counts;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> csr_ids;
    std::vector<float> csr_weights;
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      std::vector<std::int32_t> order;
      for (int e = 0; e < experts; ++e) order.push_back(e);
      random.shuffle(order);
      counts.push_back(random.below(capacity + 1));
      for (std::ptrdiff_t k = 0; k < counts.back(); ++k) {
        ids[index(t * capacity + k)] = order[index(k)];
        weights[index(t * capacity + k)] = static_cast<float>(random.below(6));
        csr_ids.push_back(order[index(k)]);
        csr_weights.push_back(weights[index(t * capacity + k)]);
      }
      offsets.push_back(static_cast<std::int64_t>(csr_ids.size()));
    }
    fd::DispatchLimits limits;
    if (random.below(2) == 0) {
      limits.first = random.below(experts + 1);
      limits.end = limits.first + random.below(experts + 3);
    }
    if (random.below(3) != 0)
      limits.capacity = random.below(large ? 300 : 1 + static_cast<int>(tokens));
    limits.drop = random.below(2) == 0 ? fd::Drop::last : fd::Drop::lowest_weight;
    const fd::RoutingView padded{ids.data(), weights.data(), counts.data(), capacity};
    const fd::CsrView csr{offsets.data(), csr_ids.data(), csr_weights.data()};

    // The oracle: an expert's assignments by token; of too many, those that are wanted least go.
    using Dropped = fd::DispatchPlan::Dropped;
    std::vector<std::vector<Dropped>> kept_of(index(experts));
    std::vector<Dropped> dropped;
    for (int e = limits.first; e < std::min(experts, limits.end); ++e) {
      std::vector<Dropped>& kept = kept_of[index(e)];
      for (std::ptrdiff_t t = 0; t < tokens; ++t)
        for (std::ptrdiff_t k = 0; k < counts[index(t)]; ++k)
          if (ids[index(t * capacity + k)] == e)
            kept.push_back({static_cast<std::int32_t>(t), e, weights[index(t * capacity + k)]});
      std::vector<Dropped> gone;
      while (static_cast<std::int64_t>(kept.size()) > limits.capacity) {
        std::size_t least = kept.size() - 1;
        for (std::size_t a = kept.size(); limits.drop == fd::Drop::lowest_weight && a-- > 0;)
          if (kept[a].weight < kept[least].weight) least = a;
        gone.push_back(kept[least]);
        kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(least));
      }
      std::sort(gone.begin(), gone.end(),
                [](const Dropped& a, const Dropped& b) { return a.token < b.token; });
      dropped.insert(dropped.end(), gone.begin(), gone.end());
    }

    const auto check = [&](const fd::DispatchPlan& made) {
      std::vector<std::vector<std::size_t>> of_token(index(tokens));
      const auto n = made.offsets().size() - 1;
      wrong += static_cast<int>(made.first_expert() != limits.first);
      wrong +=
          static_cast<int>(n != index(std::max(0, std::min(experts, limits.end) - limits.first)));
      std::size_t a = 0;
      for (std::size_t e = 0; e < n; ++e) {
        wrong += static_cast<int>(made.offsets()[e] != a);
        for (const Dropped& one : kept_of[e + index(limits.first)]) {
          if (a >= made.tokens().size()) return void(++wrong);
          wrong +=
              static_cast<int>(made.tokens()[a] != one.token || made.weights()[a] != one.weight);
          of_token[index(one.token)].push_back(a++);
        }
      }
      wrong += static_cast<int>(made.offsets()[n] != a || made.tokens().size() != a ||
                                made.weights().size() != a);
      wrong += static_cast<int>(!std::ranges::equal(made.dropped(), dropped));
      for (std::ptrdiff_t t = 0; t < tokens; ++t)
        wrong += static_cast<int>(!std::ranges::equal(made.assignments_of(t), of_token[index(t)]));
    };
    plan.build(padded, tokens, experts, limits);
    check(plan);
    plan.build(fd::OpenMP{2}, csr, tokens, experts, limits);
    check(plan);
    wrong += static_cast<int>(reserved.build_reserved(fd::ByReference{pool}, padded, tokens,
                                                      experts, limits) != fd::DispatchStatus::ok);
    check(reserved);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a reserved build says what it cannot take") {
  using Status = fd::DispatchStatus;
  fd::DispatchPlan plan;
  std::vector<std::int32_t> ids{0, 3, 1, -1};
  std::vector<float> weights(4, 0.5F);
  std::vector<std::int32_t> counts{2, 1};
  const fd::RoutingView routing{ids.data(), weights.data(), counts.data(), 2};
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4) == Status::no_room);
  CHECK(plan.tokens().empty());
  plan.reserve(2, 2, 4);
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4) == Status::no_room);
  plan.reserve(2, 3, 4);
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4) == Status::ok);
  CHECK(plan.tokens().size() == 3);
  CHECK(plan.build_reserved(fd::serial, routing, 2, 3) == Status::bad_id);
  CHECK(plan.tokens().empty());
  CHECK(plan.build_reserved(fd::serial, routing, -1, 4) == Status::bad_extent);
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4, {.first = 3, .end = 2}) ==
        Status::bad_extent);
  counts[0] = 3;
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4) == Status::bad_count);
  counts[0] = -1;
  CHECK(plan.build_reserved(fd::serial, routing, 2, 4) == Status::bad_count);
  std::vector<std::int64_t> offsets{0, 2, 1};
  const fd::CsrView csr{offsets.data(), ids.data(), weights.data()};
  CHECK(plan.build_reserved(fd::serial, csr, 2, 4) == Status::bad_count);
  CHECK(test::rejection_of([&] { plan.build(csr, 2, 4); }) ==
        "DispatchPlan: token 1 owns places 2 up to 1");
  CHECK(test::rejection_of([&] { plan.build(routing, 0, 4, {.capacity = -1}); }) ==
        "DispatchPlan: limits.capacity must be at least 0, got -1");
  CHECK(test::rejection_of([&] { plan.build(routing, 0, 4, {.first = 3, .end = 2}); }) ==
        "DispatchPlan: 0 <= limits.first <= limits.end must hold, got 3 and 2");

  // Room for many tokens is none for more experts, and neither is room for both, but not at once.
  std::vector<std::int32_t> no_counts(1000);
  const fd::RoutingView unassigned{ids.data(), weights.data(), no_counts.data(), 2};
  fd::DispatchPlan other;
  other.reserve(1000, 3, 4);
  CHECK(other.build_reserved(fd::serial, unassigned, 1000, 4) == Status::ok);
  CHECK(other.build_reserved(fd::serial, unassigned, 1000, 5) == Status::no_room);
  other.reserve(2, 3, 40);
  CHECK(other.build_reserved(fd::serial, unassigned, 1000, 40) == Status::ok);
  CHECK(other.build_reserved(fd::OpenMP{2}, unassigned, 1000, 40) == Status::no_room);
}

namespace {

/// A bfloat16 of an engine: rounds to nearest, ties to even.
struct Bf16 {
  std::uint16_t bits = 0;
  Bf16() = default;
  explicit Bf16(float x) {
    std::uint32_t u = 0;
    std::memcpy(&u, &x, 4);
    bits = static_cast<std::uint16_t>((u + 0x7FFFU + (u >> 16 & 1U)) >> 16);
  }
  explicit operator float() const {
    const std::uint32_t u = std::uint32_t{bits} << 16;
    float x = 0.0F;
    std::memcpy(&x, &u, 4);
    return x;
  }
};

}  // namespace

TEST_CASE("combine of 16-bit rows sums in float and rounds once") {
  test::Random random(136);
  constexpr std::size_t width = 300;  // more than one piece
  std::vector<std::int32_t> ids{2, 0, 1};
  std::vector<float> weights{0.3F, 0.7F, 0.2F};
  std::int32_t count = 3;
  fd::DispatchPlan plan;
  plan.build(fd::RoutingView{ids.data(), weights.data(), &count, 3}, 1, 3);
  std::vector<Bf16> rows;
  std::vector<float> floats;
  for (std::size_t i = 0; i < 3 * width; ++i) {
    rows.emplace_back(random.normal());
    floats.push_back(static_cast<float>(rows.back()));
  }
  std::vector<Bf16> out(width);
  std::vector<float> expected(width);
  fd::combine(plan, 0, rows.data(), out.data(), width);
  fd::combine(plan, 0, floats.data(), expected);
  int wrong = 0;
  for (std::size_t i = 0; i < width; ++i)
    wrong += static_cast<int>(out[i].bits != Bf16(expected[i]).bits);
  CHECK(wrong == 0);
}
