#include "tests/benchmark/honest_client.h"

#include <atomic>
#include <thread>

namespace tenure::testing {
namespace {

constexpr uint64_t kBlockBytes = 4096;

}  // namespace

void HonestClient::Latencies::Append(const Latencies& other) {
  allocates.Append(other.allocates);
  calls.Append(other.calls);
  failed += other.failed;
}

HonestClient::HonestClient(const TestDaemon& daemon)
    : stub_(v1::Allocator::NewStub(daemon.NewChannel())), session_(*stub_) {}

HonestClient::Latencies HonestClient::During(const std::function<void()>& scene) {
  Latencies latencies;
  std::atomic<bool> over = false;
  std::thread calling([&] {
    while (!over.load(std::memory_order_relaxed)) CallOnce(latencies);
  });
  scene();
  over = true;
  calling.join();
  return latencies;
}

HonestClient::Latencies HonestClient::For(std::chrono::duration<double> seconds) {
  return During([seconds] { std::this_thread::sleep_for(seconds); });
}

void HonestClient::CallOnce(Latencies& latencies) {
  const v1::AllocateRequest request = session_.Request(kBlockBytes);
  v1::Token token;
  SteadyClock::time_point start = SteadyClock::now();
  if (!session_.Send(request, &token).ok()) {
    ++latencies.failed;
    return;
  }
  latencies.allocates.Add(MicrosecondsSince(start));
  latencies.calls.Add(MicrosecondsSince(start));
  const v1::FreeRequest free = session_.FreeRequest(token.allocation_id());
  start = SteadyClock::now();
  if (!session_.Send(free).ok()) {
    ++latencies.failed;
    return;
  }
  latencies.calls.Add(MicrosecondsSince(start));
}

double MicrosecondsUntilServed(const TestDaemon& daemon) {
  const SteadyClock::time_point start = SteadyClock::now();
  const bool served = Eventually([&daemon] {
    const auto stub = v1::Allocator::NewStub(daemon.NewChannel());
    RawSession session(*stub);
    return session.id() != 0 && session.Allocate(kBlockBytes).ok() && session.Close().ok();
  });
  return served ? MicrosecondsSince(start) : -1;
}

}  // namespace tenure::testing
