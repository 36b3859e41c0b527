#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

/// Control of loss with a finite-sample guarantee: Learn then Test (A. N. Angelopoulos, S. Bates,
/// E. J. Candes, M. I. Jordan and L. Lei, arXiv:2110.01052) over documents.
namespace olmoe {

/// What may be lost, and how surely.
struct RiskLimit {
  double margin;      ///< nats per token; above 0
  double clip;        ///< losses are clipped to [-clip, clip]; above margin
  double confidence;  ///< in (0, 1)
};

/// p-value of "the mean clipped loss over new documents is the margin or more", valid for any
/// number of independent documents and any distribution:
///
///     X_t = (clipped loss_t + clip) / (2 clip),   m = (margin + clip) / (2 clip)
///     K_t = prod_{i <= t} (1 + nu_i (m - X_i)),   p = min(1, 1 / max_t K_t)
///
/// Under the hypothesis K is a nonnegative supermartingale whatever bets nu_i in [0, 1 / (1 - m))
/// are made from earlier documents alone, so Ville's inequality gives P(p <= u) <= u. The bets are
///
///     nu_i = min(3/4 / (1 - m), sqrt(2 ln(1 / (1 - confidence)) / (n v_(i-1))))
///
/// with n documents and v the running variance, which begins at 1/4 (I. Waudby-Smith and A. Ramdas,
/// Estimating means of bounded random variables by betting, J. R. Stat. Soc. B 86 (2024),
/// doi:10.1093/jrsssb/qkad009). `losses` should come in random order. 1 without documents.
double p_by_betting(std::span<const double> losses, const RiskLimit& limit);

/// Tests candidates 0, 1 ... n - 1, given from the safest on, each at 1 - confidence, and stops at
/// the first that is not rejected. `p` gives a candidate's p-value and is called no further than
/// that. Returns the last that is rejected; nothing if the first is not. With probability
/// `confidence` or more its mean clipped loss is below the margin.
std::optional<std::size_t> last_safe(std::size_t n, const std::function<double(std::size_t)>& p,
                                     double confidence);

}  // namespace olmoe
