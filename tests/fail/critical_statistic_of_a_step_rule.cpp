// A gate belongs to a rule that cuts at the largest of a statistic; a step rule has none.
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/selection/higher_criticism.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const fdroute::BenjaminiHochberg rule;
#else
  const fdroute::HigherCriticism rule;
#endif
  return fdroute::critical_statistic(rule, 64, 0.05) > 0.0 ? 0 : 1;
}
