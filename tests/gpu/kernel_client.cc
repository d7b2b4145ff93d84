// A client whose kernel writes into leased memory, for tests on a GPU. It prints its first line
// when it has reached the state that the test needs.
//
//   kernel_client write SOCKET BYTES    leases a block; a kernel writes all over it for 20 seconds;
//                                       prints "writing"
//   kernel_client fork SOCKET BYTES     the same, then forks a child that lives on: "forked CHILD"
//   kernel_client clone SOCKET BYTES    the same with clone(2) instead of the C library's fork, so
//                                       that the child keeps the device files
//   kernel_client fault SOCKET BYTES    a kernel writes to an unmapped address; prints "faulted"
//   kernel_client count SOCKET BYTES    leases a block of kind VMM_FD; each of many kernels adds
//                                       1 to every word and is checked; prints "counting", and
//                                       after SIGTERM the number of kernels

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "client/client.h"
#include "common/cuda/launch.h"

namespace {

using tenure::Bytes;

// Adds 1 to every word, over and over, until the cycles are used up.
constexpr char kSource[] = R"(
extern "C" __global__ void write_all(unsigned int* words, unsigned long long count,
                                     long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {
    for (unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += gridDim.x * blockDim.x) {
      atomicAdd(words + i, 1u);
    }
  }
})";
constexpr char kAddOne[] = R"(
extern "C" __global__ void add_one(unsigned int* words, unsigned long long count) {
  for (unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += gridDim.x * blockDim.x) {
    words[i] += 1u;
  }
})";
// About 20 seconds at 1.7 GHz.
constexpr long long kCycles = 34'000'000'000;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "kernel_client: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

[[noreturn]] void WaitForEver() {
  while (true) pause();
}

volatile sig_atomic_t g_stop = 0;

int Count(const std::string& socket, Bytes size) {
  signal(SIGTERM, [](int) { g_stop = 1; });
  tenure::ConnectOptions options;
  options.socket = socket;
  options.name = "kernel_client";
  options.memory_kind = tenure::MemoryKind::kVmmFd;
  tenure::Client client = OrDie(tenure::Client::Connect(options));
  const tenure::DeviceBuffer buffer = OrDie(client.Allocate(size));
  tenure::cuda::Device& device = client.device();
  tenure::cuda::Kernel kernel =
      OrDie(tenure::cuda::Kernel::Compile(device.driver(), device, kAddOne, "add_one"));
  std::vector<unsigned int> words(size.value() / sizeof(unsigned int));
  unsigned int kernels = 0;
  while (g_stop == 0) {
    for (int i = 0; i < 50; ++i, ++kernels) {
      uint64_t pointer = buffer.pointer();
      unsigned long long count = words.size();
      void* arguments[] = {&pointer, &count};
      if (!kernel.Launch({.x = 64}, {.x = 256}, arguments).ok()) return 4;
    }
    if (!buffer.CopyToHost(words.data(), size).ok()) return 4;
    for (const unsigned int word : words) {
      if (word != kernels) return 3;
    }
    if (kernels == 50) Say("counting");
  }
  Say(std::to_string(kernels));
  // No session was lost, so the free succeeds.
  return client.status().ok() ? 0 : 5;
}

int Run(const std::string& what, const std::string& socket, Bytes size) {
  tenure::ConnectOptions options;
  options.socket = socket;
  options.name = "kernel_client";
  tenure::Client client = OrDie(tenure::Client::Connect(options));
  const tenure::DeviceBuffer buffer = OrDie(client.Allocate(size));
  tenure::cuda::Device& device = client.device();
  tenure::cuda::Kernel kernel =
      OrDie(tenure::cuda::Kernel::Compile(device.driver(), device, kSource, "write_all"));
  uint64_t words = what == "fault" ? 0x1000 : buffer.pointer();
  unsigned long long count = size.value() / sizeof(unsigned int);
  long long cycles = kCycles;
  void* arguments[] = {&words, &count, &cycles};
  const absl::Status launched = kernel.Launch({.x = 64}, {.x = 256}, arguments);
  if (!launched.ok()) return 1;
  if (what == "fault") {
    if (device.Synchronize().ok()) return 1;
    Say("faulted");
  } else if (what == "write") {
    Say("writing");
  } else {
    const pid_t child =
        what == "fork" ? fork() : static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (child == 0) WaitForEver();
    Say("forked " + std::to_string(child));
  }
  WaitForEver();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "count") {
    return Count(argv[2], Bytes(std::strtoull(argv[3], nullptr, 10)));
  }
  if (argc == 4) return Run(argv[1], argv[2], Bytes(std::strtoull(argv[3], nullptr, 10)));
  std::fprintf(stderr, "usage: kernel_client write|fork|clone|fault|count SOCKET BYTES\n");
  return 2;
}
