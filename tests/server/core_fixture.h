// The daemon's core without its threads: every test moves time and does the maintenance itself.
#ifndef TESTS_SERVER_CORE_FIXTURE_H_
#define TESTS_SERVER_CORE_FIXTURE_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/process_list.h"
#include "server/device_heap.h"
#include "server/fence.h"
#include "server/health.h"
#include "server/lease_registry.h"
#include "tests/support/emulated_card.h"
#include "tests/support/manual_clock.h"

namespace tenure::server {

// One device for all tests of the program, on the driver that $TENURE_DRIVER names, by default the
// emulated one.
inline cuda::Device& TestDevice() {
  static testing::EmulatedCard card("1GiB");
  static const std::unique_ptr<cuda::Driver> driver = [] {
    const char* name = std::getenv("TENURE_DRIVER");
    const absl::StatusOr<std::string> path =
        cuda::ResolveDriver(name == nullptr ? "emulated" : name);
    TENURE_CHECK(path.ok());
    absl::StatusOr<std::unique_ptr<cuda::Driver>> loaded = cuda::Driver::Load(*path);
    TENURE_CHECK(loaded.ok());
    return *std::move(loaded);
  }();
  static const std::unique_ptr<cuda::Device> device = [] {
    absl::StatusOr<std::unique_ptr<cuda::Device>> opened = cuda::Device::Open(*driver, "0");
    TENURE_CHECK(opened.ok());
    return *std::move(opened);
  }();
  return *device;
}

// A process that lives until it is told to die, as the daemon sees a client.
class ClientProcess {
 public:
  explicit ClientProcess(uid_t uid = 1000) {
    pid_ = fork();
    if (pid_ == 0) {
      while (true) pause();
    }
    const absl::StatusOr<std::shared_ptr<const Peer>> peer = Peer::OfProcess(pid_, uid, uid);
    TENURE_CHECK(peer.ok());
    peer_ = *peer;
  }
  ~ClientProcess() { Kill(); }
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  const std::shared_ptr<const Peer>& peer() const { return peer_; }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  std::shared_ptr<const Peer> peer_;
};

class CoreTest : public ::testing::Test {
 protected:
  static constexpr Epoch kEpoch = 7;

  explicit CoreTest(DeviceHeap::Options heap = {kEpoch, MiB(0), MiB(128)})
      : heap_(device_, health_, heap) {
    absl::StatusOr<std::unique_ptr<cuda::ProcessList>> list =
        cuda::ProcessList::Open(cuda::ProcessListLibraryFor(device_.driver()), device_.uuid());
    TENURE_CHECK(list.ok());
    processes_ = *std::move(list);
    fence_ = std::make_unique<Fence>(heap_, processes_.get(), clock_, journal_);
    registry_ = std::make_unique<LeaseRegistry>(heap_, *fence_, journal_, clock_,
                                                LeaseRegistry::Options{.epoch = kEpoch});
  }
  ~CoreTest() override {
    registry_->CloseAll();
    CheckBooks();
  }

  void Maintain() {
    while (heap_.MaintainOnce()) CheckBooks();
  }
  void CheckBooks() {
    heap_.CheckInvariants();
    registry_->CheckInvariants();
  }

  // More than there is: the driver needs some for itself.
  Bytes WholeDevice() const { return *RoundUp(device_.total(), kRegionUnit); }

  SessionId Open(const ClientProcess& client, uint64_t request = 1) {
    const absl::StatusOr<SessionId> session = registry_->Open(client.peer(), request, "test");
    TENURE_CHECK(session.ok());
    return *session;
  }

  // One whole allocation, as the service does it.
  absl::StatusOr<Grant> Allocate(const ClientProcess& client, SessionId session, Bytes size,
                                 uint64_t request = 0) {
    auto admitted =
        registry_->Admit(*client.peer(), session, request == 0 ? next_request_++ : request);
    if (!admitted.ok()) return admitted.status();
    if (Grant* before = std::get_if<Grant>(&*admitted)) return *before;
    LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
    absl::StatusOr<Block> block = admission.pool().Allocate(BlockRequest{size});
    if (!block.ok()) return block.status();
    std::vector<LeaseRegistry::Pending> pending;
    pending.push_back({std::move(admission), *std::move(block)});
    absl::StatusOr<std::vector<Grant>> grants = registry_->Attach(std::move(pending));
    CheckBooks();
    if (!grants.ok()) return grants.status();
    return grants->front();
  }

  absl::Status Free(const ClientProcess& client, SessionId session, AllocationId allocation,
                    bool unmapped = true) {
    const absl::Status freed =
        registry_->Free(*client.peer(), session, next_request_++, allocation, unmapped).status();
    CheckBooks();
    return freed;
  }

  cuda::Device& device_ = TestDevice();
  testing::ManualClock clock_;
  Health health_;
  DeviceHeap heap_;
  LeaseJournal journal_{nullptr, health_};
  std::unique_ptr<cuda::ProcessList> processes_;
  std::unique_ptr<Fence> fence_;
  std::unique_ptr<LeaseRegistry> registry_;
  uint64_t next_request_ = 1'000'000;
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_CORE_FIXTURE_H_
