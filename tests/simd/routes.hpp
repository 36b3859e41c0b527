#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fdroute/fdroute.hpp"

/// A policy and rows of logits to route by it.
struct Case {
  enum class Policy : std::uint8_t { topk, bh_logit, bh_log_softmax, bh_zscore, holm_zscore };
  enum class Stored : std::uint8_t { as_float, as_double };

  Policy policy;
  int k;         // of TopK
  double alpha;  // of Benjamini-Hochberg
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
};

/// What the kernels make of a row of numbers.
struct RowKernels {
  std::vector<float> exps;  // of the differences from the largest
  double sum;
  fdroute::ScoreMap log_softmax;
  fdroute::ScoreMap zscore;
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

/// Hands the router of a case to `use`. K is a Ranking: with any but ByLogit a router has no
/// kernels, and takes the path that is the definition.
template <class K, class Use>
void with_router(const Case& c, const Use& use) {
  namespace fd = fdroute;
  const K ranking{};
  const fd::BenjaminiHochberg bh{c.alpha};
  switch (c.policy) {
    case Case::Policy::topk:
      return use(fd::Router(c.experts, fd::TopK{c.k}, c.weights, c.bounds, ranking));
    case Case::Policy::bh_logit:
      return use(fd::Router(c.experts, bh, fd::Logit{}, fd::NormalNull{0.0, 1.5}, c.weights,
                            c.bounds, ranking));
    case Case::Policy::bh_log_softmax:
      return use(fd::Router(c.experts, bh, fd::LogSoftmax{}, fd::NormalNull{-5.0, 1.3}, c.weights,
                            c.bounds, ranking));
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
    const auto route = [&](auto logits) {
      router.template route<Arch>(
          logits,
          fd::RoutingView{routes.experts.data(), routes.weights.data(), routes.counts.data(),
                          router.capacity(), fd::Padding::repeat_valid, routes.status.data()});
      router.template route<Arch>(logits, fd::DenseView{routes.dense.data(), c.experts});
      router.template route<Arch>(
          logits, fd::BitmaskView{routes.masks.data(), static_cast<std::ptrdiff_t>(words)});
    };
    if (c.stored == Case::Stored::as_double) {
      route(fd::LogitsView(doubles.data(), tokens, c.experts));
    } else {
      route(fd::LogitsView(c.logits.data(), tokens, c.experts));
    }
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
  return result;
}
