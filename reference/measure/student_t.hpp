#pragma once

/// Student's t distribution.
namespace olmoe {

/// P(T >= t) for T of Student's distribution with `df` > 0 degrees of freedom:
///
///     I_x(df / 2, 1 / 2) / 2,  x = df / (df + t^2),  for t >= 0; 1 less that of -t below
///
/// with I the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22). `t`
/// may be infinite. The relative error is below 1e-12 for df up to 1e6.
double student_t_upper_tail(double t, double df);

/// The t with P(T <= t) = p, for 0 < p < 1: bisection down to neighbouring doubles.
double student_t_quantile(double p, double df);

}  // namespace olmoe
