// The C interface but for its nulls file: this translation unit needs fdroute's headers and nothing
// to link, so that an engine may compile it, as C++20, into itself.

#include "c_api/c_api.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fdroute/fdroute.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "formats/float16.hpp"

namespace fd = fdroute;

struct fdroute_router {
  fd::AnyRouter router;
};

namespace {

// What LogitsView asks of an element type.
template <class Storage>
struct Logit {
  Storage stored;
  explicit operator float() const { return olmoe::to_float(stored); }
};

static_assert(sizeof(Logit<olmoe::Half>) == 2 && sizeof(fd::TokenStatus) == 1);

}  // namespace

template <>
inline constexpr auto fdroute::logit_format<Logit<olmoe::Half>> = fdroute::LogitFormat::float16;
template <>
inline constexpr auto fdroute::logit_format<Logit<olmoe::BFloat16>> =
    fdroute::LogitFormat::bfloat16;

namespace {

thread_local char message[1024];  // a fixed place: to say "out of memory" takes none

template <class T>
void route(const fd::AnyRouter& router, const void* logits, std::int64_t tokens,
           std::int64_t stride, const fd::RoutingView<std::int32_t>& out) {
  router.route(fd::LogitsView<T>(static_cast<const T*>(logits), tokens, router.experts(), stride),
               out);
}

}  // namespace

namespace fdroute_c {

fdroute_status report(fdroute_status status, std::string_view text) noexcept {
  const std::size_t length = std::min(text.size(), sizeof message - 1);
  std::copy_n(text.begin(), length, message);
  message[length] = '\0';
  return status;
}

}  // namespace fdroute_c

using fdroute_c::given;
using fdroute_c::guarded;

const char* fdroute_last_error(void) {
  return message;
}

#define FDROUTE_TEXT_OF(x) #x
#define FDROUTE_TEXT(x) FDROUTE_TEXT_OF(x)

const char* fdroute_version(void) {
  return FDROUTE_TEXT(FDROUTE_VERSION_MAJOR) "." FDROUTE_TEXT(
      FDROUTE_VERSION_MINOR) "." FDROUTE_TEXT(FDROUTE_VERSION_PATCH);
}

fdroute_status fdroute_null_create(const double* score, const double* log_sf, size_t n,
                                   const char* score_name, fdroute_null** null) {
  return guarded([&] {
    given(score, "score");
    given(log_sf, "log_sf");
    given(null, "null");
    fd::NullProvenance provenance;
    provenance.score = given(score_name, "score_name");
    *null = new fdroute_null{fd::TabulatedNull::from_log_survival(
        {score, score + n}, {log_sf, log_sf + n}, std::move(provenance))};
  });
}

void fdroute_null_destroy(fdroute_null* null) {
  delete null;
}

fdroute_status fdroute_router_create(const char* policy, int32_t experts, const fdroute_null* null,
                                     const float* selection_bias, fdroute_router** router) {
  return guarded([&] {
    const std::string_view text = given(policy, "policy");
    given(router, "router");
    if (null != nullptr && selection_bias != nullptr)
      throw std::invalid_argument("no policy takes both a null and a selection_bias");
    const std::span<const float> bias(
        selection_bias,
        selection_bias == nullptr ? 0 : static_cast<std::size_t>(std::max(experts, 0)));
    *router = new fdroute_router{null != nullptr ? fd::parse_router(text, experts, null->table)
                                                 : fd::parse_router(text, experts, bias)};
  });
}

void fdroute_router_destroy(fdroute_router* router) {
  delete router;
}

int32_t fdroute_router_experts(const fdroute_router* router) {
  return router->router.experts();
}

int32_t fdroute_router_capacity(const fdroute_router* router) {
  return router->router.capacity();
}

const char* fdroute_router_policy(const fdroute_router* router) {
  return router->router.policy().c_str();
}

fdroute_status fdroute_route(const fdroute_router* router, const void* logits, int32_t dtype,
                             int64_t tokens, int64_t stride, int32_t capacity, int32_t padding,
                             int32_t* experts, float* weights, int32_t* counts,
                             uint8_t* token_status) {
  return guarded([&] {
    const fd::AnyRouter& route_by = given(router, "router")->router;
    if (tokens < 0)
      throw std::invalid_argument("tokens must be >= 0, got " + std::to_string(tokens));
    if (tokens == 0) return;
    given(logits, "logits");
    given(experts, "experts");
    given(weights, "weights");
    given(counts, "counts");
    if (tokens > 1 && stride < route_by.experts()) {
      throw std::invalid_argument("stride must be at least the " +
                                  std::to_string(route_by.experts()) + " experts, got " +
                                  std::to_string(stride));
    }
    if (capacity < route_by.capacity()) {
      throw std::invalid_argument("capacity must be at least the router's, " +
                                  std::to_string(route_by.capacity()) + ", got " +
                                  std::to_string(capacity));
    }
    if (padding != FDROUTE_MINUS_ONE && padding != FDROUTE_REPEAT_VALID)
      throw std::invalid_argument("padding is no fdroute_padding: " + std::to_string(padding));
    const fd::RoutingView<std::int32_t> out{
        experts, weights, counts, capacity,
        padding == FDROUTE_REPEAT_VALID ? fd::Padding::repeat_valid : fd::Padding::minus_one,
        // TokenStatus is an enumeration over uint8_t, with the bits that the C header names.
        reinterpret_cast<fd::TokenStatus*>(token_status)};
    switch (dtype) {
      case FDROUTE_F32:
        return route<float>(route_by, logits, tokens, stride, out);
      case FDROUTE_F16:
        return route<Logit<olmoe::Half>>(route_by, logits, tokens, stride, out);
      case FDROUTE_BF16:
        return route<Logit<olmoe::BFloat16>>(route_by, logits, tokens, stride, out);
    }
    throw std::invalid_argument("dtype is no fdroute_dtype: " + std::to_string(dtype));
  });
}
