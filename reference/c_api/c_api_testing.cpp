// The C interface's multiple-testing procedures. It needs c_api.cpp to link.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/multiple_testing.hpp>
#include <fdroute/parse_rule.hpp>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api/c_api.hpp"

using fdroute_c::given;
using fdroute_c::guarded;

namespace {

std::span<const double> p_values(const double* p, std::size_t m) {
  if (m > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw std::invalid_argument("m must be at most 2147483647, got " + std::to_string(m));
  if (m > 0) given(p, "p");
  return {p, m};
}

fdroute::AnyProcedure procedure(const char* rule, std::span<const double> p) {
  return fdroute::parse_rule(given(rule, "rule"), static_cast<int>(p.size()));
}

}  // namespace

fdroute_status fdroute_rejections(const char* rule, const double* p, size_t m, int64_t* count,
                                  uint8_t* rejected) {
  return guarded([&] {
    const std::span<const double> all = p_values(p, m);
    const fdroute::AnyProcedure by = procedure(rule, all);
    const int rejections = by.rejections(all);
    const std::optional<double> threshold = by.threshold(all);
    if (rejected != nullptr) {
      std::transform(all.begin(), all.end(), rejected, [&](double value) {
        const double counted = std::isnan(value) ? 1.0 : value;
        return static_cast<std::uint8_t>(threshold.has_value() && counted <= *threshold);
      });
    }
    if (count != nullptr) *count = rejections;
  });
}

fdroute_status fdroute_adjusted(const char* rule, const double* p, size_t m, double* adjusted) {
  return guarded([&] {
    const std::span<const double> all = p_values(p, m);
    if (m > 0) given(adjusted, "adjusted");
    procedure(rule, all).adjusted(all, {adjusted, m});
  });
}

fdroute_status fdroute_weighted_p_values(const double* p, const double* prior, size_t m,
                                         double* weighted) {
  return guarded([&] {
    const std::span<const double> all = p_values(p, m);
    if (m > 0) {
      given(prior, "prior");
      given(weighted, "weighted");
    }
    const std::vector<double> result = fdroute::weighted_p_values(all, {prior, m});
    std::copy(result.begin(), result.end(), weighted);
  });
}
