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
#include "fdroute/detail/route_blocks.hpp"
#include "fdroute/router.hpp"

namespace fdroute::inline v0 {

/// AnyRouter: a Router of any policy behind one type, for policies chosen at run time.
///
/// Same route(), same contracts, same results, at the price of one indirect call per block of
/// tokens. Expert ids are std::int32_t or std::int64_t. Copies share the immutable router.
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

  template <Execution E, class T, class Out>
  TokenStatus route(E execution, LogitsView<T> logits, Out out) const noexcept {
    detail::expects(logits.experts == experts_, "logits.experts == router.experts()");
    if constexpr (requires { out.capacity; })
      detail::expects(out.capacity >= capacity_, "out.capacity >= router.capacity()");
    constexpr bool convert = !std::is_same_v<T, float>;
    constexpr int block = convert ? 4 : detail::max_block_tokens;
    using Buffer = std::array<float, std::size_t{block} * max_experts>;
    return detail::route_blocks(
        execution, block, capacity_, logits, out, [&](LogitsView<T> rows, Out to) {
          if constexpr (convert) {
            Buffer buffer;
            float* end = buffer.data();
            for (std::ptrdiff_t token = 0; token < rows.tokens; ++token) {
              const T* from = rows.row(token);
              end = std::transform(from, from + experts_, end,
                                   [](const T& x) { return static_cast<float>(x); });
            }
            return model_->route(LogitsView<float>(buffer.data(), rows.tokens, experts_), to);
          } else {
            return model_->route(rows, to);
          }
        });
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual int experts() const noexcept = 0;
    virtual int capacity() const noexcept = 0;
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
