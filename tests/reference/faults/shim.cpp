// Loaded before a program by LD_PRELOAD, it makes one of its calls fail:
//
//   FDROUTE_FAULT=CALL:N:EFFECT   the Nth call; CALL is write (or writev), fsync, rename, mmap,
//   open or new FDROUTE_FAULT_COUNT=FILE      at the end, the numbers of calls: lines "CALL N"
//   FDROUTE_FAULT_PROGRAM=NAME    only in the program of this name, not in those that it starts
//
// EFFECT is an errno (28: no space), "short" for half a write, or "signal=N", raised in the call.
// An allocation fails as the standard's does, by the program's new_handler; those before it has one
// are not counted.

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

enum Call { call_write, call_fsync, call_rename, call_mmap, call_open, call_new, calls };
constexpr std::array<const char*, calls> names{"write", "fsync", "rename", "mmap", "open", "new"};

std::array<std::atomic<long>, calls> counts;
int faulty = -1;
long nth = 0;
int error = 0;
int raised = 0;
bool shortened = false;
bool active = false;

__attribute__((constructor)) void read_environment() {
  const char* const program = std::getenv("FDROUTE_FAULT_PROGRAM");
  if (program != nullptr && std::strcmp(program, program_invocation_short_name) != 0) return;
  active = true;
  const char* const fault = std::getenv("FDROUTE_FAULT");
  if (fault == nullptr) return;
  std::array<char, 16> name{};
  std::array<char, 32> effect{};
  if (std::sscanf(fault, "%15[^:]:%ld:%31s", name.data(), &nth, effect.data()) != 3) std::abort();
  for (int call = 0; call < calls; ++call)
    if (std::strcmp(names[static_cast<std::size_t>(call)], name.data()) == 0) faulty = call;
  shortened = std::strcmp(effect.data(), "short") == 0;
  if (std::sscanf(effect.data(), "signal=%d", &raised) != 1) error = std::atoi(effect.data());
}

__attribute__((destructor)) void write_counts() {
  const char* const path = std::getenv("FDROUTE_FAULT_COUNT");
  if (!active || path == nullptr) return;
  std::array<long, calls> all{};
  for (std::size_t i = 0; i < calls; ++i) all[i] = counts[i];
  if (std::FILE* const file = std::fopen(path, "w")) {
    for (std::size_t i = 0; i < calls; ++i) std::fprintf(file, "%s %ld\n", names[i], all[i]);
    std::fclose(file);
  }
}

/// Counts a call; whether it is the one to fail. A signal is raised here.
bool fails(Call call) {
  if (!active || ++counts[call] != nth || call != faulty) return false;
  if (raised != 0) {
    ::raise(raised);
    return false;
  }
  errno = error;
  return true;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* data, std::size_t n) {
  static auto* const real = next<ssize_t(int, const void*, std::size_t)>("write");
  if (!fails(call_write)) return real(file, data, n);
  return shortened ? real(file, data, (n + 1) / 2) : -1;
}

ssize_t writev(int file, const iovec* parts, int n) {
  static auto* const real = next<ssize_t(int, const iovec*, int)>("writev");
  if (!fails(call_write)) return real(file, parts, n);
  if (!shortened) return -1;
  const iovec half{parts[0].iov_base, (parts[0].iov_len + 1) / 2};
  return real(file, &half, 1);
}

int fsync(int file) {
  static auto* const real = next<int(int)>("fsync");
  return fails(call_fsync) ? -1 : real(file);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const real = next<int(const char*, const char*)>("rename");
  return fails(call_rename) ? -1 : real(from, to);
}

void* mmap(void* address, std::size_t n, int protection, int flags, int file,
           off_t offset) noexcept {
  static auto* const real = next<void*(void*, std::size_t, int, int, int, off_t)>("mmap");
  return fails(call_mmap) ? MAP_FAILED : real(address, n, protection, flags, file, offset);
}

int open(const char* path, int flags, ...) {
  static auto* const real = next<int(const char*, int, ...)>("open");
  std::va_list rest;
  va_start(rest, flags);
  const auto mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return fails(call_open) ? -1 : real(path, flags, mode);
}

}  // extern "C"

void* operator new(std::size_t n) {
  const std::new_handler handler = std::get_new_handler();
  if (handler == nullptr || !fails(call_new)) {
    if (void* const memory = std::malloc(n > 0 ? n : 1)) return memory;
  }
  if (handler != nullptr) handler();
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
