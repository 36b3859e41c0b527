#ifndef FDROUTE_C_API_H
#define FDROUTE_C_API_H

/* fdroute for C, and for whatever can call C. See docs/c-api.md.
 *
 * Handles are opaque and, but for a cache, immutable: any number of threads may use one at a time.
 * A function that can fail returns a fdroute_status; the reason is then fdroute_last_error(), of
 * the calling thread. No C++ exception leaves the library. A pointer argument may be null only
 * where its comment says so. */

#include <stddef.h>
#include <stdint.h>

/* Define FDROUTE_C_STATIC where the interface is compiled in, not linked from its library. */
#if defined(_WIN32) && defined(FDROUTE_C_STATIC)
#define FDROUTE_C_API
#elif defined(_WIN32) && defined(FDROUTE_C_BUILD)
#define FDROUTE_C_API __declspec(dllexport)
#elif defined(_WIN32)
#define FDROUTE_C_API __declspec(dllimport)
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

/* "0.2.0", https://semver.org */
FDROUTE_C_API const char* fdroute_version(void);

/* ---- Null distributions ---- */

/* A null distribution for one MoE layer; of every expert its own, if it is so made. */
typedef struct fdroute_null fdroute_null;

/* From `n` points of its log survival function: log_sf[i] = log P(S >= score[i]), natural. Scores
 * ascend strictly, log_sf does not increase and is at most 0, and falls in its last segment.
 * `score_name` is the score of the fit: "logit", "log_softmax", "zscore" or
 * "robust_zscore". */
FDROUTE_C_API fdroute_status fdroute_null_create(const double* score, const double* log_sf,
                                                 size_t n, const char* score_name,
                                                 fdroute_null** null);

/* Layer `layer` of a nulls file, a safetensors file as docs/nulls.md describes it. */
FDROUTE_C_API fdroute_status fdroute_null_load(const char* path, int32_t layer,
                                               fdroute_null** null);

/* From a calibration sample of `n` scores of unneeded experts, in any order: the p-value is the
 * score's rank among them. For policy strings it is null=conformal. */
FDROUTE_C_API fdroute_status fdroute_null_create_conformal(const double* sample, size_t n,
                                                           const char* score_name,
                                                           fdroute_null** null);

/* One null distribution for each of `n` experts, nulls[0] to nulls[n - 1], from fdroute_null_create
 * or fdroute_null_load; they are copied. For policy strings it is null=per_expert. */
FDROUTE_C_API fdroute_status fdroute_null_create_per_expert(const fdroute_null* const* nulls,
                                                            size_t n, fdroute_null** null);

/* `base`, with the p-values of expert j divided by prior[j], shape (n): finite, at least 0, of mean
 * 1. `base` is copied. It may be a null pointer: then the policy string names the null
 * distribution, normal or logistic. For policy strings it is prior=given. */
FDROUTE_C_API fdroute_status fdroute_null_create_weighted(const fdroute_null* base,
                                                          const double* prior, size_t n,
                                                          fdroute_null** null);

/* Does nothing if `null` is a null pointer. */
FDROUTE_C_API void fdroute_null_destroy(fdroute_null* null);

/* ---- Routers ---- */

typedef struct fdroute_router fdroute_router;

/* A router over rows of `experts` logits from a policy string; docs/policies.md lists them.
 * `null` is the null distribution for policies that read p-values; it is copied, and may be a null
 * pointer for the others. `selection_bias`, shape (experts), is for rankings by a sigmoid, as that
 * of the presets deepseek-v3 and glm4-moe; it is copied, and may be a null pointer for all others.
 * Both together serve "preset:deepseek-v3,rule=bh,alpha=0.05". */
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

/* Types of expert ids. Each must hold every expert's: FDROUTE_U8 is for at most 256 of them. */
typedef enum fdroute_id_type {
  FDROUTE_I32 = 0,
  FDROUTE_I64 = 1,
  FDROUTE_I16 = 2,
  FDROUTE_U8 = 3 /* -1 is 255 */
} fdroute_id_type;

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

