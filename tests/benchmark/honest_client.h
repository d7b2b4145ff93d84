// A client that does nobody any harm, and a watch in its hand.
#ifndef TESTS_BENCHMARK_HONEST_CLIENT_H_
#define TESTS_BENCHMARK_HONEST_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "tests/benchmark/samples.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {

// Leases 4 KiB and gives it back, over and over, on a connection of its own.
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

  // Calls on a thread of its own for as long as `scene` lasts on this one.
  Latencies During(const std::function<void()>& scene);
  Latencies For(std::chrono::duration<double> seconds);

 private:
  void CallOnce(Latencies& latencies);

  std::unique_ptr<v1::Allocator::Stub> stub_;
  RawSession session_;
};

// How long it takes until a client that comes only now holds a block; it tries again until it does.
// Negative when it never did.
double MicrosecondsUntilServed(const TestDaemon& daemon);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_HONEST_CLIENT_H_
