// -ffast-math and its like select other experts; who wants that says so.
#include "fdroute/router.hpp"

int main() {
  return 0;
}
