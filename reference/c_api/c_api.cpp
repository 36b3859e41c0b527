// The C interface but for its nulls file, for masks and caches, and for multiple testing: this
// translation unit needs fdroute's headers and nothing to link, so that an engine may compile it,
// as C++20, into itself.

#include "c_api/c_api.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fdroute/fdroute.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

using fdroute_c::at_least;
using fdroute_c::by_id_type;
using fdroute_c::given;
using fdroute_c::guarded;

namespace {

thread_local char message[1024];  // a fixed place: to say "out of memory" takes none

/// Calls route(rows) with a LogitsView, or with a BatchView where it takes one.
template <class T, class Route>
void in_rows(const fdroute_logits& logits, int experts, const Route& route) {
  const auto* data = static_cast<const T*>(logits.data);
  const bool apart = logits.tokens == 1 || logits.stride == 0 || logits.stride >= experts ||
                     logits.stride <= -experts;
  const bool contiguous = apart && (logits.expert_stride == 1 || experts == 1);
  if (contiguous && logits.masks == nullptr && logits.skip == nullptr)
    return route(fd::LogitsView<T>(data, logits.tokens, experts, logits.stride));
  route(fd::BatchView<T>{data, logits.tokens, experts, logits.stride, logits.expert_stride,
                         logits.masks, logits.mask_stride, logits.skip});
}

/// Checks the logits, and calls route(rows) as in_rows() does.
template <class Route>
void with_rows(const fdroute_logits& logits, const fd::AnyRouter& router, const Route& route) {
  given(logits.data, "logits");
  const int experts = router.experts();
  if (logits.masks != nullptr && logits.mask_stride != 0) {
    at_least("mask_stride", logits.mask_stride, "the words of a mask, ",
             fd::BitmaskView::words_per_token(experts));
  }
  switch (logits.dtype) {
    case FDROUTE_F32:
      return in_rows<float>(logits, experts, route);
    case FDROUTE_F16:
      return in_rows<Logit<olmoe::Half>>(logits, experts, route);
    case FDROUTE_BF16:
      return in_rows<Logit<olmoe::BFloat16>>(logits, experts, route);
  }
  throw std::invalid_argument("dtype is no fdroute_dtype: " + std::to_string(logits.dtype));
}

/// The number of tokens.
std::int64_t tokens_of(const fdroute_logits* logits) {
  return fdroute_c::not_negative(given(logits, "logits")->tokens, "tokens");
}

fd::Padding padding_of(std::int32_t padding) {
  if (padding != FDROUTE_MINUS_ONE && padding != FDROUTE_REPEAT_VALID)
    throw std::invalid_argument("padding is no fdroute_padding: " + std::to_string(padding));
  return padding == FDROUTE_REPEAT_VALID ? fd::Padding::repeat_valid : fd::Padding::minus_one;
}

// TokenStatus is an enumeration over uint8_t, with the bits that the C header names.
fd::TokenStatus* status_of(std::uint8_t* status) {
  return reinterpret_cast<fd::TokenStatus*>(status);
}

/// Ids that AnyRouter writes itself.
template <class Id>
constexpr bool is_routed = sizeof(Id) >= 4;

// How many ids of another type are held at a time, on the stack.
constexpr int chunk = 4096;
static_assert(chunk >= fd::max_experts);

/// Calls write(part, first, ids) with parts of `rows` of at most `width` ids a token, and room for
/// these. It returns how many it wrote, and where to put them as ids of type Id.
template <class Id, class Rows, class Write>
void in_chunks(const Rows& rows, std::int64_t width, const Write& write) {
  std::array<std::int32_t, chunk> ids;
  const std::int64_t most = chunk / width;
  for (std::int64_t first = 0; first < rows.tokens; first += most) {
    const std::int64_t tokens = std::min(most, rows.tokens - first);
    const auto [n, to] = write(rows.slice(first, tokens), first, ids.data());
    std::transform(ids.data(), ids.data() + n, to,
                   [](std::int32_t id) { return static_cast<Id>(id); });
  }
}

template <class Id, class Rows>
void route_to(const fd::AnyRouter& router, const Rows& rows, const fd::RoutingView<Id>& out) {
  if constexpr (is_routed<Id>) {
    router.route(rows, out);
  } else {
    in_chunks<Id>(rows, out.capacity, [&](const Rows& part, std::int64_t first, auto* ids) {
      const fd::RoutingView<Id> to = out.from(first);
      router.route(part, fd::RoutingView<std::int32_t>{ids, to.weights, to.counts, to.capacity,
                                                       to.padding, to.status});
      return std::pair{part.tokens * to.capacity, to.experts};
    });
  }
}

template <class Id, class Rows>
void route_to(const fd::AnyRouter& router, const Rows& rows, const fd::CsrView<Id>& out) {
  if constexpr (is_routed<Id>) {
    router.route(rows, out);
  } else {
    out.offsets[0] = 0;
    in_chunks<Id>(rows, router.capacity(), [&](const Rows& part, std::int64_t first, auto* ids) {
      const fd::CsrView<Id> to = out.from(first);
      const std::int64_t begin = to.offsets[0];
      router.route(part, fd::CsrView<std::int32_t>{to.offsets, ids, to.weights + begin, to.status});
      for (std::int64_t t = 0; t <= part.tokens; ++t) to.offsets[t] += begin;
      return std::pair{to.offsets[part.tokens] - begin, to.experts + begin};
    });
  }
}

/// complete() in place, of a view whose counts and ids are checked.
template <class Id, class Rows>
void complete_to(const fd::AnyRouter& router, const Rows& rows, fd::Residency resident,
                 fd::Completion completion, const fd::RoutingView<Id>& routing) {
  if constexpr (is_routed<Id>) {
    router.complete(rows, resident, completion, routing);
  } else {
    in_chunks<Id>(rows, routing.capacity, [&](const Rows& part, std::int64_t first, auto* ids) {
      const fd::RoutingView<Id> to = routing.from(first);
      const std::int64_t places = part.tokens * to.capacity;
      std::transform(to.experts, to.experts + places, ids,
                     [](Id id) { return static_cast<std::int32_t>(id); });
      router.complete(part, resident.from(first), completion,
                      fd::RoutingView<std::int32_t>{ids, to.weights, to.counts, to.capacity,
                                                    to.padding, to.status});
      return std::pair{places, to.experts};
    });
  }
}

/// A row of a type that is converted in passing fits in a chunk.
template <class Id>
void check_width(const fdroute_padded& out) {
  if (!is_routed<Id> && out.capacity > chunk) {
    throw std::invalid_argument("capacity must be at most " + std::to_string(chunk) +
                                " for ids of this type, got " + std::to_string(out.capacity));
  }
}

/// What a policy string takes from a null distribution and a selection bias.
fd::ParseOptions<> options_of(const fdroute_null* null, const float* selection_bias, int experts) {
  fd::ParseOptions<> options;
  if (null != nullptr) {
    options.null = null->table.has_value() ? &*null->table : nullptr;
    options.conformal = null->conformal.has_value() ? &*null->conformal : nullptr;
    options.expert_nulls = null->per_expert;
    options.prior = null->prior;
  }
  if (selection_bias != nullptr)
    options.selection_bias = {selection_bias, static_cast<std::size_t>(std::max(experts, 0))};
  return options;
}

fd::NullProvenance fitted_on(const char* score_name) {
  fd::NullProvenance provenance;
  provenance.score = given(score_name, "score_name");
  return provenance;
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
    *null = new fdroute_null{.table = fd::TabulatedNull::from_log_survival(
                                 {score, score + n}, {log_sf, log_sf + n}, fitted_on(score_name))};
  });
}

