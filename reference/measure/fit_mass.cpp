#include "measure/fit_mass.hpp"

#include <cmath>
#include <fdroute/detail/number/to_text.hpp>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "measure/windows.hpp"
#include "routing/routing.hpp"

namespace olmoe {

MassFit least_loss(const std::function<double(double)>& loss) {
  std::map<int, double> curve;  // by hundredths
  int best = 0;
  const auto try_exponent = [&](int hundredths) {
    if (hundredths < 0 || hundredths > 100 || curve.contains(hundredths)) return;
    const double value = curve[hundredths] = loss(hundredths / 100.0);
    if (value < curve[best] || (value == curve[best] && hundredths < best)) best = hundredths;
  };
  for (const int coarse : {0, 25, 50, 75, 100}) try_exponent(coarse);
  constexpr int least_distance = 6;
  for (const int distance : {2 * least_distance, least_distance}) {
    const int middle = best;
    try_exponent(middle - distance);
    try_exponent(middle + distance);
  }
  const auto below = curve.find(best - least_distance);
  const auto above = curve.find(best + least_distance);
  if (below != curve.end() && above != curve.end()) {
    const double slope = above->second - below->second;
    const double curvature = above->second - 2.0 * curve[best] + below->second;
    if (curvature > 0.0)
      try_exponent(static_cast<int>(std::lround(best - 0.5 * least_distance * slope / curvature)));
  }
  MassFit fit{best / 100.0, {}};
  for (const auto& [hundredths, value] : curve) fit.curve.emplace(hundredths / 100.0, value);
  return fit;
}

std::string with_mass(const std::string& policy, double exponent, int mass_k) {
  if (policy.find("mass_exponent=") != std::string::npos)
    throw std::invalid_argument("policy " + quote(policy) +
                                " has a mass_exponent, so there is none to fit");
  std::string text = policy;
  text.append(policy.find(':') == std::string::npos ? ":" : ",")
      .append("mass_exponent=")
      .append(fdroute::detail::to_text(exponent));
  if (policy.find("mass_k=") == std::string::npos)
    text.append(",mass_k=").append(std::to_string(mass_k));
  return text;
}

MassFit fit_mass(const Model& model, const std::string& policy,
                 std::span<const fdroute::TabulatedNull> nulls, std::span<const Text> texts,
                 const EvaluationOptions& options,
                 std::span<const std::vector<float>> selection_bias) {
  const auto routers_of = [&](double exponent) {
    const Config& config = model.config();
    return make_routers(config, with_mass(policy, exponent, config.num_experts_per_tok), nulls,
                        selection_bias);
  };
  routers_of(0.5);  // found out before the work begins
  return least_loss([&](double exponent) {
    return evaluate(model, routers_of(exponent), texts, options).total.nll.value;
  });
}

SolvedMass solve_with_mass(const Model& model, const Target& target,
                           std::span<const fdroute::TabulatedNull> nulls,
                           std::span<const Text> texts, const EvaluationOptions& options,
                           std::span<const std::vector<float>> selection_bias) {
  EvaluationOptions apart = options;
  if (apart.window == 0) apart.window = default_window(model.config());
  apart.stride = apart.window;
  RecordingOptions recording{.window = apart.window};
  if (options.on_progress)
    recording.on_progress = [&](std::int64_t done, std::int64_t all) {
      options.on_progress({done, all, {}});
    };
  const SolvedPolicy plain = solve_policy(model, target, nulls, texts, recording, selection_bias);
  SolvedMass result;
  result.fit = fit_mass(model, plain.policy, nulls, texts, apart, selection_bias);
  Target with_exponent = target;
  with_exponent.policy =
      with_mass(target.policy, result.fit.exponent, model.config().num_experts_per_tok);
  result.solved = solve_policy(model, with_exponent, nulls, texts, recording, selection_bias);
  return result;
}

}  // namespace olmoe
