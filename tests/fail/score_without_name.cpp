// A score has a name, by which nulls that were fitted on it are told from others.
#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"

struct MyScore {
#ifndef FDROUTE_FAIL
  static constexpr std::string_view name = "my_score";
#endif
  fdroute::ScoreMap operator()(std::span<const float>) const noexcept {
    return {};
  }
};

int main() {
  const fdroute::Router router(64, fdroute::BenjaminiHochberg{0.05}, MyScore{},
                               fdroute::NormalNull{});
  return router.experts() == 64 ? 0 : 1;
}
