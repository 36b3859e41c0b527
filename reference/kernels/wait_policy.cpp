#include "kernels/wait_policy.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>

namespace olmoe {

void sleep_while_waiting(char** argv) {
  constexpr std::array chosen_by{"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"};
  const auto is_set = [](const char* name) { return std::getenv(name) != nullptr; };
  if (std::any_of(chosen_by.begin(), chosen_by.end(), is_set)) return;
  // OpenMP has warned of a list of numbers that is none; the program begun anew need not again.
  const char* const threads = std::getenv("OMP_NUM_THREADS");
  if (threads != nullptr && std::strspn(threads, "0123456789, ") != std::strlen(threads))
    unsetenv("OMP_NUM_THREADS");
  if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
  std::cerr << "olmoe: cannot start anew with OMP_WAIT_POLICY=passive: " << std::strerror(errno)
            << "; threads will spin while they wait\n";
}

}  // namespace olmoe
