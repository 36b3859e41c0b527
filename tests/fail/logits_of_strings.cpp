// Logits convert to float.
#include <string>

#include "fdroute/views.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const std::string logits[2] = {};
#else
  const double logits[2] = {};
#endif
  const fdroute::LogitsView view(logits, 1, 2);
  return view.experts == 2 ? 0 : 1;
}
