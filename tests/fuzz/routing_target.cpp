// Routing against the written definition (tests/library/oracle.hpp): random policies over random
// rows, in batches, in slices and in every form, of float and bfloat16, and, in builds for
// libFuzzer, by any vector instruction set that this machine has.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fdroute/compile_once.hpp>
#include "fuzz/fuzz.hpp"
#include "library/rule_oracle.hpp"
#include "library/support.hpp"

namespace routing_target {

/// The upper half of a float.
struct BFloat16 {
  std::uint16_t bits = 0;

  explicit operator float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace routing_target

template <>
inline constexpr auto fdroute::logit_format<routing_target::BFloat16> =
    fdroute::LogitFormat::bfloat16;

// parse_router() as routing_arch.cpp compiles it for other instruction sets.
#ifdef FDROUTE_FUZZ_ARCHS
namespace fuzz {
fdroute::AnyRouter make_router_avx2(std::string_view policy, int experts,
                                    const fdroute::TabulatedNull& null);
fdroute::AnyRouter make_router_avx512(std::string_view policy, int experts,
                                      const fdroute::TabulatedNull& null);
}  // namespace fuzz
#endif

namespace routing_target {

namespace fd = fdroute;
using PValues = std::vector<double>;

std::string text(double value) {
  return fd::detail::to_text(value);
}

/// The counts that rounding may leave a token: a single one for nearly all tokens.
struct Counts {
  int low;
  int high;
};

/// A policy as a string and as the definition has it.
struct Policy {
  std::string string;
  std::function<Counts(const oracle::Row&)> rejections;
  oracle::Bounds bounds;
  oracle::Softmax weights;
};

Counts between(int a, int b) {
  return {std::min(a, b), std::max(a, b)};
}

double alpha_of(test::Random& random) {
  constexpr std::array round{0.05, 0.1, 0.2, 0.25, 0.5};
  return random.below(2) == 0 ? round[static_cast<std::size_t>(random.below(5))]
                              : 0.001 + 0.99 * random.uniform();
}

/// Rules that read logits: their counts grow or fall with the setting, which rounding may move.
void draw_rule_of_logits(test::Random& random, Policy& policy, int experts) {
  const auto by_probability = [&](const char* name, auto count) {
    const double t = random.uniform() * 0.98 + 0.01;
    policy.string = name + text(t);
    policy.rejections = [t, count](const oracle::Row& row) {
      std::vector<double> probabilities = oracle::softmax(row, 1.0);
      std::sort(probabilities.rbegin(), probabilities.rend());
      return between(count(probabilities, t * (1 - 1e-12)), count(probabilities, t * (1 + 1e-12)));
    };
  };
  switch (random.below(4)) {
    case 0:
      return by_probability("top_p:p=", oracle::top_p);
    case 1:
      return by_probability("relative:t=", oracle::relative_threshold);
    case 2:
      return by_probability("threshold:t=", oracle::absolute_threshold);
    default: {
      const int k = random.below(std::min(experts, 20)) + 1;
      policy.string = "topk:k=" + std::to_string(k);
      policy.rejections = [k](const oracle::Row& row) {
        const int count = std::min(k, static_cast<int>(row.size()));
        return Counts{count, count};
      };
    }
  }
}

/// A rule of p-values: its string but for null and bounds, and its definition.
std::pair<std::string, std::function<int(const PValues&)>> rule_of_p(test::Random& random) {
  const double alpha = alpha_of(random);
  const auto named = [&](const char* name, int (*count)(const PValues&, double)) {
    return std::pair(
        name + (":alpha=" + text(alpha)),
        std::function<int(const PValues&)>([=](const PValues& p) { return count(p, alpha); }));
  };
  switch (random.below(13)) {
    case 0:
      return named("bonferroni", oracle::bonferroni);
    case 1:
      return named("sidak", oracle::sidak);
    case 2:
      return named("holm", oracle::holm);
    case 3:
      return named("hochberg", oracle::hochberg);
    case 4:
      return named("hommel", oracle::hommel);
    case 5:
      return named("by", oracle::benjamini_yekutieli);
    case 6:
      return named("bky", oracle::two_stage);
    case 7:
      return named("lfdr", oracle::local_fdr);
    case 8: {
      const double kappa = 0.05 + 0.9 * random.uniform();
      return {"ebh:alpha=" + text(alpha) + ",kappa=" + text(kappa),
              [=](const PValues& p) { return oracle::ebh(p, alpha, kappa); }};
    }
    case 9: {
      const double lambda = 0.05 + 0.9 * random.uniform();
      return {"storey:alpha=" + text(alpha) + ",lambda=" + text(lambda),
              [=](const PValues& p) { return oracle::storey(p, alpha, lambda); }};
    }
    case 10: {
      const double search = 0.05 + 0.9 * random.uniform();
      return {"hc:search=" + text(search), [=](const PValues& p) {
                return oracle::argmax_deviation(p, search, 0.0, oracle::higher_criticism_of_rank);
              }};
    }
    case 11: {
      const double search = 0.05 + 0.9 * random.uniform();
      return {"bj:search=" + text(search), [=](const PValues& p) {
                return oracle::argmax_deviation(p, search, 0.0, oracle::berk_jones);
              }};
    }
    default:
      return named("bh", oracle::benjamini_hochberg);
  }
}

void draw_rule_of_p(test::Random& random, Policy& policy, oracle::Score table_score) {
  auto [rule, count] = rule_of_p(random);
  constexpr std::array names{"logit", "log_softmax", "zscore"};
  oracle::Score score = table_score;
  oracle::Null null;
  const double a = std::round(8.0 * (2.0 * random.uniform() - 1.0)) / 4.0;
  const double b = 0.25 + std::round(16.0 * random.uniform()) / 8.0;
  switch (random.below(3)) {
    case 0:
      null = [](double at) {
        return oracle::log_survival_table({-3.0, 0.0, 1.0, 4.0}, {-0.01, -0.7, -2.0, -9.0}, at);
      };
      rule += ",null=tabulated";
      break;
    case 1:
      score = static_cast<oracle::Score>(random.below(3));
      null = [=](double at) { return oracle::normal_survival(at, a, b); };
      rule += ",null=normal,mean=" + text(a) + ",sd=" + text(b);
      break;
    default:
      score = static_cast<oracle::Score>(random.below(3));
      null = [=](double at) {
        const double x = (at - a) / b;
        return x > 0.0 ? std::exp(-x) / (1.0 + std::exp(-x)) : 1.0 / (1.0 + std::exp(x));
      };
      rule += ",null=logistic,location=" + text(a) + ",scale=" + text(b);
  }
  policy.string = rule + ",score=" + names[static_cast<std::size_t>(score)];
  const bool monotone =
      !rule.starts_with("lfdr") && !rule.starts_with("hc") && !rule.starts_with("bj");
  policy.rejections = [=, count = std::move(count)](const oracle::Row& row) {
    if (oracle::finite_values(row).empty()) return Counts{0, 0};
    const oracle::Map map = oracle::score_map(score, row);
    const std::vector<float> scores = oracle::scores(score, row);
    // Shift, scale and exponentials may differ from the definition's by a few units in the last
    // place.
    const auto moved = [&](double sign) {
      PValues p;
      for (const float s : scores) {
        const auto x = static_cast<double>(s);
        const double error =
            score == oracle::Score::logit
                ? 0.0
                : 4e-7 *
                      (std::abs(static_cast<double>(map.shift) * static_cast<double>(map.scale)) +
                       std::abs(x));
        const bool ordinary = !std::isnan(s) && s != -oracle::infinity;
        const double at = std::isfinite(s) ? x + sign * error : x;
        p.push_back(ordinary ? std::min(1.0, null(at) * (1.0 - sign * 1e-11)) : 1.0);
      }
      std::sort(p.begin(), p.end());
      return count(p);
    };
    const Counts counts = between(moved(-1.0), moved(1.0));
    const int written = count(oracle::sorted_p_values(scores, null));
    // Of a rule that is not monotone, all can be said where rounding leaves one count.
    if (!monotone && (counts.low != counts.high || counts.low != written))
      return Counts{0, static_cast<int>(row.size())};
    return counts;
  };
}

Policy draw_policy(test::Random& random, int experts, oracle::Score table_score) {
  Policy policy;
  if (random.below(3) == 0) {
    draw_rule_of_logits(random, policy, experts);
  } else {
    draw_rule_of_p(random, policy, table_score);
  }
  if (random.below(2) == 0) {
    policy.bounds.min_k = random.below(std::min(experts, 6)) + 1;
    policy.bounds.max_k = policy.bounds.min_k + random.below(experts);
    policy.bounds.max_k = std::min(policy.bounds.max_k, experts);
    policy.string += ",min_k=" + std::to_string(policy.bounds.min_k) +
                     ",max_k=" + std::to_string(policy.bounds.max_k);
  }
  policy.weights.renormalize = random.below(2) == 0;
  policy.string += policy.weights.renormalize ? ",renormalize=true" : ",renormalize=false";
  if (random.below(3) == 0) {
    policy.weights.temperature = 0.25 + std::round(16.0 * random.uniform()) / 8.0;
    policy.string += ",temperature=" + text(policy.weights.temperature);
  }
  return policy;
}

using MakeRouter = fd::AnyRouter (*)(std::string_view policy, int experts,
                                     const fd::TabulatedNull& null);

/// The instruction sets that this machine has, of those that this program was compiled for.
std::vector<std::pair<const char*, MakeRouter>> archs() {
  std::vector<std::pair<const char*, MakeRouter>> all{
      {"default", [](std::string_view policy, int experts, const fd::TabulatedNull& null) {
         return fd::parse_router(policy, experts, null);
       }}};
#ifdef FDROUTE_FUZZ_ARCHS
  if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0)
    all.emplace_back("avx2", fuzz::make_router_avx2);
  if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0)
    all.emplace_back("avx512", fuzz::make_router_avx512);
#endif
  return all;
}

/// Cuts floats to the values that bfloat16 has. A NaN stays one.
std::vector<BFloat16> to_bfloat16(std::vector<float>& values) {
  std::vector<BFloat16> cut;
  for (float& x : values) {
    constexpr std::uint16_t quiet_nan = 0x7FC0;
    cut.push_back({std::isnan(x)
                       ? quiet_nan
                       : static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16)});
    x = static_cast<float>(cut.back());
  }
  return cut;
}

