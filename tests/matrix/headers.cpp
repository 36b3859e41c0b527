// What an engine compiles of fdroute: routers of several policies and forms, and the Eigen header.
// check.sh counts the warnings.

#include <cstdint>

#include "fdroute/eigen.hpp"
#include "fdroute/fdroute.hpp"

namespace fd = fdroute;

/// A router by critical scores.
void route_bh(const float* logits, std::ptrdiff_t tokens, const fd::TabulatedNull& null,
              std::int32_t* experts, float* weights, std::int32_t* counts) {
  const fd::Router router(64, fd::BenjaminiHochberg{.alpha = 0.05}, fd::LogSoftmax{}, null,
                          fd::SoftmaxWeights{.renormalize = false}, fd::ExpertBounds{1, 8});
  router.route(fd::LogitsView(logits, tokens, 64),
               fd::RoutingView{experts, weights, counts, router.capacity()});
}

/// A router by p-values, in compressed form.
void route_hc(const double* logits, std::ptrdiff_t tokens, const fd::TabulatedNull& null,
              std::int64_t* offsets, std::int32_t* experts, float* weights) {
  const fd::Router router(64, fd::HigherCriticism{0.4}, fd::ZScore{}, null, fd::SoftmaxWeights{},
                          fd::ExpertBounds{1, 8});
  router.route(fd::LogitsView(logits, tokens, 64), fd::CsrView{offsets, experts, weights});
}

/// A router of a model's own rule, in dense form.
void route_model(const Eigen::half* logits, std::ptrdiff_t tokens, float* weights) {
  const auto router = fd::presets::olmoe({64, 8, false});
  router.route(fd::LogitsView(logits, tokens, 64), fd::DenseView{weights, 64});
}
