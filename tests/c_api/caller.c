/* The header read as C, and routing from C alone. */

#include <fdroute/c_api.h>

/* Routes one row of four logits by its best two; 0 if all went well. */
int route_from_c(const float* logits, int32_t* experts, float* weights);

int route_from_c(const float* logits, int32_t* experts, float* weights) {
  fdroute_router* router = NULL;
  int32_t count = 0;
  fdroute_status status = fdroute_router_create("topk:k=2", 4, NULL, NULL, &router);
  if (status == FDROUTE_OK) {
    status = fdroute_route(router, logits, FDROUTE_F32, 1, 4, fdroute_router_capacity(router),
                           FDROUTE_MINUS_ONE, experts, weights, &count, NULL);
  }
  fdroute_router_destroy(router);
  return status == FDROUTE_OK && count == 2 ? 0 : 1;
}
