#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace olmoe {

/// Calls work(i) for i in [0, n), in parallel if there is work for every thread; with less, one
/// after the other, and the threads are left to what `work` does. Of the exceptions caught, that of
/// the lowest i is thrown again when all are done.
template <class Work>
void parallel_for(std::int64_t n, const Work& work) {
  std::exception_ptr failure;
  std::int64_t failed = n;
#pragma omp parallel for schedule(dynamic) if (n >= omp_get_max_threads())
  for (std::int64_t i = 0; i < n; ++i) {
    try {
      work(i);
    } catch (...) {
#pragma omp critical(olmoe_parallel_for)
      if (i < failed) {
        failed = i;
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace olmoe
