// A well-behaved client that measures the latency of its own calls.
#ifndef TESTS_BENCHMARK_HONEST_CLIENT_H_
#define TESTS_BENCHMARK_HONEST_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "tests/benchmark/samples.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {

// Leases 4 KiB and frees it, again and again, on a connection of its own.
//
// Borrows: the daemon.
// Thread safety: thread-compatible.
class HonestClient {
 public:
  struct Latencies {
    Samples allocates;
    Samples calls;  // allocates and frees
    uint64_t failed = 0;

    void Append(const Latencies& other);
  };

  explicit HonestClient(const TestDaemon& daemon);

  // Calls from a thread of its own while `scene` runs on the calling thread.
  Latencies During(const std::function<void()>& scene);
  Latencies For(std::chrono::duration<double> seconds);

 private:
  void CallOnce(Latencies& latencies);

  std::unique_ptr<v1::Allocator::Stub> stub_;
  RawSession session_;
};

// The time until a new client holds its first block. It repeats failed attempts; the result is
// negative when none succeeds.
double MicrosecondsUntilServed(const TestDaemon& daemon);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_HONEST_CLIENT_H_