/* Rows of logits anywhere in memory: logit j of token t is element t * stride + j * expert_stride
 * of `data`. Strides count elements and may be 0 or negative. A transposed matrix (experts, tokens)
 * has stride 1 and expert_stride `tokens`. What is no plain rows is copied in passing.
 *
 * `masks` may be a null pointer: then every expert is allowed. Expert j is allowed to token t if
 * bit j % 64 of masks[t * mask_stride + j / 64] is set; mask_stride is at least (experts + 63) /
 * 64, or 0 for one mask for all tokens. A token is routed as if the logits of the others were -inf,
 * and they are left out of what is selected. `skip`, shape (tokens), may be a null pointer: a token
 * whose byte is not 0 has count 0 and status 0. A struct of zeros has neither. */
typedef struct fdroute_logits {
  const void* data;
  int32_t dtype; /* a fdroute_dtype */
  int64_t tokens;
  int64_t stride;
  int64_t expert_stride; /* 1: a row is contiguous */
  const uint64_t* masks;
  int64_t mask_stride;
  const uint8_t* skip;
} fdroute_logits;

/* Routings, written to the caller's memory. `experts` is an array of `id_type`, a fdroute_id_type.
 * `status`, shape (tokens), may be a null pointer, and of dense and bitmask `counts`, too. */

/* experts and weights, shape (tokens, capacity), in order of preference; counts, shape (tokens).
 * `capacity` is at least the router's. */
typedef struct fdroute_padded {
  void* experts;
  int32_t id_type;
  int32_t capacity;
  int32_t padding; /* a fdroute_padding */
  float* weights;
  int32_t* counts;
  uint8_t* status;
} fdroute_padded;

/* Compressed rows: token t owns places offsets[t] to offsets[t + 1] of experts and weights; offsets
 * has shape (tokens + 1). experts and weights have `places` places, at least tokens * the router's
 * capacity; those behind offsets[tokens] are left unspecified. */
typedef struct fdroute_csr {
  int64_t* offsets;
  void* experts;
  int32_t id_type;
  float* weights;
  int64_t places;
  uint8_t* status;
} fdroute_csr;

/* weights[t * stride + j] is expert j's, 0 if it is not selected. stride >= experts; what lies
 * between the rows is left alone. */
typedef struct fdroute_dense {
  float* weights;
  int64_t stride;
  int32_t* counts;
  uint8_t* status;
} fdroute_dense;

/* Bit j % 64 of words[t * stride + j / 64] is set if expert j is selected. A row has `stride`
 * words, at least (experts + 63) / 64; those behind them are set to 0. */
typedef struct fdroute_bitmask {
  uint64_t* words;
  int64_t stride;
  int32_t* counts;
  uint8_t* status;
} fdroute_bitmask;

/* fdroute_route() to each form, from rows anywhere. What they allocate and depend on is as there.
 * A pointer of a struct may be null only where it is said above, or if there are no tokens. */
FDROUTE_C_API fdroute_status fdroute_route_padded(const fdroute_router* router,
                                                  const fdroute_logits* logits,
                                                  const fdroute_padded* out);
FDROUTE_C_API fdroute_status fdroute_route_csr(const fdroute_router* router,
                                               const fdroute_logits* logits,
                                               const fdroute_csr* out);
FDROUTE_C_API fdroute_status fdroute_route_dense(const fdroute_router* router,
                                                 const fdroute_logits* logits,
                                                 const fdroute_dense* out);
FDROUTE_C_API fdroute_status fdroute_route_bitmask(const fdroute_router* router,
                                                   const fdroute_logits* logits,
                                                   const fdroute_bitmask* out);

/* ---- Experts that cost nothing now ---- */

/* Masks of experts: bit j % 64 of word j / 64 is expert j's; a mask has (experts + 63) / 64 words.
 * docs/residency.md has the formulas. */

