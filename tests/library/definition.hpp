#pragma once

#include <cstddef>

#include "fdroute/arch.hpp"
#include "fdroute/completion.hpp"
#include "fdroute/detail/block/complete.hpp"
#include "fdroute/detail/block/in_blocks.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/route_block.hpp"
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/router.hpp"
#include "fdroute/views.hpp"

namespace test {

/// Routes on the path that is the definition, token by token, without any kernel.
template <class E, class T, class View>
fdroute::TokenStatus route_as_defined(E execution, const fdroute::detail::ErasedRouter& router,
                                      fdroute::LogitsView<T> logits, View out) noexcept {
  return fdroute::detail::route_blocks(execution, 1, router.capacity, logits, out,
                                       [&](fdroute::LogitsView<T> row, View to) {
                                         return fdroute::detail::route_row(router, row.data, to);
                                       });
}

/// Completes as defined.
template <class T, class Id>
void complete_as_defined(const fdroute::detail::ErasedRouter& router, fdroute::LogitsView<T> logits,
                         fdroute::Residency resident, fdroute::Completion completion,
                         fdroute::RoutingView<Id> routing) noexcept {
  for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
    fdroute::detail::complete_row(router, logits.row(t), resident.mask_of(t), completion,
                                  routing.from(t));
  }
}

/// A router's policies on the path that is the definition, token by token, without any kernel.
template <class R, class S, class N, class W, class K>
class Definition {
  using Parts = fdroute::detail::RouterParts<R, S, N, W, K>;

 public:
  explicit Definition(const fdroute::Router<R, S, N, W, K>& router)
      : parts_{router.rule(),    router.score(),  router.null(),   router.weights(),
               router.ranking(), router.bounds(), router.experts()} {
    parts_.critical = fdroute::detail::critical_table(parts_);
  }

  int experts() const noexcept { return parts_.experts; }
  int capacity() const noexcept { return parts_.capacity(); }

  template <class = fdroute::DefaultArch, class T, class View>
  fdroute::TokenStatus route(fdroute::LogitsView<T> logits, View out) const noexcept {
    return route(fdroute::serial, logits, out);
  }

  template <class = fdroute::DefaultArch, class E, class T, class View>
  fdroute::TokenStatus route(E execution, fdroute::LogitsView<T> logits, View out) const noexcept {
    return route_as_defined(execution, erased<fdroute::ScalarArch>(), logits, out);
  }

  template <class = fdroute::DefaultArch, class T, class Id>
  void complete(fdroute::LogitsView<T> logits, fdroute::Residency resident,
                fdroute::Completion completion, fdroute::RoutingView<Id> routing) const noexcept {
    complete_as_defined(erased<fdroute::ScalarArch>(), logits, resident, completion, routing);
  }

  /// Valid as long as this.
  template <class Arch>
  fdroute::detail::ErasedRouter erased() const noexcept {
    return fdroute::detail::PolicyKernels<Arch, Parts>::erase(parts_);
  }

 private:
  Parts parts_;
};

}  // namespace test
