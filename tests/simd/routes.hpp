#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fdroute/detail/block/route_all.hpp"
#include "fdroute/fdroute.hpp"
#include "library/definition.hpp"

// The policies to compile, a bit each: a mutation run takes these tests apart (tests/mutation/).
#ifndef FDROUTE_POLICIES
#define FDROUTE_POLICIES ~0U
#endif

/// A binary16 as an engine may have it.
struct Half {
  std::uint16_t bits = 0;
  Half() = default;

  /// Rounded towards zero, from 2^16 on to infinity.
  explicit Half(float x) noexcept {
    const auto sign = static_cast<unsigned>(std::signbit(x)) << 15;
    const float size = std::fabs(x);
    unsigned magnitude = 0x7E00;  // NaN
    if (size >= 0x1p16F) {
      magnitude = 0x7C00;
    } else if (size >= 0x1p-14F) {
      magnitude = (std::bit_cast<std::uint32_t>(size) >> 13) - (112U << 10);
    } else if (size >= 0.0F) {
      magnitude = static_cast<unsigned>(size * 0x1p24F);
    }
    bits = static_cast<std::uint16_t>(sign | magnitude);
  }

  explicit operator float() const noexcept {
    const int mantissa = bits & 0x3FF;
    const int exponent = (bits >> 10) & 0x1F;
    float size = std::numeric_limits<float>::quiet_NaN();
    if (exponent < 0x1F) {
      size = std::ldexp(static_cast<float>(exponent == 0 ? mantissa : mantissa + 0x400),
                        std::max(exponent, 1) - 25);
    } else if (mantissa == 0) {
      size = std::numeric_limits<float>::infinity();
    }
    return (bits & 0x8000) != 0 ? -size : size;
  }
};
template <>
inline constexpr auto fdroute::logit_format<Half> = fdroute::LogitFormat::float16;

/// Any of the library's weights, chosen at run time: so that tests need no router for each.
struct AnyWeights {
  fdroute::SoftmaxWeights softmax{};
  fdroute::SigmoidWeights sigmoid{};
  bool by_sigmoid = false;
  float factor = 1.0F;

  fdroute::Scaled<fdroute::SoftmaxWeights> scaled_softmax() const { return {softmax, factor}; }
  fdroute::Scaled<fdroute::SigmoidWeights> scaled_sigmoid() const { return {sigmoid, factor}; }

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    by_sigmoid ? scaled_sigmoid()(logits, experts, weights)
               : scaled_softmax()(logits, experts, weights);
  }
  fdroute::detail::WeightRecipe recipe() const noexcept {
    return by_sigmoid ? scaled_sigmoid().recipe() : scaled_softmax().recipe();
  }
};
template <>
inline constexpr auto fdroute::kernel_of<AnyWeights> = fdroute::Kernel::weight_recipe;

/// Any of the library's rankings, or one of the user's, chosen at run time.
struct AnyRanking {
  enum class Kind : std::uint8_t { logit, sigmoid, groups, sigmoid_groups, own };
  static constexpr int kinds = 5;

  Kind kind = Kind::logit;
  fdroute::GroupLimited<> by_groups{};
  fdroute::GroupLimited<fdroute::BySigmoid> by_sigmoid_groups{};
  fdroute::TieOrder ties = fdroute::TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    if (kind == Kind::logit) return fdroute::ByLogit{}(logits, keys);
    if (kind == Kind::sigmoid) return by_sigmoid_groups.ranking(logits, keys);
    if (kind == Kind::groups) return by_groups(logits, keys);
    if (kind == Kind::sigmoid_groups) return by_sigmoid_groups(logits, keys);
    for (std::size_t j = 0; j < keys.size(); ++j) {
      // Ties, and now and then a key that no number has.
      keys[j] = std::floor(4.0F * std::abs(logits[j] - 0.5F));
      if (j % 7 == 3 && logits[j] > 3.0F) keys[j] = std::numeric_limits<float>::quiet_NaN();
      if (j % 7 == 4 && logits[j] > 4.0F) keys[j] = std::numeric_limits<float>::infinity();
      if (j % 7 == 5 && logits[j] < -1.0F) keys[j] = -std::numeric_limits<float>::infinity();
    }
  }
  fdroute::detail::KeyRecipe recipe() const noexcept {
    if (kind == Kind::logit) return fdroute::ByLogit{}.recipe();
    if (kind == Kind::sigmoid) return by_sigmoid_groups.ranking.recipe();
    if (kind == Kind::groups) return by_groups.recipe();
    if (kind == Kind::sigmoid_groups) return by_sigmoid_groups.recipe();
    return {.groups = 0};
  }
};
template <>
inline constexpr auto fdroute::kernel_of<AnyRanking> = fdroute::Kernel::key_recipe;

