#include "measure/student_t.hpp"

#include <cmath>
#include <limits>

namespace olmoe {
namespace {

/// The continued fraction of I_x(a, b), by Lentz's method; it converges fast for
/// x < (a + 1) / (a + b + 2).
double beta_fraction(double x, double a, double b) {
  constexpr double tiny = 1e-300;
  constexpr int most_terms = 100'000;
  const auto not_zero = [](double v) { return std::abs(v) < tiny ? tiny : v; };
  double c = 1.0;
  double d = 1.0 / not_zero(1.0 - (a + b) * x / (a + 1.0));
  double fraction = d;
  for (int i = 1; i < most_terms; ++i) {
    const double n = i;
    const double even = n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n));
    d = 1.0 / not_zero(1.0 + even * d);
    c = not_zero(1.0 + even / c);
    fraction *= c * d;
    const double odd = -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0));
    d = 1.0 / not_zero(1.0 + odd * d);
    c = not_zero(1.0 + odd / c);
    const double factor = c * d;
    fraction *= factor;
    if (std::abs(factor - 1.0) <= std::numeric_limits<double>::epsilon()) break;
  }
  return fraction;
}

/// I_x(a, b), given x and 1 - x, so that neither is lost to rounding.
double incomplete_beta(double x, double complement, double a, double b) {
  if (x <= 0.0) return 0.0;
  if (complement <= 0.0) return 1.0;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log(complement));
  // The fraction converges fast on one side of the mean; from the other, I_x(a, b) is
  // 1 - I_(1 - x)(b, a).
  if (x > (a + 1.0) / (a + b + 2.0)) return 1.0 - front * beta_fraction(complement, b, a) / b;
  return front * beta_fraction(x, a, b) / a;
}

}  // namespace

double student_t_upper_tail(double t, double df) {
  if (t < 0.0) return 1.0 - student_t_upper_tail(-t, df);
  if (std::isinf(t)) return 0.0;
  const double square = t * t;
  return incomplete_beta(df / (df + square), square / (df + square), df / 2.0, 0.5) / 2.0;
}

double student_t_quantile(double p, double df) {
  if (p < 0.5) return -student_t_quantile(1.0 - p, df);
  double low = 0.0;
  double high = 1.0;
  while (student_t_upper_tail(high, df) > 1.0 - p) high *= 2.0;
  while (true) {
    const double middle = low + (high - low) / 2.0;
    if (middle <= low || middle >= high) return high;
    (student_t_upper_tail(middle, df) > 1.0 - p ? low : high) = middle;
  }
}

}  // namespace olmoe
