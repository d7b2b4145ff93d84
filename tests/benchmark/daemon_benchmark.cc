// The cost of the daemon: an allocation through it, compared with an empty call on the same socket
// and with the bare driver.
//
// Each line is a pair of allocate and free, except Grant and EmptyCall, which are one call. The
// ratios at the end are of medians of one run.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "client/client.h"
#include "common/check.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

using Clock = std::chrono::steady_clock;

// Whether the daemon keeps a journal. Without a supervisor it keeps none.
enum class Survives { kNo, kYes };

// The daemon of the current benchmark. There is one at a time, because a device has one daemon.
class Daemons {
 public:
  TestDaemon& Get(Survives survives) {
    if (daemon_ != nullptr && survives_ == survives) return *daemon_;
    daemon_.reset();
    if (survives == Survives::kYes) {
      daemon_ = std::make_unique<KeptDaemon>(std::vector<std::string>{}, "8GiB");
    } else {
      daemon_ = std::make_unique<TestDaemon>(TestDaemon::Options{.memory = "8GiB"});
    }
    survives_ = survives;
    WarmUp();
    return *daemon_;
  }

  void Stop() { daemon_.reset(); }

 private:
  // Not measured: the first calls start the daemon's threads and fill its caches.
  void WarmUp() {
    for (int call = 0; call < 1000; ++call) {
      grpc::ClientContext context;
      v1::PingResponse response;
      TENURE_CHECK(daemon_->stats().Ping(&context, {}, &response).ok());
    }
  }

  std::unique_ptr<TestDaemon> daemon_;
  Survives survives_ = Survives::kNo;
};

Daemons g_daemons;
// The measured times of each benchmark name, over all rounds.
std::map<std::string, std::vector<double>> g_seconds;

double At(std::vector<double>& seconds, double share) {
  std::sort(seconds.begin(), seconds.end());
  return seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))];
}

// Times single steps, so that the median and the tail are known and the time between steps does not
// count.
class Stopwatch {
 public:
  explicit Stopwatch(benchmark::State& state) : state_(state) {}

  template <typename Step>
  void Time(Step step) {
    const Clock::time_point start = Clock::now();
    step();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    state_.SetIterationTime(seconds);
    seconds_.push_back(seconds);
  }

  void Report(const std::string& name) {
    state_.counters["p50_us"] = At(seconds_, 0.5) * 1e6;
    state_.counters["p99_us"] = At(seconds_, 0.99) * 1e6;
    std::vector<double>& all = g_seconds[name];
    all.insert(all.end(), seconds_.begin(), seconds_.end());
  }

 private:
  benchmark::State& state_;
  std::vector<double> seconds_;
};

Bytes SizeOf(const benchmark::State& state) { return Bytes(static_cast<uint64_t>(state.range(0))); }

void EmptyCall(benchmark::State& state, Survives survives, const std::string& name) {
  TestDaemon& daemon = g_daemons.Get(survives);
  Stopwatch watch(state);
  for (auto _ : state) {
    watch.Time([&] {
      grpc::ClientContext context;
      v1::PingResponse response;
      TENURE_CHECK(daemon.stats().Ping(&context, {}, &response).ok());
    });
  }
  watch.Report(name);
}

// One Allocate that needs no driver call. The free between two of them is not timed.
void Grant(benchmark::State& state, Survives survives, v1::MemoryKind kind,
           const std::string& name) {
  RawSession session(g_daemons.Get(survives).allocator());
  Stopwatch watch(state);
  for (auto _ : state) {
    v1::AllocateRequest request = session.Request(SizeOf(state).value());
    request.set_memory_kind(kind);
    v1::Token token;
    watch.Time([&] { TENURE_CHECK(session.Send(request, &token).ok()); });
    TENURE_CHECK(session.Free(token.allocation_id()).ok());
  }
  watch.Report(name);
  TENURE_CHECK(session.Close().ok());
}

// Allocate, map, free: the cost for a user of the client library.
void Client(benchmark::State& state, Placement placement, const std::string& name) {
  ConnectOptions options;
  options.socket = g_daemons.Get(Survives::kNo).socket();
  absl::StatusOr<tenure::Client> client = tenure::Client::Connect(options);
  TENURE_CHECK(client.ok());
  AllocateOptions how;
  how.placement = placement;
  Stopwatch watch(state);
  for (auto _ : state) {
    watch.Time([&] {
      absl::StatusOr<DeviceBuffer> buffer = client->Allocate(SizeOf(state), how);
      TENURE_CHECK(buffer.ok());
      TENURE_CHECK(buffer->Release().ok());
    });
  }
  watch.Report(name + "/" + std::to_string(state.range(0)));
}

