#ifndef FDROUTE_C_API_H
#define FDROUTE_C_API_H

/* fdroute for C, and for whatever can call C. See docs/c-api.md.
 *
 * Handles are opaque and immutable: any number of threads may use one at a time. A function that
 * can fail returns a fdroute_status; the reason is then fdroute_last_error(), of the calling
 * thread. No C++ exception leaves the library. A pointer argument may be null only where its
 * comment says so. */

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FDROUTE_C_API
#else
#define FDROUTE_C_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fdroute_status {
  FDROUTE_OK = 0,
  FDROUTE_INVALID_ARGUMENT = 1, /* an argument, or a policy string, is not as it must be */
  FDROUTE_NULL_MISMATCH = 2,    /* the null distribution was fitted on another score */
  FDROUTE_FILE_ERROR = 3,       /* a file is missing or does not hold what it must */
  FDROUTE_OUT_OF_MEMORY = 4,
  FDROUTE_INTERNAL_ERROR = 5
} fdroute_status;

/* Why this thread's latest call failed: one line, valid until its next call; "" after success. */
FDROUTE_C_API const char* fdroute_last_error(void);

/* "0.1.0", https://semver.org */
FDROUTE_C_API const char* fdroute_version(void);

/* ---- Null distributions ---- */

/* A null distribution for one MoE layer. */
typedef struct fdroute_null fdroute_null;

/* From `n` points of its log survival function: log_sf[i] = log P(S >= score[i]), natural. Scores
 * ascend strictly, log_sf does not increase and is at most 0, and falls in its last segment.
 * `score_name` is the score of the fit: "logit", "log_softmax" or "zscore". */
FDROUTE_C_API fdroute_status fdroute_null_create(const double* score, const double* log_sf,
                                                 size_t n, const char* score_name,
                                                 fdroute_null** null);

/* Layer `layer` of a nulls file, a safetensors file as docs/nulls.md describes it. */
FDROUTE_C_API fdroute_status fdroute_null_load(const char* path, int32_t layer,
                                               fdroute_null** null);

/* Does nothing if `null` is a null pointer. */
FDROUTE_C_API void fdroute_null_destroy(fdroute_null* null);

/* ---- Routers ---- */

typedef struct fdroute_router fdroute_router;

/* A router over rows of `experts` logits from a policy string; docs/policies.md lists them.
 * `null` is the null distribution for policies that read p-values; it is copied, and may be a null
 * pointer for the others. `selection_bias`, shape (experts), is for the presets that rank by one
 * (deepseek-v3, glm4-moe); it is copied, and a null pointer for all others. */
FDROUTE_C_API fdroute_status fdroute_router_create(const char* policy, int32_t experts,
                                                   const fdroute_null* null,
                                                   const float* selection_bias,
                                                   fdroute_router** router);

/* Does nothing if `router` is a null pointer. */
FDROUTE_C_API void fdroute_router_destroy(fdroute_router* router);

FDROUTE_C_API int32_t fdroute_router_experts(const fdroute_router* router);

/* The largest number of experts that a token can get: the least width of a row of the output. */
FDROUTE_C_API int32_t fdroute_router_capacity(const fdroute_router* router);

/* The policy with every setting written out; lives as long as the router. */
FDROUTE_C_API const char* fdroute_router_policy(const fdroute_router* router);

/* ---- Routing ---- */

typedef enum fdroute_dtype {
  FDROUTE_F32 = 0,
  FDROUTE_F16 = 1, /* IEEE 754 binary16 */
  FDROUTE_BF16 = 2
} fdroute_dtype;

typedef enum fdroute_padding {
  FDROUTE_MINUS_ONE = 0,   /* behind a token's experts: id -1, weight 0 */
  FDROUTE_REPEAT_VALID = 1 /* the id of the token's best expert, weight 0: the fixed top-k form */
} fdroute_padding;

/* Bits of a token's status. */
enum { FDROUTE_HAS_NAN = 1, FDROUTE_NO_FINITE_LOGIT = 2 };

/* Routes `tokens` rows of logits, `stride` elements of `dtype`, a fdroute_dtype, apart, into rows
 * of `capacity` places, filled up by `padding`, a fdroute_padding: experts and weights, shape
 * (tokens, capacity); counts, shape (tokens), the number of places that a token uses.
 * `token_status`, shape (tokens), may be a null pointer. Allocates nothing; a token's routing
 * depends on its own logits alone, so threads may share a batch. */
FDROUTE_C_API fdroute_status fdroute_route(const fdroute_router* router, const void* logits,
                                           int32_t dtype, int64_t tokens, int64_t stride,
                                           int32_t capacity, int32_t padding, int32_t* experts,
                                           float* weights, int32_t* counts, uint8_t* token_status);

#ifdef __cplusplus
}
#endif

#endif