/* Completes a routing in place: adds to each token, best first, those of its `window` best experts
 * that are resident, until it has `max_k`. `routing` is what fdroute_route_padded() wrote for these
 * logits; its capacity is at least min(max_k, experts). `resident` has a mask for each token,
 * `resident_stride` words apart, or, with resident_stride 0, one for all. window and max_k are at
 * least 1. Allocates nothing. On an error the routing is as it was. */
FDROUTE_C_API fdroute_status fdroute_complete(const fdroute_router* router,
                                              const fdroute_logits* logits,
                                              const uint64_t* resident, int64_t resident_stride,
                                              int32_t window, int32_t max_k,
                                              const fdroute_padded* routing);

/* The experts that some of the routing's `tokens` tokens selected: `mask` is written. Its `padding`
 * and `status` are not read, nor here its `weights`. */
FDROUTE_C_API fdroute_status fdroute_union(const fdroute_padded* routing, int64_t tokens,
                                           int32_t experts, uint64_t* mask);

/* The `keep` best experts of every token, and then, as long as there are fewer than `budget`, those
 * of the largest weight summed over the tokens, of equal sums the lower expert. */
FDROUTE_C_API fdroute_status fdroute_budget(const fdroute_padded* routing, int64_t tokens,
                                            int32_t experts, int32_t budget, int32_t keep,
                                            uint64_t* mask);

/* A cache of `size` of a layer's `experts` experts, of which the least recently used leaves first.
 * Not immutable: one thread at a time. */
typedef struct fdroute_cache fdroute_cache;

FDROUTE_C_API fdroute_status fdroute_cache_create(int32_t experts, int32_t size,
                                                  fdroute_cache** cache);

/* Does nothing if `cache` is a null pointer. */
FDROUTE_C_API void fdroute_cache_destroy(fdroute_cache* cache);

/* Uses the experts of each token of a routing, one token after the other. `loads`, which may be a
 * null pointer, is how many were not there when a token used them. On an error the cache is as it
 * was. */
FDROUTE_C_API fdroute_status fdroute_cache_touch(fdroute_cache* cache,
                                                 const fdroute_padded* routing, int64_t tokens,
                                                 int64_t* loads);

/* Writes the mask of the experts that are there. */
FDROUTE_C_API fdroute_status fdroute_cache_resident(const fdroute_cache* cache, uint64_t* mask);

/* ---- Multiple testing, without a router ---- */

/* `rule` is a policy string with a rule's own settings alone, "bh:alpha=0.05" or
 * "hc:search=0.5,level=0.1". `p`, shape (m), holds p-values in [0, 1] in any order; NaN counts as
 * 1. docs/rules.md says what each rule promises. These functions allocate. */

/* How many hypotheses the rule rejects, and which: rejected[j] is 1 if p[j] is at most the largest
 * p-value that is rejected, else 0. Either pointer may be null. Equal p-values are rejected
 * together; of them `count` may count fewer under topk, hc and bj. */
FDROUTE_C_API fdroute_status fdroute_rejections(const char* rule, const double* p, size_t m,
                                                int64_t* count, uint8_t* rejected);

/* The adjusted p-values, shape (m), of a rule that has them: by fdroute_rejections() it rejects
 * p[j] exactly when adjusted[j] <= alpha, but for rounding. `adjusted` may be `p`. */
FDROUTE_C_API fdroute_status fdroute_adjusted(const char* rule, const double* p, size_t m,
                                              double* adjusted);

/* Weighted p-values, shape (m): min(1, p[j] / prior[j]), and 1 where prior[j] is 0. `prior` is
 * finite, at least 0 and of mean 1. `weighted` may be `p`. */
FDROUTE_C_API fdroute_status fdroute_weighted_p_values(const double* p, const double* prior,
                                                       size_t m, double* weighted);

#ifdef __cplusplus
}
#endif

#endif
