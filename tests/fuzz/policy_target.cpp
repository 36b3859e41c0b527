// fdroute/parse.hpp: any policy string over any null, and rows of any bits. The router's policy()
// makes the router again; ids are in range and differ, no weight is NaN, padding is right, and all
// forms of output agree.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fdroute/compile_once.hpp>
#include "fuzz/fuzz.hpp"

namespace policy_target {

namespace fd = fdroute;

/// What a string may ask for beside itself.
struct Given {
  fd::TabulatedNull table;
  std::vector<fd::TabulatedNull> per_expert;
  fd::ConformalNull conformal;
  std::vector<float> bias;
  std::vector<double> prior;

  Given(const std::string& score, int experts)
      : table(fd::TabulatedNull::from_log_survival({-3.0, 0.0, 1.0, 4.0}, {-0.01, -0.7, -2.0, -9.0},
                                                   {.score = score})),
        per_expert(static_cast<std::size_t>(experts), table),
        conformal({-2.0, -1.0, -1.0, 0.0, 0.5, 2.0}, {.score = score}) {
    for (int j = 0; j < experts; ++j) {
      bias.push_back(j % 7 == 3 ? -std::numeric_limits<float>::infinity()
                                : static_cast<float>(j % 5) * 0.1F);
      prior.push_back(experts > 1 && j == 0 ? 0.0 : experts > 1 ? experts / (experts - 1.0) : 1.0);
    }
  }
};

struct Routed {
  std::vector<std::int32_t> experts, counts;
  std::vector<float> weights;
  std::vector<fd::TokenStatus> status;

  Routed(const fd::AnyRouter& router, fd::LogitsView<float> rows, fd::Padding padding)
      : experts(static_cast<std::size_t>(rows.tokens * router.capacity())),
        counts(static_cast<std::size_t>(rows.tokens)),
        weights(experts.size()),
        status(counts.size()) {
    router.route(rows, fd::RoutingView{experts.data(), weights.data(), counts.data(),
                                       router.capacity(), padding, status.data()});
  }

  bool operator==(const Routed& other) const {
    return experts == other.experts && counts == other.counts && status == other.status &&
           std::memcmp(weights.data(), other.weights.data(), weights.size() * sizeof(float)) == 0;
  }
};

void check_token(const Routed& routed, std::size_t token, const fd::AnyRouter& router,
                 fd::Padding padding) {
  const auto capacity = static_cast<std::size_t>(router.capacity());
  const std::size_t first = token * capacity;
  const std::int32_t count = routed.counts[token];
  fuzz::require(count >= 0 && count <= router.capacity(), "a count is at most the capacity");
  std::set<std::int32_t> ids;
  for (std::size_t i = 0; i < capacity; ++i) {
    const std::int32_t id = routed.experts[first + i];
    const float weight = routed.weights[first + i];
    fuzz::require(!std::isnan(weight), "no weight is NaN");
    if (i < static_cast<std::size_t>(count)) {
      fuzz::require(id >= 0 && id < router.experts() && ids.insert(id).second,
                    "ids are in range and differ");
    } else {
      const std::int32_t filler = padding == fd::Padding::minus_one ? -1
                                  : count > 0                       ? routed.experts[first]
                                                                    : id;
      fuzz::require(id == filler && weight == 0.0F, "padding is an id and weight 0");
    }
  }
}

void check_forms(const fd::AnyRouter& router, fd::LogitsView<float> rows, const Routed& padded) {
  const auto tokens = static_cast<std::size_t>(rows.tokens);
  const auto experts = static_cast<std::size_t>(router.experts());
  const auto capacity = static_cast<std::size_t>(router.capacity());
  std::vector<std::int64_t> offsets(tokens + 1);
  std::vector<std::int64_t> ids(tokens * capacity);
  std::vector<float> weights(tokens * capacity), dense(tokens * experts);
  router.route(rows, fd::CsrView<std::int64_t>{offsets.data(), ids.data(), weights.data()});
  router.route(rows, fd::DenseView{dense.data(), router.experts()});
  std::vector<float> expected(tokens * experts);
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto count = static_cast<std::size_t>(padded.counts[t]);
    fuzz::require(static_cast<std::size_t>(offsets[t + 1] - offsets[t]) == count, "CSR's counts");
    for (std::size_t i = 0; i < count; ++i) {
      const auto place = static_cast<std::size_t>(offsets[t]) + i;
      const std::int32_t id = padded.experts[t * capacity + i];
      const float weight = padded.weights[t * capacity + i];
      fuzz::require(ids[place] == id && std::memcmp(&weights[place], &weight, sizeof weight) == 0,
                    "CSR is the padded routing");
      expected[t * experts + static_cast<std::size_t>(id)] = weight;
    }
  }
  fuzz::require(expected == dense, "dense weights are the padded ones");
}

}  // namespace policy_target

FUZZ_TARGET(policy) {
  namespace target = policy_target;
  namespace fd = fdroute;
  constexpr int most_experts = 80;
  fuzz::Source source(input);
  const int flags = source.byte();
  const int experts = source.byte() % most_experts + 1;
  const std::string text(source.until('\0'));

  const char* const scores[] = {"logit", "log_softmax", "zscore", "logit"};
  const target::Given given(scores[flags & 3], experts);
  fd::ParseOptions<> options;
  if (flags & 4) options.null = &given.table;
  if (flags & 8) options.conformal = &given.conformal;
  if (flags & 16) options.expert_nulls = given.per_expert;
  if (flags & 32) options.selection_bias = given.bias;
  if (flags & 64) options.prior = given.prior;
  const fd::Padding padding = flags & 128 ? fd::Padding::repeat_valid : fd::Padding::minus_one;
  try {
    const fd::AnyRouter router = fd::parse_router(text, experts, options);
    fuzz::require(
        router.experts() == experts && router.capacity() >= 1 && router.capacity() <= experts,
        "a capacity is 1 to all experts");
    const fd::AnyRouter again = fd::parse_router(router.policy(), experts, options);
    fuzz::require(again.policy() == router.policy(), "policy() is its own policy()");

    std::vector<float> logits;
    while (!source.empty() || logits.empty()) logits.push_back(source.number<float>());
    const std::size_t tokens = (logits.size() - 1) / static_cast<std::size_t>(experts) + 1;
    for (std::size_t i = 0; logits.size() < tokens * static_cast<std::size_t>(experts); ++i)
      logits.push_back(logits[i]);
    const fd::LogitsView<float> rows{logits.data(), static_cast<std::ptrdiff_t>(tokens), experts};
    const target::Routed routed(router, rows, padding);
    for (std::size_t t = 0; t < tokens; ++t) target::check_token(routed, t, router, padding);
    fuzz::require(target::Routed(again, rows, padding) == routed, "the router again routes alike");
    target::check_forms(router, rows, routed);
    const fd::LogitsView<float> last{
        logits.data() + (tokens - 1) * static_cast<std::size_t>(experts), 1, experts};
    const target::Routed alone(router, last, padding);
    const auto capacity = static_cast<std::ptrdiff_t>(router.capacity());
    fuzz::require(alone.counts[0] == routed.counts.back() &&
                      std::equal(alone.experts.begin(), alone.experts.end(),
                                 routed.experts.end() - capacity) &&
                      std::memcmp(alone.weights.data(), &*(routed.weights.end() - capacity),
                                  alone.weights.size() * sizeof(float)) == 0,
                  "a token alone is routed as in its batch");
  } catch (const std::invalid_argument& error) {
    // A message quotes the string, and lists what is accepted.
    fuzz::require(fuzz::is_message(error.what(), 4000), error.what());
  }
}
