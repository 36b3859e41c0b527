#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "fdroute/arch.hpp"
#include "fdroute/detail/block/in_blocks.hpp"
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
  AnyRouter(Router<R, S, N, W, K> router, std::string policy, Arch = {})
      : model_(std::make_shared<const Model<Arch, Router<R, S, N, W, K>>>(std::move(router))),
        policy_(std::move(policy)),
        experts_(model_->experts()),
        capacity_(model_->capacity()) {}

  int experts() const noexcept { return experts_; }
  int capacity() const noexcept { return capacity_; }

  /// The bounds of the router within. A preset's are those that it was made with, 1 to all experts.
  const ExpertBounds& bounds() const noexcept { return model_->bounds(); }

  /// The routing weights, if they are SoftmaxWeights; null for any other policy. Valid as long as
  /// this router or a copy of it.
  const SoftmaxWeights* softmax_weights() const noexcept { return model_->softmax_weights(); }

  /// The policy with every setting written out; parse_router() reads it back.
  const std::string& policy() const noexcept { return policy_; }

  /// See Router::route.
  template <class T, class Out>
  TokenStatus route(LogitsView<T> logits, Out out) const noexcept {
    return route(serial, logits, out);
  }

  template <class E, class T, class Out>
  TokenStatus route(E execution, LogitsView<T> logits, Out out) const noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    detail::expect_valid(logits, experts_);
    detail::expect_room(out, experts_, capacity_);
    constexpr bool convert = !std::is_same_v<T, float>;
    const std::ptrdiff_t block =
        convert ? detail::TokenBlock::tokens_of(experts_) : detail::max_block_tokens;
    return detail::route_blocks(
        execution, block, capacity_, logits, out, [&](LogitsView<T> rows, Out to) {
          if constexpr (convert) {
            Buffer buffer;
            convert_rows(rows, buffer.data());
            return model_->route({buffer.data(), rows.tokens, experts_}, to);
          } else {
            return model_->route(rows, to);
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
      if (model_->widen(format, bytes, rows.stride, rows.tokens, to)) return;
    }
    for (std::ptrdiff_t token = 0; token < rows.tokens; ++token) {
      const T* from = rows.row(token);
      to = std::transform(from, from + experts_, to,
                          [](const T& x) { return static_cast<float>(x); });
    }
  }

  struct Interface {
    virtual ~Interface() = default;
    virtual int experts() const noexcept = 0;
    virtual int capacity() const noexcept = 0;
    // See detail::widen_rows.
    virtual bool widen(LogitFormat, const std::byte* rows, std::ptrdiff_t stride,
                       std::ptrdiff_t tokens, float* to) const noexcept = 0;
    virtual const ExpertBounds& bounds() const noexcept = 0;
    virtual const SoftmaxWeights* softmax_weights() const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, RoutingView<std::int32_t>) const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, RoutingView<std::int64_t>) const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, CsrView<std::int32_t>) const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, CsrView<std::int64_t>) const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, DenseView) const noexcept = 0;
    virtual TokenStatus route(LogitsView<float>, BitmaskView) const noexcept = 0;
  };

  template <class Arch, class AnyPolicy>
  struct Model final : Interface {
    explicit Model(AnyPolicy policy) : router(std::move(policy)) {}
    int experts() const noexcept override { return router.experts(); }
    int capacity() const noexcept override { return router.capacity(); }
    bool widen(LogitFormat format, const std::byte* rows, std::ptrdiff_t stride,
               std::ptrdiff_t tokens, float* to) const noexcept override {
      return detail::widen_rows<Arch>(format, rows, stride, tokens, router.experts(), to);
    }
    const ExpertBounds& bounds() const noexcept override { return router.bounds(); }
    const SoftmaxWeights* softmax_weights() const noexcept override {
      if constexpr (std::same_as<decltype(router.weights()), const SoftmaxWeights&>) {
        return &router.weights();
      } else {
        return nullptr;
      }
    }
    TokenStatus route(LogitsView<float> logits,
                      RoutingView<std::int32_t> out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    TokenStatus route(LogitsView<float> logits,
                      RoutingView<std::int64_t> out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    TokenStatus route(LogitsView<float> logits, CsrView<std::int32_t> out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    TokenStatus route(LogitsView<float> logits, CsrView<std::int64_t> out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    TokenStatus route(LogitsView<float> logits, DenseView out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    TokenStatus route(LogitsView<float> logits, BitmaskView out) const noexcept override {
      return router.template route<Arch>(logits, out);
    }
    AnyPolicy router;
  };

  std::shared_ptr<const Interface> model_;
  std::string policy_;
  int experts_;
  int capacity_;
};

}  // namespace fdroute::inline v0
