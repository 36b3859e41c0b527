/* The header read as C11, and every form of routing, from C alone. */

#include <fdroute/c_api.h>

/* Routes one row of four logits by its best two; 0 if all went well. */
int route_from_c(const float* logits, int32_t* experts, float* weights);

/* Routes it to CSR with ids of a byte, to a dense row and to a bitmask; 0 if they agree with the
 * ids and weights of route_from_c(). */
int other_forms_from_c(const float* logits, const int32_t* experts, const float* weights);

/* The number of p-values that BH rejects at 0.05, or -1. */
int64_t rejections_from_c(const double* p, size_t m);

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

int other_forms_from_c(const float* logits, const int32_t* experts, const float* weights) {
  fdroute_router* router = NULL;
  fdroute_logits rows = {0};
  fdroute_csr csr = {0};
  fdroute_dense dense = {0};
  fdroute_bitmask bitmask = {0};
  int64_t offsets[2] = {7, 7};
  uint8_t ids[2] = {7, 7};
  float of_csr[2] = {7, 7};
  float of_dense[4] = {7, 7, 7, 7};
  uint64_t words[1] = {7};
  int wrong = 0;
  int i;

  rows.data = logits;
  rows.dtype = FDROUTE_F32;
  rows.tokens = 1;
  rows.stride = 4;
  rows.expert_stride = 1;
  csr.offsets = offsets;
  csr.experts = ids;
  csr.id_type = FDROUTE_U8;
  csr.weights = of_csr;
  csr.places = 2;
  dense.weights = of_dense;
  dense.stride = 4;
  bitmask.words = words;
  bitmask.stride = 1;
  if (fdroute_router_create("topk:k=2", 4, NULL, NULL, &router) != FDROUTE_OK) return 1;
  wrong |= fdroute_route_csr(router, &rows, &csr) != FDROUTE_OK;
  wrong |= fdroute_route_dense(router, &rows, &dense) != FDROUTE_OK;
  wrong |= fdroute_route_bitmask(router, &rows, &bitmask) != FDROUTE_OK;
  fdroute_router_destroy(router);
  wrong |= offsets[0] != 0 || offsets[1] != 2;
  wrong |= words[0] != ((uint64_t)1 << experts[0] | (uint64_t)1 << experts[1]);
  for (i = 0; i < 2; ++i) {
    wrong |= ids[i] != experts[i];
    wrong |= of_csr[i] < weights[i] || of_csr[i] > weights[i];
    wrong |= of_dense[experts[i]] < weights[i] || of_dense[experts[i]] > weights[i];
  }
  return wrong;
}

int64_t rejections_from_c(const double* p, size_t m) {
  int64_t count = -1;
  return fdroute_rejections("bh:alpha=0.05", p, m, &count, NULL) == FDROUTE_OK ? count : -1;
}