void check_token(const Policy& policy, const test::Padded<>& out, std::ptrdiff_t token,
                 const oracle::Row& row) {
  const Counts counts = policy.rejections(row);
  std::string fault = "no count is right";
  for (int count = counts.low; count <= counts.high && !fault.empty(); ++count) {
    const oracle::Token expected = oracle::route(row, count, policy.bounds, policy.weights);
    if (static_cast<int>(expected.experts.size()) == out.counts[token] || count == counts.high)
      fault = test::difference(expected, out, token, row);
  }
  if (fault.empty()) return;
  std::string values;
  for (const float x : row) values += " " + fd::detail::to_text(x);
  fuzz::require(false, policy.string + ": " + fault + "; the logits are" + values);
}

/// Slices of any length, each routed on its own, are the batch bit for bit.
void check_slices(const fd::AnyRouter& router, fd::LogitsView<float> rows,
                  const test::Padded<>& whole, test::Random& random) {
  test::Padded<> sliced(rows.tokens, router.capacity(), whole.padding);
  for (std::ptrdiff_t first = 0; first < rows.tokens;) {
    const std::ptrdiff_t n = std::min<std::ptrdiff_t>(rows.tokens - first, 1 + random.below(17));
    router.route(rows.slice(first, n), sliced.view().from(first));
    first += n;
  }
  fuzz::require(sliced == whole, "slices are the batch");
}