/// A policy and rows of logits to route by it.
struct Case {
  enum class Policy : std::uint8_t {
    topk,
    bh_logit,
    bh_log_softmax,
    bh_zscore,
    holm_zscore,
    // These read p-values, and, but for the last one, of a table.
    hc_logit,
    hc_log_softmax,
    hc_cdf,
    bj_zscore,
    local_fdr,
    storey,
    hommel,
    bky,
    hc_normal,
    // These read logits.
    top_p,
    relative,
    half_range,
    // A null distribution for every expert.
    bh_per_expert,
    holm_weighted,
    topk_weighted
  };
  static constexpr int policies = 20;
  enum class Stored : std::uint8_t { as_float, as_double, as_half, as_columns };

  Policy policy;
  int k;         // of TopK
  double alpha;  // of Benjamini-Hochberg and others; how far to search; p of TopP
  fdroute::ExpertBounds bounds;
  AnyWeights weights;
  Stored stored;
  std::ptrdiff_t slice;  // how many tokens a call takes, 0 for all
  int experts;
  std::vector<float> logits;
  AnyRanking ranking{};
};

constexpr bool is_compiled(Case::Policy policy) {
  return ((FDROUTE_POLICIES >> static_cast<unsigned>(policy)) & 1U) != 0;
}

/// A rule of the user's that reads logits: those in the upper half of the range.
struct HalfRange {
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const float middle = 0.5F * sorted_logits.front() + 0.5F * sorted_logits.back();
    return static_cast<int>(
        std::ranges::count_if(sorted_logits, [=](float x) { return x >= middle; }));
  }
};

/// A case's routing in every form.
struct Routes {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  std::vector<std::int32_t> counts;
  std::vector<fdroute::TokenStatus> status;
  std::vector<float> dense;
  std::vector<fdroute::TokenStatus> dense_status;
  std::vector<std::uint64_t> masks;
  std::vector<fdroute::TokenStatus> mask_status;
  std::vector<std::int64_t> offsets;  // of the CSR form
  std::vector<std::int32_t> csr_experts;
  std::vector<float> csr_weights;
  std::vector<fdroute::TokenStatus> csr_status;
  std::vector<std::int32_t> completed_experts;  // padded
  std::vector<float> completed_weights;
  std::vector<std::int32_t> completed_counts;
  std::vector<fdroute::TokenStatus> completed_status;
};

/// How a case's routing is completed: windows of some sizes, up to more experts than vectors list.
inline fdroute::Completion completion_of(const Case& c) {
  constexpr std::array windows{1, 4, 8, 8, 12, 16, 17, 40};
  return {windows[static_cast<std::size_t>(c.k) % windows.size()], 1 + c.k % 23};
}

/// Masks of resident experts, shape (tokens, words): of half of them, of few or of most.
inline std::vector<std::uint64_t> masks_of(const Case& c, std::size_t tokens) {
  std::vector<std::uint64_t> masks(tokens * (static_cast<std::size_t>(c.experts) + 63) / 64 + 16);
  std::uint64_t state = static_cast<std::uint64_t>(c.k);
  const auto next = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return state ^ (state >> 29);
  };
  for (std::size_t i = 0; i < masks.size(); ++i) {
    masks[i] = next();
    if (i % 3 == 1) masks[i] &= next();
    if (i % 3 == 2) masks[i] |= next();
  }
  return masks;
}

/// What the kernels make of a row of numbers.
struct RowKernels {
  std::vector<float> exps;  // of the differences from the largest
  double sum;
  fdroute::ScoreMap log_softmax;
  fdroute::ScoreMap zscore;
  std::vector<double> p;  // of the numbers, by a table
};

/// The same functions, compiled for one Arch each.
struct Compiled {
  const char* name;
  bool (*runs_here)();
  Routes (*route)(const Case&);
  RowKernels (*kernels)(const std::vector<float>& row);
  std::vector<float> (*widened)(const std::vector<Half>& numbers);
  std::vector<float> (*widened_by_integers)(const std::vector<Half>& numbers);
};

Compiled compiled_for_scalar();
Compiled compiled_for_sse2();
Compiled compiled_for_avx2();
Compiled compiled_for_avx512();
Compiled compiled_for_neon();
Compiled compiled_for_native();

