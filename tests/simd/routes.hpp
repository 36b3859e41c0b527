#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fdroute/fdroute.hpp"

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
    hc_normal
  };
  static constexpr int policies = 14;
  enum class Stored : std::uint8_t { as_float, as_double };

  Policy policy;
  int k;         // of TopK
  double alpha;  // of Benjamini-Hochberg and others; how far to search
  fdroute::ExpertBounds bounds;
  fdroute::SoftmaxWeights weights;
  Stored stored;
  int experts;
  std::vector<float> logits;
};

/// A case's routing in every form.
struct Routes {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  std::vector<std::int32_t> counts;
  std::vector<fdroute::TokenStatus> status;
  std::vector<float> dense;
  std::vector<std::uint64_t> masks;
  std::vector<std::int64_t> offsets;  // of the CSR form
  std::vector<std::int32_t> csr_experts;
  std::vector<float> csr_weights;
};

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
};

Compiled compiled_for_scalar();
Compiled compiled_for_sse2();
Compiled compiled_for_avx2();
Compiled compiled_for_avx512();
Compiled compiled_for_neon();

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

/// Hands the router of a case to `use`. K is a Ranking: with any but ByLogit a router has no
/// kernels, and takes the path that is the definition.
template <class K, class Use>
void with_router(const Case& c, const Use& use) {
  namespace fd = fdroute;
  const K ranking{};
  const fd::BenjaminiHochberg bh{c.alpha};
  const auto route_by = [&](const auto& rule, const auto& score, const auto& null) {
    use(fd::Router(c.experts, rule, score, null, c.weights, c.bounds, ranking));
  };
  fd::HigherCriticism hc{c.alpha};
  if (c.k % 2 == 0) hc.deviation = fd::HigherCriticism::Deviation::of_rank;
  if (c.k % 3 == 0) hc.critical = 2.0;
  switch (c.policy) {
    case Case::Policy::topk:
      return use(fd::Router(c.experts, fd::TopK{c.k}, c.weights, c.bounds, ranking));
    case Case::Policy::bh_logit:
      return use(fd::Router(c.experts, bh, fd::Logit{}, fd::NormalNull{0.0, 1.5}, c.weights,
                            c.bounds, ranking));
    case Case::Policy::bh_log_softmax:
      return use(fd::Router(c.experts, bh, fd::LogSoftmax{}, fd::NormalNull{-5.0, 1.3}, c.weights,
                            c.bounds, ranking));
    case Case::Policy::hc_logit:
      return route_by(hc, fd::Logit{}, log_table<fd::Logit>(0.0));
    case Case::Policy::hc_log_softmax:
      return route_by(hc, fd::LogSoftmax{}, log_table<fd::LogSoftmax>(-5.0));
    case Case::Policy::hc_cdf:
      return route_by(hc, fd::ZScore{}, cdf_table<fd::ZScore>());
    case Case::Policy::bj_zscore:
      return route_by(fd::BerkJones{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
    case Case::Policy::local_fdr:
      return route_by(fd::LocalFdr{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
    case Case::Policy::storey:
      return route_by(fd::StoreyBH{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
    case Case::Policy::hommel:
      return route_by(fd::Hommel{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
    case Case::Policy::bky:
      return route_by(fd::TwoStageBKY{c.alpha}, fd::ZScore{}, log_table<fd::ZScore>(0.0));
    case Case::Policy::hc_normal:
      return route_by(hc, fd::LogSoftmax{}, fd::NormalNull{-5.0, 1.3});
    case Case::Policy::holm_zscore:
      return use(fd::Router(c.experts, fd::Holm{c.alpha}, fd::ZScore{}, fd::NormalNull{0.0, 0.6},
                            c.weights, c.bounds, ranking));
    case Case::Policy::bh_zscore:
      return use(fd::Router(c.experts, bh, fd::ZScore{}, fd::NormalNull{0.0, 0.8}, c.weights,
                            c.bounds, ranking));
  }
}

template <class Arch, class K>
Routes route_on(const Case& c) {
  namespace fd = fdroute;
  Routes routes;
  const auto experts = static_cast<std::size_t>(c.experts);
  const auto n = c.logits.size() / experts;
  const auto tokens = static_cast<std::ptrdiff_t>(n);
  const std::vector<double> doubles(c.logits.begin(), c.logits.end());
  with_router<K>(c, [&](const auto& router) {
    const auto width = static_cast<std::size_t>(router.capacity());
    const std::size_t words = (experts + 63) / 64;
    routes.experts.resize(n * width);
    routes.weights.resize(n * width);
    routes.counts.resize(n);
    routes.status.resize(n);
    routes.dense.resize(n * experts);
    routes.masks.resize(n * words);
    routes.offsets.resize(n + 1);
    routes.csr_experts.resize(n * width);
    routes.csr_weights.resize(n * width);
    const auto route = [&](auto logits) {
      router.template route<Arch>(
          logits,
          fd::RoutingView{routes.experts.data(), routes.weights.data(), routes.counts.data(),
                          router.capacity(), fd::Padding::repeat_valid, routes.status.data()});
      router.template route<Arch>(logits, fd::DenseView{routes.dense.data(), c.experts});
      router.template route<Arch>(
          logits, fd::BitmaskView{routes.masks.data(), static_cast<std::ptrdiff_t>(words)});
      router.template route<Arch>(
          logits,
          fd::CsrView{routes.offsets.data(), routes.csr_experts.data(), routes.csr_weights.data()});
    };
    if (c.stored == Case::Stored::as_double) {
      route(fd::LogitsView(doubles.data(), tokens, c.experts));
    } else {
      route(fd::LogitsView(c.logits.data(), tokens, c.experts));
    }
    const auto assignments = static_cast<std::size_t>(routes.offsets.back());
    routes.csr_experts.resize(assignments);
    routes.csr_weights.resize(assignments);
  });
  return routes;
}

/// `row` must be ordinary (detail/token_block.hpp).
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
  null.table().to_p_values<Arch>(p.data(), block.padded);
  result.p.assign(p.begin(), p.begin() + experts);
  return result;
}
