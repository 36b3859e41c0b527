#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/router.hpp"

namespace fdroute::inline v0::detail {

/// make(), what it throws with the policy's text in front. A NullMismatch stays as it is, and all
/// does without exceptions.
template <class Make>
auto name_errors(std::string_view policy, const Make& make) {
#if defined(__cpp_exceptions)
  try {
    return make();
  } catch (const NullMismatch&) {
    throw;
  } catch (const std::invalid_argument& error) {
    const std::string fact = error.what();
    if (fact.starts_with("policy '")) throw;
    refuse("policy " + quote(policy) + ": " + fact);
  }
#else
  static_cast<void>(policy);
  return make();
#endif
}

}  // namespace fdroute::inline v0::detail