/// A null distribution with what a table may have: grid points close together and far apart,
/// a plateau, a start below p = 1.
template <class Score>
fdroute::TabulatedNull log_table(double centre) {
  std::vector<double> score;
  std::vector<double> log_sf;
  for (const double x : {-4.0, -3.0, -2.999, -2.998, -1.0, -0.5, -0.25, -0.249, -0.248, -0.247, 0.0,
                         0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5}) {
    score.push_back(centre + x);
    log_sf.push_back(-0.05 - 0.25 * (x + 4.0) * (x + 4.0) / 2.0);
  }
  log_sf[8] = log_sf[7];
  fdroute::NullProvenance fit;
  fit.score = std::string(Score::name);
  return fdroute::TabulatedNull::from_log_survival(score, log_sf, fit);
}

template <class Score>
fdroute::TabulatedNull cdf_table() {
  fdroute::NullProvenance fit;
  fit.score = std::string(Score::name);
  return fdroute::TabulatedNull::from_cdf({-2.0, -1.0, 0.0, 0.5, 0.75, 1.0, 2.0, 2.5},
                                          {0.01, 0.2, 0.6, 0.6, 0.75, 0.8, 0.99, 1.0}, fit);
}

/// Weights of experts in groups of four, 0 among them, with mean 1.
inline std::vector<double> prior_weights(int experts) {
  std::vector<double> weights(static_cast<std::size_t>(experts), 1.0);
  for (std::size_t j = 0; j + 4 <= weights.size(); j += 4) {
    weights[j] = 0.0;
    weights[j + 1] = 0.5;
    weights[j + 2] = 2.5;
  }
  return weights;
}

