#pragma once

#include <fdroute/c_api.h>
#include <exception>
#include <fdroute/null/conformal.hpp>
#include <fdroute/null/tabulated.hpp>
#include <fdroute/router.hpp>
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
