// Each driver call, system call and allocation of a serving daemon is made to fail: once, or that
// one and all later ones. The result must be one of three: nothing has changed, the call is done,
// or the daemon has stopped with an exit code that says why.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "client/session/deadline.h"
#include "client/session/ticket_exchange.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/socket_path.h"
#include "tests/faults/fault_injector.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr int kLost = 70;
constexpr int kNoMemory = 71;
constexpr int kOutOfMemory = 2;     // CUDA_ERROR_OUT_OF_MEMORY
constexpr int kLaunchFailed = 719;  // CUDA_ERROR_LAUNCH_FAILED
// No call makes so many of one kind. If this is reached, the counting is broken.
constexpr int kMostCalls = 400;

// A daemon with the injector in it, and the file with the commands to the injector.
class FaultyDaemon {
 public:
  FaultyDaemon() : file_(::testing::TempDir() + "/faults-" + std::to_string(getpid())) {
    const int file = open(file_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    TENURE_CHECK(ftruncate(file, sizeof(FaultControl)) == 0);
    control_ = static_cast<FaultControl*>(
        mmap(nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
    daemon_.emplace(TestDaemon::Options{
        .flags = {"--warm-reserve", "0"},
        .environment = {"LD_PRELOAD=" + ProgramFolder() + "/libtenure_fault_injector.so",
                        "TENURE_FAULT_FILE=" + file_,
                        "TENURE_FAULT_DRIVER=" + ProgramFolder() + "/libtenure_emulated_cuda.so"}});
  }
  ~FaultyDaemon() {
    Disarm();
    daemon_.reset();
    munmap(control_, sizeof(FaultControl));
    unlink(file_.c_str());
  }

  TestDaemon& daemon() { return *daemon_; }

  void Arm(FaultKind kind, int nth, bool and_later) {
    control_->countdown = nth;
    control_->and_later = and_later;
    control_->kind = kind;
  }
  void ArmDriver(const std::string& symbol, int result, int nth, bool and_later) {
    control_->countdown = nth;
    control_->and_later = and_later;
    control_->result = result;
    Command(symbol);
  }
  void Disarm() {
    control_->kind = FaultKind::kNone;
    if (daemon_ && daemon_->Running()) Command("");
  }
  // Whether the fault was injected. If not, the daemon makes fewer calls of that kind.
  bool Injected() const { return control_->injected > 0; }
  // Whether the daemon has ended by itself, and how.
  std::optional<int> Ended() { return daemon_->EndedWith(); }

 private:
  void Command(const std::string& symbol) {
    std::strncpy(control_->symbol.data(), symbol.c_str(), control_->symbol.size() - 1);
    const uint64_t number = ++control_->command;
    Eventually([&] { return control_->answered == number || !daemon_->Running(); });
  }

  const std::string file_;
  FaultControl* control_ = nullptr;
  std::optional<TestDaemon> daemon_;
};

// A client that makes each kind of call, and repeats it as the client library would, on connections
// of its own.
class Visit {
 public:
  explicit Visit(TestDaemon& daemon)
      : allocator_(v1::Allocator::NewStub(daemon.NewChannel())),
        stats_(v1::Stats::NewStub(daemon.NewChannel())),
        fd_socket_(FdSocketPath(daemon.socket())) {}

  void Run() {
    v1::OpenSessionRequest open;
    open.set_request_id(1);
    v1::OpenSessionResponse opened;
    if (!Call(&v1::Allocator::Stub::OpenSession, open, &opened)) return;
    session_ = opened.session_id();
    Allocate(2, 1000, v1::MEMORY_KIND_CUDA_IPC);
    Allocate(3, MiB(5).value(), v1::MEMORY_KIND_CUDA_IPC);
    Allocate(4, 1000, v1::MEMORY_KIND_VMM_FD);
    Allocate(5, MiB(5).value(), v1::MEMORY_KIND_VMM_FD);
    v1::KeepAliveRequest renew;
    renew.set_session_id(session_);
    v1::KeepAliveResponse renewed;
    Call(&v1::Allocator::Stub::KeepAlive, renew, &renewed);
    if (!by_descriptor_.empty()) FetchFd(*by_descriptor_.begin());
    for (const uint64_t allocation : allocations_) {
      v1::FreeRequest free;
      free.set_session_id(session_);
      free.set_request_id(100 + allocation);
      free.set_allocation_id(allocation);
      // Memory by handle is kept warm, memory by descriptor goes back to the driver.
      free.set_unmapped(!by_descriptor_.contains(allocation));
      v1::FreeResponse freed;
      Call(&v1::Allocator::Stub::Free, free, &freed);
    }
    grpc::ClientContext context;
    Limit(context);
    v1::GetStatsResponse ignored;
    static_cast<void>(stats_->GetStats(&context, {}, &ignored));
  }
  // To be called when no fault is armed.
  void Close() {
    v1::CloseSessionRequest close;
    close.set_session_id(session_);
    v1::CloseSessionResponse closed;
    Call(&v1::Allocator::Stub::CloseSession, close, &closed);
  }

 private:
  static void Limit(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(400));
  }

  void Allocate(uint64_t request, uint64_t size, v1::MemoryKind kind) {
    v1::AllocateRequest allocate;
    allocate.set_session_id(session_);
    allocate.set_request_id(request);
    allocate.set_size_bytes(size);
    allocate.set_memory_kind(kind);
    v1::AllocateResponse allocated;
    if (!Call(&v1::Allocator::Stub::Allocate, allocate, &allocated)) return;
    allocations_.insert(allocated.token().allocation_id());
    if (kind == v1::MEMORY_KIND_VMM_FD) by_descriptor_.insert(allocated.token().allocation_id());
  }

  // Asks for the descriptor of the block's region, as a client that maps it does. The result does
  // not matter.
  void FetchFd(uint64_t allocation) {
    v1::RequestRegionFdRequest ask;
    ask.set_session_id(session_);
    ask.set_allocation_id(allocation);
    v1::RequestRegionFdResponse asked;
    if (!Call(&v1::Allocator::Stub::RequestRegionFd, ask, &asked)) return;
    ExchangeTicket(fd_socket_, asked.ticket(), Deadline::After(absl::Milliseconds(400)))
        .IgnoreError();
  }

  template <typename Request, typename Response>
  bool Call(grpc::Status (v1::Allocator::Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
            const Request& request, Response* response) {
    for (int attempt = 0; attempt < 2; ++attempt) {
      grpc::ClientContext context;
      Limit(context);
      const grpc::Status status = (allocator_.get()->*method)(&context, request, response);
      if (status.ok()) return true;
      if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
    }
    return false;
  }

  std::unique_ptr<v1::Allocator::Stub> allocator_;
  std::unique_ptr<v1::Stats::Stub> stats_;
  const std::string fd_socket_;
  uint64_t session_ = 0;
  std::set<uint64_t> allocations_;
  std::set<uint64_t> by_descriptor_;  // of them
};

// Arms the fault, makes the client send its calls, and checks the result. False when the fault was
// not injected.
bool EndsWell(std::unique_ptr<FaultyDaemon>& faulty, const std::function<void()>& arm,
              int exit_code, bool driver) {
  if (faulty == nullptr) faulty = std::make_unique<FaultyDaemon>();
  arm();
  Visit visit(faulty->daemon());
  visit.Run();
  const bool met = driver || faulty->Injected();
  // A daemon that stops does so at once, and not in a later call.
  if (faulty->daemon().Running()) faulty->Disarm();
  if (faulty->daemon().Running()) visit.Close();
  const bool well = Eventually([&] {
    if (!faulty->daemon().Running()) return true;
    const std::optional<v1::GetStatsResponse> now = faulty->daemon().TryGetStats();
    return now && now->health() == "SERVING" && now->leased_bytes() == 0 &&
           now->quarantined_bytes() == 0 && now->active_sessions() == 0 &&
           now->total_bytes() ==
               now->driver_free_bytes() + now->reserved_bytes() + now->other_bytes();
  });
  EXPECT_TRUE(well) << "neither unchanged, done nor stopped";
  if (const std::optional<int> code = faulty->Ended()) {
    EXPECT_EQ(*code, exit_code);
    faulty.reset();
  } else if (met) {
    faulty.reset();  // the next fault meets a fresh daemon, and its counts begin anew
  }
  return met;
}

class NthFailureTest : public ::testing::TestWithParam<bool> {
 protected:
  void FailEach(FaultKind kind, int exit_code) {
    std::unique_ptr<FaultyDaemon> faulty;
    int nth = 1;
    while (nth < kMostCalls && !::testing::Test::HasFailure()) {
      const auto arm = [&] { faulty->Arm(kind, nth, /*and_later=*/GetParam()); };
      if (!EndsWell(faulty, arm, exit_code, /*driver=*/false)) break;
      ++nth;
    }
    EXPECT_GT(nth, 5) << "so few calls cannot be";
    EXPECT_LT(nth, kMostCalls);
    std::printf("%d calls were made to fail\n", nth - 1);
  }
};

TEST_P(NthFailureTest, EveryAllocation) { FailEach(FaultKind::kAllocation, kNoMemory); }

TEST_P(NthFailureTest, EverySystemCall) { FailEach(FaultKind::kSystemCall, kLost); }

TEST_P(NthFailureTest, EveryDriverCall) {
  // More than the client's calls make of any entry point.
  constexpr int kCalls = 6;
  for (const char* symbol :
       {"cuMemAlloc_v2", "cuIpcGetMemHandle", "cuMemsetD8Async", "cuStreamSynchronize",
        "cuMemFree_v2", "cuMemGetInfo_v2", "cuCtxPushCurrent_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3", "cuMemCreate", "cuMemExportToShareableHandle",
        "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemAddressFree",
        "cuMemRelease"}) {
    for (const int result : {kLaunchFailed, kOutOfMemory}) {
      for (int nth = 1; nth <= kCalls && !::testing::Test::HasFailure(); ++nth) {
        SCOPED_TRACE(std::string(symbol) + " fails at call " + std::to_string(nth) + " with " +
                     std::to_string(result));
        std::unique_ptr<FaultyDaemon> faulty;
        EndsWell(
            faulty, [&] { faulty->ArmDriver(symbol, result, nth, /*and_later=*/GetParam()); },
            kLost, /*driver=*/true);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, NthFailureTest, ::testing::Values(false, true),
                         [](const ::testing::TestParamInfo<bool>& which) {
                           return which.param ? "FromThenOn" : "Once";
                         });

}  // namespace
}  // namespace tenure::testing
