/* Benjamini-Hochberg over eight experts, through the C interface. */
#include <fdroute/c_api.h>
#include <stdio.h>

int main(void) {
  const float logits[8] = {0.1F, 4.0F, -0.3F, 0.2F, 3.5F, -0.1F, 0.0F, -0.2F};
  fdroute_router* router = NULL;
  int32_t experts[8];
  int32_t count = 0;
  float weights[8];
  if (fdroute_router_create("bh:alpha=0.05,max_k=8,null=normal,score=logit", 8, NULL, NULL,
                            &router) != FDROUTE_OK ||
      fdroute_route(router, logits, FDROUTE_F32, 1, 8, 8, FDROUTE_MINUS_ONE, experts, weights,
                    &count, NULL) != FDROUTE_OK) {
    fprintf(stderr, "%s\n", fdroute_last_error());
    return 1;
  }
  for (int i = 0; i < count; ++i)
    printf("expert %d, weight %.4f\n", (int)experts[i], (double)weights[i]);
  fdroute_router_destroy(router);
  return 0;
}
