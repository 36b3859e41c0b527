#pragma once

#include <string>
#include <string_view>

#include "fdroute/completion.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"

namespace fdroute::inline v0 {

/// A Completion from a string, "completion:window=12,max_k=8". A key that is not given has its
/// default; "completion" alone has both. It is a string of its own and no key of a policy string:
/// a policy's routing depends on a token's logits alone, a completion needs masks, too.
///
/// Throws std::invalid_argument with the position and what is accepted, as parse_router() does.
inline Completion parse_completion(std::string_view text) {
  detail::PolicyArguments arguments(text);
  if (arguments.name() != "completion" || arguments.is_preset()) {
    arguments.fail(arguments.name_position(),
                   "'completion' expected, got " + detail::quote(arguments.name()));
  }
  const Completion otherwise;
  Completion completion;
  completion.window = arguments.number("window", otherwise.window);
  completion.max_k = arguments.number("max_k", otherwise.max_k);
  arguments.finish();
  for (const std::string_view key : {"window", "max_k"}) {
    const int value = key == "window" ? completion.window : completion.max_k;
    if (value < 1) {
      arguments.fail_at(key,
                        std::string(key) + " must be at least 1, got " + std::to_string(value));
    }
  }
  return completion;
}

/// "completion:window=8,max_k=8": every setting written out; parse_completion() reads it back.
inline std::string describe(const Completion& completion) {
  return "completion:window=" + std::to_string(completion.window) +
         ",max_k=" + std::to_string(completion.max_k);
}

}  // namespace fdroute::inline v0
