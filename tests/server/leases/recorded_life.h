// A life of the daemon's core that writes a journal, and the journal as the next life finds it.
#ifndef TESTS_SERVER_LEASES_RECORDED_LIFE_H_
#define TESTS_SERVER_LEASES_RECORDED_LIFE_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <stdlib.h>

#include "server/journal/journal_fold.h"
#include "server/leases/fence.h"
#include "server/leases/journal_opening.h"
#include "server/leases/lease_registry.h"
#include "tests/server/leases/core_fixture.h"
#include "tests/support/manual_clock.h"

namespace tenure::server {

// A folder that goes with the test.
class TestFolder {
 public:
  TestFolder() {
    path_ = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    TENURE_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The core, from its journal on. Blocks are of kind VMM_FD, each in a region of its own.
//
// Thread safety: thread-confined.
class RecordedLife {
 public:
  static constexpr char kDevice[] = "GPU-of-the-test";

  explicit RecordedLife(const std::string& path)
      : path_(path),
        before_(Must(ReadEarlierLife(path, kDevice, KeptForStart()))),
        file_(Must(ContinueJournal(path, before_))),
        processes_(Must(cuda::ProcessList::Open(cuda::ProcessListLibraryFor(TestDevice().driver()),
                                                TestDevice().uuid()))) {}
  ~RecordedLife() {
    registry_.CloseAll();
    while (heap_.MaintainOnce()) {
    }
    heap_.CheckInvariants();
  }

  SessionId Open(const ClientProcess& client, uint64_t request = 1) {
    return Must(registry_.Open(client.peer(), request, "recorded"));
  }
  Grant Allocate(const ClientProcess& client, SessionId session, Bytes size, uint64_t request) {
    auto admitted = Must(registry_.Admit(*client.peer(), session, request));
    auto& admission = std::get<LeaseRegistry::Admission>(admitted);
    Block block = Must(admission.pool().Allocate(
        BlockRequest{size, Bytes(256), Placement::kDirect, MemoryKind::kVmmFd}));
    std::vector<LeaseRegistry::Pending> pending;
    pending.push_back({std::move(admission), std::move(block)});
    return Must(registry_.Commit(std::move(pending))).front();
  }
  // A descriptor as a supervisor would keep it.
  UniqueFd Export(const ClientProcess& client, SessionId session, const Grant& grant) {
    return Must(registry_.Export(*client.peer(), RegionName{session, grant.allocation}));
  }

  // The journal's state now, read from the file.
  JournalState Journaled() const {
    journal::Opening now;
    std::ifstream boot("/proc/sys/kernel/random/boot_id");
    std::getline(boot, *now.mutable_boot_id());
    now.set_device_uuid(kDevice);
    return std::move(Must(ReadJournal(path_, now)).state);
  }
  // A copy of the journal as the next life would find it if this one died now.
  std::string Died(const std::string& path) const {
    std::filesystem::copy_file(path_, path);
    return path;
  }

  const JournalState& before() const { return before_.state; }
  DeviceHeap& heap() { return heap_; }
  LeaseJournal& journal() { return journal_; }
  LeaseRegistry& registry() { return registry_; }
  Quarantine& quarantine() { return *quarantine_; }
  Fence& fence() { return fence_; }

 private:
  template <typename T>
  static T Must(absl::StatusOr<T> value) {
    TENURE_CHECK(value.ok());
    return *std::move(value);
  }

  const std::string path_;
  testing::ManualClock clock_;
  Health health_;
  const EarlierLife before_;
  const std::unique_ptr<Journal> file_;
  std::unique_ptr<cuda::ProcessList> processes_;
  LeaseJournal journal_{file_.get(), health_};
  DeviceHeap heap_{TestDevice(), health_,
                   DeviceHeap::Options{before_.next_epoch, MiB(0), MiB(128)}};
  std::shared_ptr<Quarantine> quarantine_ = Quarantine::Create(heap_, clock_, journal_);
  Fence fence_{*quarantine_, processes_.get()};
  LeaseRegistry registry_{heap_, *quarantine_, journal_, clock_,
                          LeaseRegistry::Options{.epoch = before_.next_epoch}};
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_LEASES_RECORDED_LIFE_H_