void check_dense(const fd::AnyRouter& router, fd::LogitsView<float> rows,
                 const test::Padded<>& whole) {
  std::vector<float> dense(static_cast<std::size_t>(rows.tokens * router.experts()), -1.0F);
  std::vector<float> expected(dense.size(), 0.0F);
  router.route(rows, fd::DenseView{dense.data(), router.experts()});
  for (std::ptrdiff_t t = 0; t < rows.tokens; ++t) {
    for (int i = 0; i < whole.counts[t]; ++i) {
      const std::ptrdiff_t place = t * whole.capacity + i;
      expected[static_cast<std::size_t>(t * router.experts() + whole.experts[place])] =
          whole.weights[place];
    }
  }
  fuzz::require(std::memcmp(dense.data(), expected.data(), dense.size() * sizeof(float)) == 0,
                "dense weights are the padded ones");
}

void check_masks(const fd::AnyRouter& router, fd::LogitsView<float> rows,
                 const test::Padded<>& whole) {
  const std::ptrdiff_t stride = fd::BitmaskView::words_per_token(router.experts());
  std::vector<std::uint64_t> masks(static_cast<std::size_t>(rows.tokens * stride), ~0ULL);
  std::vector<std::uint64_t> expected(masks.size());
  std::vector<std::int32_t> counts(static_cast<std::size_t>(rows.tokens), -1);
  router.route(rows, fd::BitmaskView{masks.data(), stride, counts.data()});
  for (std::ptrdiff_t t = 0; t < rows.tokens; ++t) {
    fuzz::require(counts[static_cast<std::size_t>(t)] == whole.counts[t],
                  "masks have the padded counts");
    for (int i = 0; i < whole.counts[t]; ++i) {
      const std::int32_t id = whole.experts[t * whole.capacity + i];
      expected[static_cast<std::size_t>(t * stride + id / 64)] |= std::uint64_t{1} << id % 64;
    }
  }
  fuzz::require(masks == expected, "masks are the padded experts");
}

