#include "measure/risk_control.hpp"

#include <algorithm>
#include <cmath>

namespace olmoe {

double p_by_betting(std::span<const double> losses, const RiskLimit& limit) {
  const double width = 2.0 * limit.clip;
  const double m = (limit.margin + limit.clip) / width;
  const double most = 0.75 / (1.0 - m);
  const auto n = static_cast<double>(losses.size());
  double capital = 0.0;  // its logarithm
  double largest = 0.0;
  double sum = 0.5;  // of X, with one observation of 1/2 before the first
  double squares = 0.25;
  double seen = 1.0;
  for (const double loss : losses) {
    const double x = (std::clamp(loss, -limit.clip, limit.clip) + limit.clip) / width;
    const double variance = squares / seen;
    const double bet =
        std::min(most, std::sqrt(2.0 * -std::log(1.0 - limit.confidence) / (n * variance)));
    capital += std::log1p(bet * (m - x));
    largest = std::max(largest, capital);
    seen += 1.0;
    sum += x;
    squares += (x - sum / seen) * (x - sum / seen);
  }
  return std::exp(-largest);
}

std::optional<std::size_t> last_safe(std::size_t n, const std::function<double(std::size_t)>& p,
                                     double confidence) {
  std::optional<std::size_t> last;
  for (std::size_t i = 0; i < n && p(i) <= 1.0 - confidence; ++i) last = i;
  return last;
}

}  // namespace olmoe
