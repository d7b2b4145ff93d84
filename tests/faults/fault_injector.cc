// Loaded before everything else into a daemon under test (LD_PRELOAD): makes the n-th allocation or
// system call of the daemon's own code fail, and passes fault commands on to the emulated driver.
// The file that TENURE_FAULT_FILE names holds the control block.
//
// The daemon's own code is the code in the program's file. gRPC, the C++ library and the driver are
// in other files, and their calls do not fail.

#include "tests/faults/fault_injector.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <new>
#include <thread>

#include <link.h>

#include "tests/faults/preload.h"

namespace tenure::testing {
namespace {

FaultControl* control = nullptr;
uintptr_t program_begin = 0;
uintptr_t program_end = 0;

bool IsOwnCode(const void* caller) {
  const auto address = reinterpret_cast<uintptr_t>(caller);
  return address >= program_begin && address < program_end;
}

// Whether this call is the one that fails.
bool Fails(FaultKind kind, const void* caller) {
  if (control == nullptr || control->kind.load(std::memory_order_acquire) != kind) return false;
  if (!IsOwnCode(caller)) return false;
  const int64_t left = control->countdown.fetch_sub(1) - 1;
  if (left != 0 && !(left < 0 && control->and_later.load())) return false;
  control->injected.fetch_add(1);
  return true;
}

int FindProgram(dl_phdr_info* info, size_t, void*) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
    program_begin = info->dlpi_addr + part.p_vaddr;
    program_end = program_begin + part.p_memsz;
  }
  return 1;  // the first entry is the program
}

// Passes commands on to the emulated driver.
void ServeDriverCommands() {
  using Fail = int (*)(const char*, uint64_t, int, int);
  using Clear = void (*)();
  while (true) {
    usleep(500);
    const uint64_t command = control->command.load(std::memory_order_acquire);
    if (command == control->answered.load()) continue;
    void* const driver = dlopen(std::getenv("TENURE_FAULT_DRIVER"), RTLD_NOW | RTLD_NOLOAD);
    if (driver == nullptr) continue;
    if (control->symbol[0] == 0) {
      reinterpret_cast<Clear>(dlsym(driver, "tenureEmulatedClear"))();
    } else {
      reinterpret_cast<Fail>(dlsym(driver, "tenureEmulatedFail"))(
          control->symbol.data(), static_cast<uint64_t>(control->countdown.load()),
          control->and_later ? 1 : 0, control->result);
    }
    control->answered.store(command, std::memory_order_release);
  }
}

__attribute__((constructor)) void Load() {
  FaultControl* const shared = MapControl<FaultControl>("TENURE_FAULT_FILE");
  if (shared == nullptr) return;
  dl_iterate_phdr(FindProgram, nullptr);
  control = shared;
  std::thread(ServeDriverCommands).detach();
}

void* Allocate(size_t size, const void* caller) {
  if (Fails(FaultKind::kAllocation, caller)) {
    // As the C++ library's own operator new does when no memory is left.
    if (const std::new_handler handler = std::get_new_handler()) handler();
    throw std::bad_alloc();
  }
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace
}  // namespace tenure::testing

void* operator new(size_t size) {
  return tenure::testing::Allocate(size, __builtin_return_address(0));
}
void* operator new[](size_t size) {
  return tenure::testing::Allocate(size, __builtin_return_address(0));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

// The system calls that the daemon makes while it serves, and how each may fail.
#define TENURE_FAULT(error)                                           \
  if (tenure::testing::Fails(tenure::testing::FaultKind::kSystemCall, \
                             __builtin_return_address(0))) {          \
    errno = error;                                                    \
    return -1;                                                        \
  }

extern "C" {

int epoll_ctl(int epoll, int operation, int file, epoll_event* event) noexcept {
  TENURE_FAULT(ENOMEM)
  static const auto next = tenure::testing::Next<decltype(&epoll_ctl)>("epoll_ctl");
  return next(epoll, operation, file, event);
}

int epoll_wait(int epoll, epoll_event* events, int most, int timeout) {
  TENURE_FAULT(EINTR)
  static const auto next = tenure::testing::Next<decltype(&epoll_wait)>("epoll_wait");
  return next(epoll, events, most, timeout);
}

int poll(pollfd* entries, nfds_t count, int timeout) {
  TENURE_FAULT(ENOMEM)
  static const auto next = tenure::testing::Next<decltype(&poll)>("poll");
  return next(entries, count, timeout);
}

int getsockopt(int socket, int level, int name, void* value, socklen_t* length) noexcept {
  TENURE_FAULT(ENOBUFS)
  static const auto next = tenure::testing::Next<decltype(&getsockopt)>("getsockopt");
  return next(socket, level, name, value, length);
}

int accept4(int socket, sockaddr* address, socklen_t* length, int flags) {
  TENURE_FAULT(ENFILE)
  static const auto next = tenure::testing::Next<decltype(&accept4)>("accept4");
  return next(socket, address, length, flags);
}

int shutdown(int socket, int how) noexcept {
  TENURE_FAULT(ENOTCONN)
  static const auto next = tenure::testing::Next<decltype(&shutdown)>("shutdown");
  return next(socket, how);
}

// recvmsg and sendmsg, which the socket gate calls with syscall(2), and calls without a C function.
long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long words[6];
  for (long& word : words) word = va_arg(list, long);
  va_end(list);
  // A close that fails has still closed the descriptor, so it is not made to fail.
  if (number != SYS_close) {
    TENURE_FAULT(number == SYS_recvmsg || number == SYS_sendmsg ? ECONNRESET : EMFILE)
  }
  static const auto next = tenure::testing::Next<long (*)(long, ...)>("syscall");
  return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

}  // extern "C"
