// What a PerExpertNull holds is a null distribution for each expert.
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/score/zscore.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const fdroute::PerExpertNull<fdroute::ZScore> null{{{}, {}}};
#else
  const fdroute::PerExpertNull<fdroute::NormalNull> null{{{}, {}}};
#endif
  return null.nulls.size() == 2 ? 0 : 1;
}