/// Rows of bfloat16 are routed as the floats that they are.
void check_bfloat16(const fd::AnyRouter& router, const std::vector<BFloat16>& logits,
                    const test::Padded<>& whole) {
  test::Padded<> out(whole.tokens, router.capacity(), whole.padding);
  router.route(fd::LogitsView<BFloat16>{logits.data(), whole.tokens, router.experts()}, out.view());
  fuzz::require(out == whole, "rows of bfloat16 are routed as floats");
}

}  // namespace routing_target

FUZZ_TARGET(routing) {
  namespace target = routing_target;
  namespace fd = fdroute;
  fuzz::Source source(input);
  test::Random random(source.number<std::uint64_t>());
  constexpr std::array sizes{1, 2, 3, 8, 16, 17, 31, 32, 60, 64, 64, 65, 96, 128};
  const int experts = sizes[static_cast<std::size_t>(source.below(static_cast<int>(sizes.size())))];
  const auto table_score = static_cast<oracle::Score>(random.below(3));
  constexpr std::array names{"logit", "log_softmax", "zscore"};
  const auto table = fd::TabulatedNull::from_log_survival(
      {-3.0, 0.0, 1.0, 4.0}, {-0.01, -0.7, -2.0, -9.0},
      test::fitted_on(names[static_cast<std::size_t>(table_score)]));
  const target::Policy policy = target::draw_policy(random, experts, table_score);
  static const auto archs = target::archs();
  // One draw, so that an input means the same rows on every machine.
  const auto& [arch, make_router] = archs[static_cast<std::size_t>(random.below(6)) % archs.size()];
  const fd::AnyRouter router = make_router(policy.string, experts, table);

  // A router takes longer to make than a row to route.
  constexpr int most_tokens = 192;
  test::Batch batch{experts};
  const int tokens = 1 + random.below(most_tokens);
  for (int t = 0; t < tokens; ++t) {
    // Every other row is an ordinary one; some have bits of the input.
    const int kind =
        random.below(2) == 0 ? 0 : random.below(static_cast<int>(test::every_kind.size()));
    std::vector<float> row =
        test::random_row(test::every_kind[static_cast<std::size_t>(kind)], experts, random);
    for (float& x : row) {
      if (source.empty() || random.below(4) != 0) break;
      x = source.number<float>();
    }
    batch.add(row);
  }
  const bool halves = random.below(4) == 0;
  const auto cut = halves ? target::to_bfloat16(batch.logits) : std::vector<target::BFloat16>();
  const auto padding = random.below(2) == 0 ? fd::Padding::minus_one : fd::Padding::repeat_valid;
  const test::Padded<> out = test::routed(router, batch.view(), padding);
  fuzz::require(out.guards_intact(), "nothing is written outside");
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
    target::check_token(policy, out, t, batch.row(t));
  target::check_slices(router, batch.view(), out, random);
  target::check_dense(router, batch.view(), out);
  target::check_masks(router, batch.view(), out);
  fuzz::require(test::difference_of_csr(router, batch.view()).empty(), "CSR is the padded routing");
  const auto rows = static_cast<std::uint64_t>(batch.tokens());
  fuzz::tally("rows routed", rows);
  fuzz::tally(std::string("rows routed by ") + arch, rows);
  if (halves) {
    target::check_bfloat16(router, cut, out);
    fuzz::tally("rows routed of bfloat16", rows);
  }
}
