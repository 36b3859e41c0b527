#pragma once

#include <fdroute/null/tabulated.hpp>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/solve_policy.hpp"
#include "measure/texts.hpp"

/// Fits the mass_exponent of a policy's softmax weights (fdroute/weights/softmax.hpp).
namespace olmoe {

/// A loss by exponent, and where it is least.
struct MassFit {
  double exponent = 0.0;           ///< of the least loss in `curve`, the smallest of several
  std::map<double, double> curve;  ///< what was measured: loss by exponent
};

/// Looks for the exponent in [0, 1] of the least loss, to two digits: the best of 0, 0.25, 0.5,
/// 0.75 and 1; then, twice, the best of it and its neighbours at a distance of 0.12 and 0.06; then
/// the vertex of the parabola through the best and its neighbours, if it has two. At most 10 calls
/// of `loss`. A loss with a single minimum has it within 0.06, or where the vertex is right, 0.005.
MassFit least_loss(const std::function<double(double)>& loss);

/// The policy with `mass_exponent`, and with `mass_k` unless it has one. Throws
/// std::invalid_argument if it has a mass_exponent.
std::string with_mass(const std::string& policy, double exponent, int mass_k);

/// least_loss() of the nll of a policy, in nats per token over all predicted tokens of `texts`.
/// `mass_k` is the model's own number of experts unless the policy has one. Throws as evaluate()
/// and make_routers() do, and as with_mass().
MassFit fit_mass(const Model& model, const std::string& policy,
                 std::span<const fdroute::TabulatedNull> nulls, std::span<const Text> texts,
                 const EvaluationOptions& options,
                 std::span<const std::vector<float>> selection_bias = {});

/// A policy with a fitted exponent, solved for a mean number of experts.
struct SolvedMass {
  SolvedPolicy solved;
  MassFit fit;
};

/// Solves the policy without an exponent, fits the exponent with that value, then solves again with
/// it: an exponent changes the logits of later layers, and so the counts. Windows of both are
/// `options.window` long and do not overlap. Solving, too, calls options.on_progress, with windows
/// alone. Throws as solve_policy() and fit_mass() do.
SolvedMass solve_with_mass(const Model& model, const Target& target,
                           std::span<const fdroute::TabulatedNull> nulls,
                           std::span<const Text> texts, const EvaluationOptions& options,
                           std::span<const std::vector<float>> selection_bias = {});

}  // namespace olmoe
