#pragma once

#ifndef EIGEN_USE_THREADS
#error "fdroute/eigen_threads.hpp needs EIGEN_USE_THREADS: define it before any header of Eigen"
#endif

#include <atomic>
#include <cstddef>
#include <unsupported/Eigen/CXX11/Tensor>

#include "fdroute/eigen.hpp"
#include "fdroute/execution.hpp"

namespace fdroute::inline v0 {

/// EigenThreads: an execution by the threads of an Eigen::ThreadPoolDevice, which must outlive the
/// calls. route() of Eigen objects takes the device itself. The device allocates a job for each
/// share of the work; where it cannot, the process ends, as an execution throws nothing.
class EigenThreads {
 public:
  explicit EigenThreads(const Eigen::ThreadPoolDevice& device) noexcept : device_(&device) {}

  /// Calls body(i) once for each i in [0, n), on the device's threads and the calling one.
  template <class Body>
  TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    // What a block of 16 tokens takes, roughly: the device makes no shares that are not worth it.
    const Eigen::TensorOpCost cost(4096.0, 1024.0, 8000.0);
    std::atomic<unsigned> status{0};
    device_->parallelFor(n, cost, [&](std::ptrdiff_t first, std::ptrdiff_t end) {
      unsigned of_share = 0;
      for (std::ptrdiff_t i = first; i < end; ++i) of_share |= static_cast<unsigned>(body(i));
      status |= of_share;
    });
    return static_cast<TokenStatus>(status.load());
  }

 private:
  const Eigen::ThreadPoolDevice* device_;
};

template <>
struct ExecutionOf<Eigen::ThreadPoolDevice> {
  static EigenThreads of(const Eigen::ThreadPoolDevice& device) noexcept {
    return EigenThreads(device);
  }
};

}  // namespace fdroute::inline v0
