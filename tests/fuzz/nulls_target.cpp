// routing/nulls: of a nulls file that is read, every p-value lies in [0, 1] and none grows with the
// score.

#include "routing/nulls.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

#include "fuzz/fuzz.hpp"

FUZZ_TARGET(nulls) {
  const auto path = fuzz::file_of("nulls.safetensors", input);
  fuzz::accepted(
      [&] {
        for (const fdroute::TabulatedNull& null : olmoe::load_nulls(path)) {
          double previous = 1.0;
          const auto check = [&](double score) {
            const double p = null(score);
            fuzz::require(p >= 0.0 && p <= previous, "p-values fall, and lie in [0, 1]");
            previous = p;
          };
          constexpr double infinity = std::numeric_limits<double>::infinity();
          check(-infinity);
          for (double x = -1e300; x < -1e-3; x /= 10.0) check(x);
          for (double x = 1e-3; x < 1e300; x *= 10.0) check(x);
          check(infinity);
          previous = 1.0;
          for (int i = -80; i <= 80; ++i) check(i / 4.0);
        }
      },
      "nulls.safetensors");
  fuzz::accepted(
      [&] {
        constexpr int layers = 2;
        constexpr std::size_t experts = 4;
        const auto biases = olmoe::load_selection_bias(path, layers, experts);
        fuzz::require(biases.empty() || biases.size() == layers, "a bias for all layers or none");
        for (const std::vector<float>& bias : biases)
          fuzz::require(bias.size() == experts, "a bias has all experts");
      },
      "nulls.safetensors");
}
