#include "routes.hpp"

Compiled compiled_for_native() {
  return {"native",
          [] { return true; },
          route_on<fdroute::DefaultArch>,
          kernels_on<fdroute::DefaultArch>,
          widened_on<fdroute::DefaultArch>,
          widened_on<fdroute::DefaultArch, true>};
}
