#pragma once

#include <fdroute/c_api.h>
#include <cstdint>
#include <exception>
#include <fdroute/null/conformal.hpp>
#include <fdroute/null/tabulated.hpp>
#include <fdroute/router.hpp>
#include <fdroute/views.hpp>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "formats/error.hpp"

/// What policy strings take as given of null distributions.
struct fdroute_null {
  std::optional<fdroute::TabulatedNull> table{};
  std::optional<fdroute::ConformalNull> conformal{};
  std::vector<fdroute::TabulatedNull> per_expert{};
  std::vector<double> prior{};
};

namespace fdroute_c {

/// Keeps `text` for fdroute_last_error(), cut to its place, and returns `status`.
fdroute_status report(fdroute_status status, std::string_view text) noexcept;

/// `pointer`, unless it is null: then std::invalid_argument, with its `name`.
template <class T>
T* given(T* pointer, const char* name) {
  if (pointer == nullptr)
    throw std::invalid_argument(std::string(name) + " must not be a null pointer");
  return pointer;
}

inline void at_least(const char* what, std::int64_t value, const std::string& whose,
                     std::int64_t least) {
  if (value < least) {
    throw std::invalid_argument(std::string(what) + " must be at least " + whose +
                                std::to_string(least) + ", got " + std::to_string(value));
  }
}

inline std::int64_t not_negative(std::int64_t value, const char* name) {
  if (value < 0)
    throw std::invalid_argument(std::string(name) + " must be >= 0, got " + std::to_string(value));
  return value;
}

/// Calls route(ids) with `experts` as a pointer to ids of this type, which must hold all experts'.
template <class Route>
void by_id_type(std::int32_t type, void* experts, int n_experts, const Route& route) {
  given(experts, "experts");
  switch (type) {
    case FDROUTE_I32:
      return route(static_cast<std::int32_t*>(experts));
    case FDROUTE_I64:
      return route(static_cast<std::int64_t*>(experts));
    case FDROUTE_I16:
      return route(static_cast<std::int16_t*>(experts));
    case FDROUTE_U8:
      if (n_experts > 256) {
        throw std::invalid_argument("ids of type FDROUTE_U8 are for at most 256 experts, got " +
                                    std::to_string(n_experts));
      }
      return route(static_cast<std::uint8_t*>(experts));
  }
  throw std::invalid_argument("id_type is no fdroute_id_type: " + std::to_string(type));
}

/// Throws unless all counts and ids of a routing that is read lie in their ranges.
template <class Id>
void check_routing(const fdroute::RoutingView<Id>& routing, std::int64_t tokens, int experts) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const fdroute::RoutingView<Id> row = fdroute::detail::selection_of(routing, t);
    const std::int32_t count = row.counts[0];
    if (count < 0 || count > row.capacity) {
      throw std::invalid_argument("counts must lie in [0, " + std::to_string(row.capacity) +
                                  "], got " + std::to_string(count));
    }
    for (std::int32_t i = 0; i < count; ++i) {
      const auto id = static_cast<std::int64_t>(row.experts[i]);
      if (id < 0 || id >= experts) {
        throw std::invalid_argument("ids must lie in [0, " + std::to_string(experts) + "), got " +
                                    std::to_string(id));
      }
    }
  }
}

/// Runs the body of a C function: what it throws becomes a status and a text.
template <class Body>
fdroute_status guarded(const Body& body) noexcept {
  try {
    body();
    return report(FDROUTE_OK, "");
  } catch (const fdroute::NullMismatch& error) {
    return report(FDROUTE_NULL_MISMATCH, error.what());
  } catch (const std::invalid_argument& error) {
    return report(FDROUTE_INVALID_ARGUMENT, error.what());
  } catch (const olmoe::Error& error) {
    return report(FDROUTE_FILE_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return report(FDROUTE_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return report(FDROUTE_INTERNAL_ERROR, error.what());
  } catch (...) {
    return report(FDROUTE_INTERNAL_ERROR, "something that is no std::exception was thrown");
  }
}

}  // namespace fdroute_c
