#pragma once

#include <fdroute/c_api.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

// A C++17 engine's view of fdroute: the C interface behind RAII. docs/embedding.md explains it.
namespace engine17 {

class Router {
 public:
  Router(const std::string& policy, int experts) : router_(nullptr, fdroute_router_destroy) {
    fdroute_router* router = nullptr;
    check(fdroute_router_create(policy.c_str(), experts, nullptr, nullptr, &router));
    router_.reset(router);
  }

  int capacity() const { return fdroute_router_capacity(router_.get()); }

  /// logits: (tokens, experts); ids and weights: (tokens, capacity()); counts: (tokens).
  void route(const float* logits, std::int64_t tokens, std::int32_t* ids, float* weights,
             std::int32_t* counts) const {
    check(fdroute_route(router_.get(), logits, FDROUTE_F32, tokens,
                        fdroute_router_experts(router_.get()), capacity(), FDROUTE_REPEAT_VALID,
                        ids, weights, counts, nullptr));
  }

 private:
  static void check(fdroute_status status) {
    if (status != FDROUTE_OK) throw std::runtime_error(fdroute_last_error());
  }

  std::unique_ptr<fdroute_router, void (*)(fdroute_router*)> router_;
};

}  // namespace engine17
