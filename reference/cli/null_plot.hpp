#pragma once

#include <span>
#include <string>
#include <vector>

namespace olmoe {

/// How uniform the p-values of losing scores are, as an SVG: of each layer a histogram, 1 where
/// they are uniform, and a QQ plot of -log10 p, a diagonal where they are. `p`: (layers) x
/// (scores), each ascending, not empty.
std::string null_plot(std::span<const std::vector<double>> p);

}  // namespace olmoe
