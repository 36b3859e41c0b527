#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "fdroute/arch.hpp"
#include "fdroute/completion.hpp"
#include "fdroute/detail/block/complete.hpp"
#include "fdroute/detail/block/gather.hpp"
#include "fdroute/detail/block/in_blocks.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/route_block.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/widen.hpp"
#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/router.hpp"

namespace fdroute::inline v0 {

/// AnyRouter: a Router of any policy behind one type, for policies chosen at run time.
///
/// route() takes what Router::route takes and gives its results, at the price of one indirect call
/// per block of tokens. Logits whose type has a logit_format are widened by vectors, those of other
/// types but float one by one. Expert ids are std::int32_t or std::int64_t. Copies share the
/// immutable router.
class AnyRouter {
 public:
  /// `policy` is the string that parse_router() would make this router from. Arch is the vector
  /// instruction set that it will route with, by default the translation unit's own.
  template <class Arch = DefaultArch, class R, class S, class N, class W, class K>
  AnyRouter(Router<R, S, N, W, K> router, std::string policy, Arch arch = {})
      : AnyRouter(std::make_shared<const Router<R, S, N, W, K>>(std::move(router)),
                  std::move(policy), arch) {}

  /// Of a router that others may share. It must not be null.
  template <class Arch = DefaultArch, class R, class S, class N, class W, class K>
  AnyRouter(std::shared_ptr<const Router<R, S, N, W, K>> router, std::string policy, Arch = {})
      : router_(router->template erased<Arch>()),
        functions_(&functions_on<Arch>),
        owner_(std::move(router)),
        policy_(std::move(policy)) {}

  int experts() const noexcept { return router_.experts; }
  int capacity() const noexcept { return router_.capacity; }

  /// The bounds of the router within. A preset's are those that it was made with, 1 to all experts.
  const ExpertBounds& bounds() const noexcept { return router_.bounds; }

  /// The routing weights, if they are SoftmaxWeights; null for any other policy. Valid as long as
  /// this router or a copy of it.
  const SoftmaxWeights* softmax_weights() const noexcept { return router_.weights.policy; }

  /// The policy with every setting written out; parse_router() reads it back.
  const std::string& policy() const noexcept { return policy_; }

  /// See Router::route.
  template <LogitsForm Logits, class Out>
  TokenStatus route(Logits logits, Out out) const noexcept {
    return route(serial, logits, out);
  }

  template <class E, LogitsForm Logits, class Out>
  TokenStatus route(E execution, Logits logits, Out out) const noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    detail::expect_valid(logits, experts());
    detail::expect_room(out, experts(), capacity());
    const auto route = std::get<RouteTo<Out>>(functions_->routes.all);
    const auto in_blocks = [&](const auto& route_block) {
      return detail::route_blocks(execution, router_.block_tokens(), capacity(), logits, out,
                                  route_block);
    };
    if constexpr (detail::is_batch<Logits>) {
      return in_blocks([&](Logits rows, Out to) {
        return detail::route_gathered(router_, rows, to,
                                      [&](LogitsView<float> floats, Out view) noexcept {
                                        return route(router_, floats, view);
                                      });
      });
    } else if constexpr (std::is_same_v<Logits, LogitsView<float>>) {
      return in_blocks([&](Logits rows, Out to) { return route(router_, rows, to); });
    } else {
      return in_blocks([&](Logits rows, Out to) {
        Buffer buffer;
        convert_rows(rows, buffer.data());
        return route(router_, {buffer.data(), rows.tokens, experts()}, to);
      });
    }
  }

  /// See Router::complete.
  template <LogitsForm Logits, class Id>
  void complete(Logits logits, Residency resident, Completion completion,
                RoutingView<Id> routing) const noexcept {
    complete(serial, logits, resident, completion, routing);
  }

  template <class E, LogitsForm Logits, class Id>
  void complete(E execution, Logits logits, Residency resident, Completion completion,
                RoutingView<Id> routing) const noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    detail::expect_valid(logits, experts());
    detail::expect_completable(resident, completion, routing, experts());
    const auto complete = std::get<CompleteIn<Id>>(functions_->completions);
    detail::complete_blocks(execution, router_.block_tokens(), logits, resident, routing,
                            [&](Logits rows, Residency here, RoutingView<Id> to) {
                              const auto complete_floats = [&](LogitsView<float> floats) {
                                complete(router_, floats, here, completion, to);
                              };
                              if constexpr (detail::is_batch<Logits>) {
                                detail::complete_gathered(experts(), rows, complete_floats);
                              } else if constexpr (std::is_same_v<Logits, LogitsView<float>>) {
                                complete_floats(rows);
                              } else {
                                Buffer buffer;
                                convert_rows(rows, buffer.data());
                                complete_floats({buffer.data(), rows.tokens, experts()});
                              }
                            });
  }

 private:
  // A block's rows, and what widen_rows() writes after them.
  using Buffer = std::array<float, detail::TokenBlock::max_floats + 15>;

  template <class T>
  void convert_rows(LogitsView<T> rows, float* to) const noexcept {
    constexpr LogitFormat format = logit_format<T>;
    if constexpr (format != LogitFormat::by_conversion) {
      static_assert(sizeof(T) == 2 && std::is_trivially_copyable_v<T>);
      const auto* bytes = reinterpret_cast<const std::byte*>(rows.data);
      if (functions_->widen(format, bytes, rows.stride, rows.tokens, experts(), to)) return;
    }
    for (std::ptrdiff_t token = 0; token < rows.tokens; ++token) {
      const T* from = rows.row(token);
      to = std::transform(from, from + experts(), to,
                          [](const T& x) { return static_cast<float>(x); });
    }
  }

  template <class View>
  using RouteTo = TokenStatus (*)(const detail::ErasedRouter&, LogitsView<float>, View) noexcept;

  // One pointer for every type of views that this class takes.
  template <class... Views>
  struct Routes {
    std::tuple<RouteTo<Views>...> all;
    template <class Arch>
    static constexpr Routes on() noexcept {
      return {{detail::BlockRouter<Arch>::template route<float, Views>...}};
    }
  };
  using Pointers = Routes<RoutingView<std::int32_t>, RoutingView<std::int64_t>,
                          CsrView<std::int32_t>, CsrView<std::int64_t>, DenseView, BitmaskView>;

  template <class Id>
  using CompleteIn = void (*)(const detail::ErasedRouter&, LogitsView<float>, Residency, Completion,
                              RoutingView<Id>) noexcept;
  using Completions = std::tuple<CompleteIn<std::int32_t>, CompleteIn<std::int64_t>>;

  struct Functions {
    Pointers routes;
    Completions completions;
    // See detail::widen_rows.
    bool (*widen)(LogitFormat, const std::byte* rows, std::ptrdiff_t stride, std::ptrdiff_t tokens,
                  int experts, float* to) noexcept;
  };

  template <class Arch>
  static constexpr Functions functions_on = {
      Pointers::on<Arch>(),
      {detail::BlockCompleter<Arch>::template complete<float, std::int32_t>,
       detail::BlockCompleter<Arch>::template complete<float, std::int64_t>},
      detail::widen_rows<Arch>};

  detail::ErasedRouter router_;
  const Functions* functions_;
  std::shared_ptr<const void> owner_;  // the Router of which router_ is a view
  std::string policy_;
};

}  // namespace fdroute::inline v0
