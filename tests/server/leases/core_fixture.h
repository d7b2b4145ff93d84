// The daemon's core without its threads: every test moves time and does the maintenance itself.
#ifndef TESTS_SERVER_LEASES_CORE_FIXTURE_H_
#define TESTS_SERVER_LEASES_CORE_FIXTURE_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/cuda/process_list.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "tests/server/memory/heap_fixture.h"
#include "tests/support/manual_clock.h"

namespace tenure::server {

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

class CoreTest : public HeapTest {
 protected:
  explicit CoreTest(DeviceHeap::Options heap = {kEpoch, MiB(0), MiB(128)}) : HeapTest(heap) {
    absl::StatusOr<std::unique_ptr<cuda::ProcessList>> list =
        cuda::ProcessList::Open(cuda::ProcessListLibraryFor(device_.driver()), device_.uuid());
    TENURE_CHECK(list.ok());
    processes_ = *std::move(list);
    fence_ = std::make_unique<Fence>(*quarantine_, processes_.get());
    registry_ = std::make_unique<LeaseRegistry>(heap_, *quarantine_, journal_, clock_,
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

  // Time in which the daemon looks after its sessions. clock_.Advance alone is a pause of the
  // daemon.
  void PassTime(absl::Duration time) {
    for (absl::Duration left = time; left > absl::ZeroDuration(); left -= kLook) {
      clock_.Advance(std::min(left, kLook));
      registry_->SuspendOverdue();
    }
  }
  static constexpr absl::Duration kLook = LeaseRegistry::kLongestLook;

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
    absl::StatusOr<std::vector<Grant>> grants = registry_->Commit(std::move(pending));
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

  // The sessions whose regions serve again or went to the driver, in the order of the reports.
  std::vector<QuarantineInfo> reclaimed() {
    absl::MutexLock lock(&reclaimed_mu_);
    return reclaimed_;
  }

  testing::ManualClock clock_;
  LeaseJournal journal_{nullptr, health_};
  std::unique_ptr<cuda::ProcessList> processes_;
  absl::Mutex reclaimed_mu_;
  std::vector<QuarantineInfo> reclaimed_ ABSL_GUARDED_BY(reclaimed_mu_);
  std::shared_ptr<Quarantine> quarantine_ =
      Quarantine::Create(heap_, clock_, journal_, [this](const QuarantineInfo& info) {
        absl::MutexLock lock(&reclaimed_mu_);
        reclaimed_.push_back(info);
      });
  std::unique_ptr<Fence> fence_;
  std::unique_ptr<LeaseRegistry> registry_;
  uint64_t next_request_ = 1'000'000;
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_LEASES_CORE_FIXTURE_H_
