/* The header read as C11, and every form of routing, from C alone. */

#include <fdroute/c_api.h>

/* Routes one row of four logits by its best two; 0 if all went well. */
int route_from_c(const float* logits, int32_t* experts, float* weights);

/* Routes it to CSR with ids of a byte, to a dense row and to a bitmask; 0 if they agree with the
 * ids and weights of route_from_c(). */
int other_forms_from_c(const float* logits, const int32_t* experts, const float* weights);

/* The number of p-values that BH rejects at 0.05, or -1. */
int64_t rejections_from_c(const double* p, size_t m);

/* Completes two rows of four logits, of which each has one expert, by a
 * mask, and uses them in a cache; 0 if all went as it must. */
int completion_from_c(const float* logits);

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

int completion_from_c(const float* logits) {
  fdroute_router* router = NULL;
  fdroute_cache* cache = NULL;
  fdroute_logits rows = {0};
  fdroute_padded routing = {0};
  int32_t experts[4];
  float weights[4];
  int32_t counts[2];
  uint64_t mask = 0;
  int64_t loads = 0;
  int wrong = 0;

  rows.data = logits;
  rows.dtype = FDROUTE_F32;
  rows.tokens = 2;
  rows.stride = 4;
  rows.expert_stride = 1;
  routing.experts = experts;
  routing.id_type = FDROUTE_I32;
  routing.capacity = 2;
  routing.padding = FDROUTE_MINUS_ONE;
  routing.weights = weights;
  routing.counts = counts;
  if (fdroute_router_create("topk:k=1", 4, NULL, NULL, &router) != FDROUTE_OK) return 1;
  wrong |= fdroute_route_padded(router, &rows, &routing) != FDROUTE_OK;
  wrong |= fdroute_union(&routing, 2, 4, &mask) != FDROUTE_OK || mask != 5;
  wrong |= fdroute_budget(&routing, 2, 4, 3, 1, &mask) != FDROUTE_OK || mask != 5;
  mask |= 2;
  wrong |= fdroute_complete(router, &rows, &mask, 0, 2, 2, &routing) != FDROUTE_OK;
  wrong |= counts[0] != 2 || experts[1] != 1 || counts[1] != 1 || experts[3] != -1;
  wrong |= fdroute_cache_create(4, 2, &cache) != FDROUTE_OK;
  wrong |= fdroute_cache_touch(cache, &routing, 2, &loads) != FDROUTE_OK || loads != 3;
  wrong |= fdroute_cache_resident(cache, &mask) != FDROUTE_OK || mask != 5;
  fdroute_cache_destroy(cache);
  fdroute_router_destroy(router);
  return wrong;
}