fdroute_status fdroute_null_create_conformal(const double* sample, size_t n, const char* score_name,
                                             fdroute_null** null) {
  return guarded([&] {
    given(sample, "sample");
    given(null, "null");
    *null = new fdroute_null{.conformal =
                                 fd::ConformalNull({sample, sample + n}, fitted_on(score_name))};
  });
}

fdroute_status fdroute_null_create_per_expert(const fdroute_null* const* nulls, size_t n,
                                              fdroute_null** null) {
  return guarded([&] {
    given(nulls, "nulls");
    given(null, "null");
    std::vector<fd::TabulatedNull> per_expert;
    for (std::size_t j = 0; j < n; ++j) {
      const std::string name = "nulls[" + std::to_string(j) + "]";
      const fdroute_null& of_expert = *given(nulls[j], name.c_str());
      if (!of_expert.table.has_value() || !of_expert.prior.empty())
        throw std::invalid_argument(name + " is no table");
      per_expert.push_back(*of_expert.table);
    }
    *null = new fdroute_null{.per_expert = std::move(per_expert)};
  });
}

fdroute_status fdroute_null_create_weighted(const fdroute_null* base, const double* prior, size_t n,
                                            fdroute_null** null) {
  return guarded([&] {
    given(prior, "prior");
    given(null, "null");
    fdroute_null weighted = base != nullptr ? *base : fdroute_null{};
    weighted.prior.assign(prior, prior + n);
    *null = new fdroute_null(std::move(weighted));
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
    *router = new fdroute_router{
        fd::parse_router(text, experts, options_of(null, selection_bias, experts))};
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
  const fdroute_logits rows{logits, dtype, tokens, stride, 1, nullptr, 0, nullptr};
  const fdroute_padded out{experts, FDROUTE_I32, capacity, padding, weights, counts, token_status};
  if (router != nullptr && tokens > 1 && stride < fdroute_router_experts(router)) {
    return guarded([&] { at_least("stride", stride, "the experts, ", router->router.experts()); });
  }
  return fdroute_route_padded(router, &rows, &out);
}

fdroute_status fdroute_route_padded(const fdroute_router* router, const fdroute_logits* logits,
                                    const fdroute_padded* out) {
  return guarded([&] {
    const fd::AnyRouter& route_by = given(router, "router")->router;
    if (tokens_of(logits) == 0) return;
    given(given(out, "out")->weights, "weights");
    given(out->counts, "counts");
    at_least("capacity", out->capacity, "the router's, ", route_by.capacity());
    const fd::Padding padding = padding_of(out->padding);
    by_id_type(out->id_type, out->experts, route_by.experts(), [&]<class Id>(Id* experts) {
      check_width<Id>(*out);
      const fd::RoutingView<Id> to{experts,       out->weights, out->counts,
                                   out->capacity, padding,      status_of(out->status)};
      with_rows(*logits, route_by, [&](const auto& rows) { route_to(route_by, rows, to); });
    });
  });
}

fdroute_status fdroute_route_csr(const fdroute_router* router, const fdroute_logits* logits,
                                 const fdroute_csr* out) {
  return guarded([&] {
    const fd::AnyRouter& route_by = given(router, "router")->router;
    const std::int64_t tokens = tokens_of(logits);
    given(given(out, "out")->offsets, "offsets");
    if (tokens == 0) {
      out->offsets[0] = 0;
      return;
    }
    given(out->weights, "weights");
    const std::int64_t capacity = route_by.capacity();
    if (out->places < 0 || out->places / capacity < tokens) {
      throw std::invalid_argument(
          "places must be at least the tokens times the router's capacity, " +
          std::to_string(capacity) + ", got " + std::to_string(out->places));
    }
    by_id_type(out->id_type, out->experts, route_by.experts(), [&]<class Id>(Id* experts) {
      const fd::CsrView<Id> to{out->offsets, experts, out->weights, status_of(out->status)};
      with_rows(*logits, route_by, [&](const auto& rows) { route_to(route_by, rows, to); });
    });
  });
}

fdroute_status fdroute_route_dense(const fdroute_router* router, const fdroute_logits* logits,
                                   const fdroute_dense* out) {
  return guarded([&] {
    const fd::AnyRouter& route_by = given(router, "router")->router;
    if (tokens_of(logits) == 0) return;
    given(given(out, "out")->weights, "weights");
    at_least("stride", out->stride, "the experts, ", route_by.experts());
    const fd::DenseView to{out->weights, out->stride, out->counts, status_of(out->status)};
    with_rows(*logits, route_by, [&](const auto& rows) { route_by.route(rows, to); });
  });
}

fdroute_status fdroute_route_bitmask(const fdroute_router* router, const fdroute_logits* logits,
                                     const fdroute_bitmask* out) {
  return guarded([&] {
    const fd::AnyRouter& route_by = given(router, "router")->router;
    if (tokens_of(logits) == 0) return;
    given(given(out, "out")->words, "words");
    at_least("stride", out->stride, "the words of a row, ",
             fd::BitmaskView::words_per_token(route_by.experts()));
    const fd::BitmaskView to{out->words, out->stride, out->counts, status_of(out->status)};
    with_rows(*logits, route_by, [&](const auto& rows) { route_by.route(rows, to); });
  });
}

fdroute_status fdroute_complete(const fdroute_router* router, const fdroute_logits* logits,
                                const uint64_t* resident, int64_t resident_stride, int32_t window,
                                int32_t max_k, const fdroute_padded* routing) {
  return guarded([&] {
    const fd::AnyRouter& by = given(router, "router")->router;
    const int experts = by.experts();
    const fd::Completion completion{window, max_k};
    completion.validate();
    const std::int64_t tokens = tokens_of(logits);
    if (tokens == 0) return;
    given(resident, "resident");
    if (resident_stride != 0) {
      at_least("resident_stride", resident_stride, "the words of a mask, ",
               fd::BitmaskView::words_per_token(experts));
    }
    given(given(routing, "routing")->weights, "weights");
    given(routing->counts, "counts");
    at_least("capacity", routing->capacity, "min(max_k, experts), ", std::min(max_k, experts));
    const fd::Padding padding = padding_of(routing->padding);
    by_id_type(routing->id_type, routing->experts, experts, [&]<class Id>(Id* ids) {
      check_width<Id>(*routing);
      const fd::RoutingView<Id> view{
          ids,     routing->weights,          routing->counts, routing->capacity,
          padding, status_of(routing->status)};
      fdroute_c::check_routing(view, tokens, experts);
      with_rows(*logits, by, [&](const auto& rows) {
        complete_to(by, rows, fd::Residency(resident, resident_stride), completion, view);
      });
    });
  });
}