void BareDriver(benchmark::State& state) {
  const absl::StatusOr<std::string> path =
      cuda::ResolveDriver(OnRealDevice() ? "cuda" : "emulated");
  TENURE_CHECK(path.ok());
  const absl::StatusOr<std::unique_ptr<cuda::Driver>> driver = cuda::Driver::Load(*path);
  TENURE_CHECK(driver.ok());
  const absl::StatusOr<std::unique_ptr<cuda::Device>> device = cuda::Device::Open(**driver, "0");
  TENURE_CHECK(device.ok());
  Stopwatch watch(state);
  for (auto _ : state) {
    watch.Time([&] {
      const absl::StatusOr<cuda::DevicePointer> pointer = (*device)->Allocate(SizeOf(state));
      TENURE_CHECK(pointer.ok());
      TENURE_CHECK((*device)->Free(*pointer).ok());
    });
  }
  watch.Report("BareDriver/" + std::to_string(state.range(0)));
}

constexpr int kCalls = 5000;
// The two daemons take turns, so that other load on the host affects both.
constexpr int kRounds = 6;

void Manual(benchmark::internal::Benchmark* one, int64_t size, int iterations) {
  one->UseManualTime()->Iterations(iterations)->Unit(benchmark::kMicrosecond);
  if (size > 0) one->Arg(size);
}

// An empty call and a grant of one daemon, to compare with those of the other.
void RegisterSurvival(Survives survives, const std::string& suffix) {
  Manual(benchmark::RegisterBenchmark(("EmptyCall" + suffix).c_str(),
                                      [survives, suffix](benchmark::State& state) {
                                        EmptyCall(state, survives, "EmptyCall" + suffix);
                                      }),
         0, kCalls / kRounds);
  Manual(benchmark::RegisterBenchmark(("GrantVmm" + suffix).c_str(),
                                      [survives, suffix](benchmark::State& state) {
                                        Grant(state, survives, v1::MEMORY_KIND_VMM_FD,
                                              "GrantVmm" + suffix);
                                      }),
         4096, kCalls / kRounds);
}

void Register() {
  constexpr int kPairs = 2000;
  for (int round = 0; round < kRounds; ++round) {
    RegisterSurvival(Survives::kYes, "Journaled");
    RegisterSurvival(Survives::kNo, "");
  }
  Manual(benchmark::RegisterBenchmark("GrantFromWarmReserve",
                                      [](benchmark::State& state) {
                                        Grant(state, Survives::kNo, v1::MEMORY_KIND_CUDA_IPC,
                                              "GrantFromWarmReserve");
                                      }),
         2 << 20, kCalls);
  Manual(benchmark::RegisterBenchmark("GrantFromPool",
                                      [](benchmark::State& state) {
                                        Grant(state, Survives::kNo, v1::MEMORY_KIND_CUDA_IPC,
                                              "GrantFromPool");
                                      }),
         4096, kCalls);
  for (const int64_t size : {int64_t{4096}, int64_t{65536}, int64_t{1 << 20}}) {
    Manual(benchmark::RegisterBenchmark(
               "Pool", [](benchmark::State& state) { Client(state, Placement::kPool, "Pool"); }),
           size, kPairs);
    Manual(
        benchmark::RegisterBenchmark(
            "Direct", [](benchmark::State& state) { Client(state, Placement::kDirect, "Direct"); }),
        size, kPairs);
    Manual(benchmark::RegisterBenchmark("BareDriver", BareDriver), size, kPairs);
  }
}

void PrintRatios() {
  const auto ratio = [](const std::string& what, const std::string& to) {
    if (!g_seconds.contains(what) || !g_seconds.contains(to)) return;  // filtered out
    std::printf("%-22s / %-18s %6.2f\n", what.c_str(), to.c_str(),
                At(g_seconds[what], 0.5) / At(g_seconds[to], 0.5));
  };
  std::printf("\nratio of medians\n");
  ratio("GrantFromWarmReserve", "EmptyCall");
  ratio("GrantFromPool", "EmptyCall");
  for (const char* size : {"4096", "65536", "1048576"}) {
    ratio(std::string("Pool/") + size, std::string("Direct/") + size);
    ratio(std::string("Pool/") + size, std::string("BareDriver/") + size);
  }
  ratio("GrantVmm", "EmptyCall");
  ratio("GrantVmmJournaled", "EmptyCallJournaled");
  ratio("EmptyCallJournaled", "EmptyCall");
  ratio("GrantVmmJournaled", "GrantVmm");
}

}  // namespace
}  // namespace tenure::testing

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  tenure::testing::Register();
  benchmark::RunSpecifiedBenchmarks();
  tenure::testing::g_daemons.Stop();
  tenure::testing::PrintRatios();
  return 0;
}
