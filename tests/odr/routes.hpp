#pragma once

#include <cstdint>
#include <vector>

#include "fdroute/fdroute.hpp"

/// What routing computes, as bits, from the same logits by translation units of different flags.
struct Routes {
  std::vector<float> scores;  // shift and scale of every row, by every score
  std::vector<double> p;      // of every logit, by every null distribution
  std::vector<std::int32_t> experts;
  std::vector<std::int32_t> counts;
  std::vector<float> weights;
};

Routes routes_plain(const std::vector<float>& logits, int experts);

/// Compiled for AVX2 and FMA, with OpenMP.
Routes routes_avx2(const std::vector<float>& logits, int experts);

/// Compiled for AVX-512.
Routes routes_avx512(const std::vector<float>& logits, int experts);

/// Compiled as routes_avx2, and sharing no function of the library with the others.
Routes routes_avx2_alone(const std::vector<float>& logits, int experts);

/// Tag makes each translation unit's instance a function of its own; what it calls in fdroute, they
/// share by name, and the linker keeps either's.
template <class Tag, class Execution>
Routes make_routes(Execution execution, const std::vector<float>& logits, int experts) {
  namespace fd = fdroute;
  Routes routes;
  const auto size = static_cast<std::size_t>(experts);
  const auto tokens = static_cast<std::ptrdiff_t>(logits.size() / size);
  for (std::size_t token = 0; token < logits.size() / size; ++token) {
    const std::span<const float> row(logits.data() + token * size, size);
    for (const fd::ScoreMap map : {fd::LogSoftmax{}(row), fd::ZScore{}(row)}) {
      routes.scores.push_back(map.shift);
      routes.scores.push_back(map.scale);
      routes.scores.push_back(map(row[0]));
    }
  }

  fd::NullProvenance fit;
  fit.score = "zscore";
  const auto log_table = fd::TabulatedNull::from_log_survival({-3.1, -1.3, 0.1, 0.7, 2.3},
                                                              {-0.01, -0.3, -0.7, -1.9, -6.1}, fit);
  const auto cdf_table = fd::TabulatedNull::from_cdf({-3.1, -1.3, 0.1, 0.7, 2.3},
                                                     {0.01, 0.13, 0.57, 0.83, 0.997}, fit);
  const fd::NormalNull normal{0.1, 1.1};
  for (const float x : logits) {
    const auto score = static_cast<double>(x);
    for (const double p : {log_table(score), cdf_table(score), normal(score)})
      routes.p.push_back(p);
  }

  const auto route = [&](const auto& router) {
    const std::size_t places = static_cast<std::size_t>(tokens) * size;
    std::vector<std::int32_t> ids(places);
    std::vector<float> weights(places);
    std::vector<std::int32_t> counts(static_cast<std::size_t>(tokens));
    router.route(execution, fd::LogitsView(logits.data(), tokens, experts),
                 fd::RoutingView{ids.data(), weights.data(), counts.data(), experts});
    routes.experts.insert(routes.experts.end(), ids.begin(), ids.end());
    routes.weights.insert(routes.weights.end(), weights.begin(), weights.end());
    routes.counts.insert(routes.counts.end(), counts.begin(), counts.end());
  };
  const fd::BenjaminiHochberg rule{0.3};
  route(fd::Router(experts, rule, fd::ZScore{}, log_table));
  route(fd::Router(experts, rule, fd::ZScore{}, cdf_table));
  route(fd::Router(experts, rule, fd::LogSoftmax{}, fd::NormalNull{-4.0, 1.0}));
  route(fd::Router(experts, fd::TopP{0.8}));
  route(fd::Router(experts, fd::TopK{experts / 2}));
  return routes;
}