/// The router of a case, which is of this policy.
template <Case::Policy policy>
auto router_of(const Case& c) {
  namespace fd = fdroute;
  using Policy = Case::Policy;
  const AnyRanking& ranking = c.ranking;
  const fd::BenjaminiHochberg bh{c.alpha};
  const auto router = [&](const auto& rule, const auto& score, const auto& null) {
    return fd::Router(c.experts, rule, score, null, c.weights, c.bounds, ranking);
  };
  fd::HigherCriticism hc{c.alpha};
  if (c.k % 2 != 0) hc.deviation = fd::HigherCriticism::Deviation::of_p;
  if (c.k % 3 == 0) hc.critical = 2.0;
  if constexpr (policy == Policy::topk) {
    return fd::Router(c.experts, fd::TopK{c.k}, c.weights, c.bounds, ranking);
  } else if constexpr (policy == Policy::bh_logit) {
    return fd::Router(c.experts, bh, fd::Logit{}, fd::NormalNull{0.0, 1.5}, c.weights, c.bounds,
                      ranking);
  } else if constexpr (policy == Policy::bh_log_softmax) {
    return fd::Router(c.experts, bh, fd::LogSoftmax{}, fd::NormalNull{-5.0, 1.3}, c.weights,
                      c.bounds, ranking);
  } else if constexpr (policy == Policy::bh_zscore) {
    return fd::Router(c.experts, bh, fd::ZScore{}, fd::NormalNull{0.0, 0.8}, c.weights, c.bounds,
                      ranking);
  } else if constexpr (policy == Policy::holm_zscore) {
    return fd::Router(c.experts, fd::Holm{c.alpha}, fd::ZScore{}, fd::NormalNull{0.0, 0.6},
                      c.weights, c.bounds, ranking);
  } else if constexpr (policy == Policy::hc_logit) {
    return router(hc, fd::Logit{}, log_table<fd::Logit>(0.0));
  } else if constexpr (policy == Policy::hc_log_softmax) {
    return router(hc, fd::LogSoftmax{}, log_table<fd::LogSoftmax>(-5.0));
  } else if constexpr (policy == Policy::hc_cdf) {
    return router(hc, fd::ZScore{}, cdf_table<fd::ZScore>());
  } else if constexpr (policy == Policy::bj_zscore) {
    return router(fd::BerkJones{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
  } else if constexpr (policy == Policy::local_fdr) {
    return router(fd::LocalFdr{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
  } else if constexpr (policy == Policy::storey) {
    return router(fd::StoreyBH{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
  } else if constexpr (policy == Policy::hommel) {
    return router(fd::Hommel{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
  } else if constexpr (policy == Policy::bky) {
    return router(fd::TwoStageBKY{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
  } else if constexpr (policy == Policy::hc_normal) {
    return router(hc, fd::LogSoftmax{}, fd::NormalNull{-5.0, 1.3});
  } else if constexpr (policy == Policy::top_p) {
    return fd::Router(c.experts, fd::TopP{c.alpha}, c.weights, c.bounds, ranking);
  } else if constexpr (policy == Policy::relative) {
    return fd::Router(c.experts, fd::RelativeThreshold{c.alpha}, c.weights, c.bounds, ranking);
  } else if constexpr (policy == Policy::half_range) {
    return fd::Router(c.experts, HalfRange{}, c.weights, c.bounds, ranking);
  } else if constexpr (policy == Policy::bh_per_expert) {
    fd::PerExpertNull<fd::NormalNull> nulls;
    for (int j = 0; j < c.experts; ++j) nulls.nulls.push_back({0.1 * (j % 5), 0.5 + 0.1 * (j % 3)});
    return router(bh, fd::ZScore{}, nulls);
  } else if constexpr (policy == Policy::holm_weighted) {
    return router(fd::Holm{c.alpha}, fd::LogSoftmax{},
                  fd::WeightedNull{log_table<fd::LogSoftmax>(-5.0), prior_weights(c.experts)});
  } else if constexpr (policy == Policy::topk_weighted) {
    return router(fd::TopK{c.k}, fd::Logit{},
                  fd::WeightedNull{log_table<fd::Logit>(0.0), prior_weights(c.experts)});
  }
}

/// Hands the router of a case to `use`.
template <class Use>
void with_router(const Case& c, const Use& use) {
  const auto try_policy = [&]<std::size_t i>(std::index_sequence<i>) {
    constexpr auto policy = static_cast<Case::Policy>(i);
    if constexpr (is_compiled(policy)) {
      if (c.policy == policy) use(router_of<policy>(c));
    }
  };
  [&]<std::size_t... i>(std::index_sequence<i...>) {
    (try_policy(std::index_sequence<i>{}), ...);
  }
  (std::make_index_sequence<std::size_t{Case::policies}>{});
}

/// By the kernels for Arch or, `by_definition`, without any. The policies' types end here: this is
/// compiled once for all of them, as detail/block/route_all.hpp is.
template <class Arch, bool by_definition>
Routes route_erased(const Case& c, const fdroute::detail::ErasedRouter& router) {
  namespace fd = fdroute;
  Routes routes;
  const auto experts = static_cast<std::size_t>(c.experts);
  const auto n = c.logits.size() / experts;
  const auto tokens = static_cast<std::ptrdiff_t>(n);
  const auto width = static_cast<std::size_t>(router.capacity);
  const std::size_t words = (experts + 63) / 64;
  routes.experts.resize(n * width);
  routes.weights.resize(n * width);
  routes.counts.resize(n);
  routes.status.resize(n);
  routes.dense.resize(n * experts);
  routes.masks.resize(n * words);
  for (auto* status : {&routes.dense_status, &routes.mask_status, &routes.csr_status})
    status->resize(n);
  routes.offsets.resize(n + 1);
  routes.csr_experts.resize(n * width);
  routes.csr_weights.resize(n * width);
  const fd::Completion completion = completion_of(c);
  const auto completed_width =
      std::max(width, std::min(static_cast<std::size_t>(completion.max_k), experts));
  routes.completed_experts.resize(n * completed_width);
  routes.completed_weights.resize(n * completed_width);
  routes.completed_counts.resize(n);
  routes.completed_status.resize(n);
  const std::vector<std::uint64_t> resident_masks = masks_of(c, n);
  const fd::Residency resident(resident_masks.data(), static_cast<std::ptrdiff_t>(words));
  const auto route_to = [&](auto logits, auto out) {
    if constexpr (by_definition) {
      test::route_as_defined(fd::serial, router, logits, out);
    } else {
      fd::detail::route_all<Arch>(fd::serial, router, logits, out);
    }
  };
  const auto route = [&](auto all) {
    const std::ptrdiff_t slice = c.slice > 0 ? c.slice : std::max(tokens, std::ptrdiff_t{1});
    for (std::ptrdiff_t t = 0; t < tokens; t += slice) {
      const auto logits = all.slice(t, std::min(slice, tokens - t));
      const fd::RoutingView padded{routes.experts.data(),     routes.weights.data(),
                                   routes.counts.data(),      router.capacity,
                                   fd::Padding::repeat_valid, routes.status.data()};
      const fd::DenseView dense{routes.dense.data(), c.experts, nullptr,
                                routes.dense_status.data()};
      const fd::BitmaskView masks{routes.masks.data(), static_cast<std::ptrdiff_t>(words), nullptr,
                                  routes.mask_status.data()};
      route_to(logits, padded.from(t));
      route_to(logits, dense.from(t));
      route_to(logits, masks.from(t));
      const fd::RoutingView completed{
          routes.completed_experts.data(), routes.completed_weights.data(),
          routes.completed_counts.data(),  static_cast<int>(completed_width),
          fd::Padding::repeat_valid,       routes.completed_status.data()};
      route_to(logits, completed.from(t));
      if constexpr (by_definition) {
        test::complete_as_defined(router, logits, resident.from(t), completion, completed.from(t));
      } else {
        fd::detail::complete_all<Arch>(fd::serial, router, logits, resident.from(t), completion,
                                       completed.from(t));
      }
      // A call counts its places from 0 on.
      std::int64_t* offsets = routes.offsets.data() + t;
      const std::int64_t before = *offsets;
      route_to(logits,
               fd::CsrView{offsets, routes.csr_experts.data() + before,
                           routes.csr_weights.data() + before, routes.csr_status.data() + t});
      for (std::ptrdiff_t i = 0; i <= logits.tokens; ++i) offsets[i] += before;
    }
  };
  if (c.stored == Case::Stored::as_double) {
    const std::vector<double> doubles(c.logits.begin(), c.logits.end());
    route(fd::LogitsView(doubles.data(), tokens, c.experts));
  } else if (c.stored == Case::Stored::as_half) {
    const std::vector<Half> halves(c.logits.begin(), c.logits.end());
    route(fd::LogitsView(halves.data(), tokens, c.experts));
  } else if (c.stored == Case::Stored::as_columns && !by_definition) {
    std::vector<float> columns(c.logits.size());
    for (std::size_t t = 0; t < n; ++t) {
      for (std::size_t j = 0; j < experts; ++j) columns[j * n + t] = c.logits[t * experts + j];
    }
    if constexpr (!by_definition)
      route(fd::BatchView<float>{columns.data(), tokens, c.experts, 1, tokens});
  } else {
    route(fd::LogitsView(c.logits.data(), tokens, c.experts));
  }
  const auto assignments = static_cast<std::size_t>(routes.offsets.back());
  routes.csr_experts.resize(assignments);
  routes.csr_weights.resize(assignments);
  return routes;
}

template <class Arch, bool by_definition = false>
Routes route_on(const Case& c) {
  Routes routes;
  with_router(c, [&](const auto& router) {
    const test::Definition policies(router);
    routes = route_erased<Arch, by_definition>(c, policies.template erased<Arch>());
  });
  return routes;
}

/// `row` must be ordinary (detail/block/token_block.hpp).
template <class Arch>
RowKernels kernels_on(const std::vector<float>& row) {
  namespace detail = fdroute::detail;
  const int experts = static_cast<int>(row.size());
  detail::TokenBlock block(1, experts);
  detail::load_rows<Arch, true>(block, fdroute::LogitsView<float>(row.data(), 1, experts));
  detail::take_exps<Arch>(block);
  RowKernels result;
  result.sum = block.exp_sum[0];
  result.exps.assign(block.exps_of(0), block.exps_of(0) + experts);
  detail::map_by_log_softmax<Arch>(block);
  result.log_softmax = block.map[0];
  detail::map_by_zscore<Arch>(block);
  result.zscore = block.map[0];
  const auto null = log_table<fdroute::Logit>(0.0);
  alignas(64) std::array<double, fdroute::max_experts> p{};
  std::copy(row.begin(), row.end(), p.begin());
  null.table()->to_p_values<Arch>(p.data(), block.padded_16);
  result.p.assign(p.begin(), p.begin() + experts);
  return result;
}

/// A multiple of 16 numbers as floats, as rows of logits are loaded or, `by_integers`, as they are
/// where no instruction does it.
template <class Arch, bool by_integers = false>
std::vector<float> widened_on(const std::vector<Half>& numbers) {
  namespace detail = fdroute::detail;
  using Lane = detail::Floats<Arch>;
  std::vector<float> result(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); i += 16) {
    const Half* from = numbers.data() + i;
    if constexpr (by_integers && !std::is_same_v<Arch, fdroute::ScalarArch>) {
      Lane::generate([&](std::size_t part) {
        return detail::widen_float16<Arch>(from + part * Lane::width, detail::AnyArch{});
      }).store_anywhere(result.data() + i);
    } else {
      detail::load_floats<Arch>(from).store_anywhere(result.data() + i);
    }
  }
  return result;
}
