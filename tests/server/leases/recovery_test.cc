// Recovery: a new life of the daemon restores sessions and segments from journal and descriptors.

#include "server/leases/recovery.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <stdlib.h>

#include "common/cuda/emulated/control.h"
#include "common/limits.h"
#include "tests/server/leases/recorded_life.h"

namespace tenure::server {
namespace {

// sd_listen_fds(3): the descriptors that a supervisor passes on begin with this one.
constexpr int kFirstPassed = 3;
constexpr int kMostPassed = 16;

// Keeps the numbers that a supervisor would use free of other files, by opening something harmless
// under each that is closed.
void ReservePassedNumbers() {
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  // It may have got one of the numbers itself.
  null.Reset(fcntl(null.get(), F_DUPFD_CLOEXEC, kFirstPassed + kMostPassed));
  for (int fd = kFirstPassed; fd < kFirstPassed + kMostPassed; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) TENURE_CHECK(fcntl(null.get(), F_DUPFD_CLOEXEC, fd) == fd);
  }
}
// Before the driver and the tests open files.
[[maybe_unused]] const bool kReserved = (ReservePassedNumbers(), true);

// A supervisor that has kept descriptors, and receives the removals.
class Supervisor {
 public:
  Supervisor() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const std::string name = absl::StrCat("tenure-recovery-test-", getpid());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + 1, sizeof address.sun_path - 1);  // an abstract name
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    TENURE_CHECK(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0);
    TENURE_CHECK(setenv("NOTIFY_SOCKET", absl::StrCat("@", name).c_str(), 1) == 0);
  }
  ~Supervisor() { unsetenv("NOTIFY_SOCKET"); }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Starts the daemon's side with these descriptors, as sd_listen_fds_with_names(3) expects them.
  std::unique_ptr<FdStore> PassOn(const std::map<std::string, UniqueFd>& kept) {
    int next = kFirstPassed;
    std::string names;
    for (const auto& [name, fd] : kept) {
      TENURE_CHECK(next < kFirstPassed + kMostPassed && dup2(fd.get(), next++) >= 0);
      absl::StrAppend(&names, names.empty() ? "" : ":", name);
    }
    if (!kept.empty()) {
      setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
      setenv("LISTEN_FDS", absl::StrCat(kept.size()).c_str(), 1);
      setenv("LISTEN_FDNAMES", names.c_str(), 1);
    }
    absl::StatusOr<std::unique_ptr<FdStore>> store = FdStore::FromEnvironment(/*default_max=*/64);
    TENURE_CHECK(store.ok() && (*store)->available());
    return *std::move(store);
  }

 private:
  const UniqueFd socket_;
};

class RecoveryTest : public ::testing::Test {
 protected:
  static constexpr char kName[] = "weights";

  void SetUp() override {
    ReservePassedNumbers();
    first_ = std::make_unique<RecordedLife>(folder_.File("first"));
  }

  void Keep(RegionId region, UniqueFd fd) {
    kept_.emplace(DeviceHeap::StoreName(region), std::move(fd));
  }
  // A block whose descriptor the supervisor keeps.
  Grant AllocateKept(const ClientProcess& client, SessionId session, uint64_t request) {
    const Grant grant = first_->Allocate(client, session, MiB(4), request);
    Keep(grant.region, first_->Export(client, session, grant));
    return grant;
  }
  AttachmentId Publish(const ClientProcess& client, SessionId session,
                       const std::vector<AllocationId>& blocks, uint64_t request) {
    SegmentNotes notes;
    notes.allowed = {4321};
    notes.digest = std::string(kDigestBytes, 'd');
    notes.tensors = {SegmentTensor{"w", "F32", {256, 4}, 0, Bytes(4096), Bytes(4096)}};
    const absl::StatusOr<AttachmentId> published = first_->registry().Publish(
        *client.peer(), session, request, kName, blocks, std::move(notes));
    TENURE_CHECK(published.ok());
    return *published;
  }
  // The first life dies as it is now, and the second restores its sessions and segments.
  void StartNextLife() {
    const std::string path = first_->Died(folder_.File("second"));
    store_ = supervisor_.PassOn(kept_);
    kept_.clear();
    first_.reset();
    second_ = std::make_unique<RecordedLife>(path);
    absl::StatusOr<KeptMemory> kept = KeptMemory::Import(TestDevice(), second_->before(), *store_);
    ASSERT_TRUE(kept.ok()) << kept.status();
    absl::StatusOr<RecoveryReport> report =
        Restore(second_->before(), *std::move(kept), *store_, second_->heap(), second_->registry(),
                second_->journal());
    ASSERT_TRUE(report.ok()) << report.status();
    report_ = *std::move(report);
    second_->registry().CheckInvariants();
    second_->heap().CheckInvariants();
  }

  const TestFolder folder_;
  Supervisor supervisor_;
  std::map<std::string, UniqueFd> kept_;
  std::unique_ptr<RecordedLife> first_;
  std::unique_ptr<FdStore> store_;
  std::unique_ptr<RecordedLife> second_;
  RecoveryReport report_;
};

TEST_F(RecoveryTest, WithoutAnEarlierLifeThereIsNothingToRestore) {
  const std::unique_ptr<FdStore> store = supervisor_.PassOn({});
  const absl::StatusOr<RecoveryReport> report =
      Restore(first_->before(), *KeptMemory::Import(TestDevice(), first_->before(), *store), *store,
              first_->heap(), first_->registry(), first_->journal());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->previous_epoch, 0);
  EXPECT_EQ(report->sessions + report->segments + report->regions, 0u);
  EXPECT_EQ(first_->registry().totals().active_sessions, 0u);
}

TEST_F(RecoveryTest, SessionsAndTheirBlocksAreRestored) {
  const ClientProcess client;
  const SessionId session = first_->Open(client, /*request=*/77);
  const Grant first = AllocateKept(client, session, 1);
  const Grant second = AllocateKept(client, session, 2);
  const Epoch epoch = first_->registry().epoch();
  StartNextLife();

  EXPECT_EQ(report_.previous_epoch, epoch);
  EXPECT_EQ(report_.sessions, 1u);
  EXPECT_EQ(report_.blocks, 2u);
  EXPECT_EQ(report_.regions, 2u);
  EXPECT_EQ(report_.bytes, MiB(8));
  EXPECT_EQ(report_.lost_regions, 0u);
  EXPECT_EQ(second_->heap().books().leased, MiB(8));
  LeaseRegistry& registry = second_->registry();
  EXPECT_EQ(*registry.Open(client.peer(), 77, "again"), session) << "the client repeats its Open";
  const auto repeated = registry.Admit(*client.peer(), session, 2);
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_EQ(std::get<Grant>(*repeated).allocation, second.allocation);
  EXPECT_EQ(std::get<Grant>(*repeated).region, second.region);
  EXPECT_TRUE(registry.Free(*client.peer(), session, 3, first.allocation, true).ok());
  EXPECT_EQ(second_->heap().books().leased, MiB(4));
  EXPECT_EQ(second_->Journaled().sessions().at(session).blocks.size(), 1u);
}

TEST_F(RecoveryTest, ARestoredSessionIsNotOpenedInTheJournalAgain) {
  const ClientProcess client;
  const SessionId session = first_->Open(client);
  AllocateKept(client, session, 1);
  StartNextLife();
  const Grant fresh = second_->Allocate(client, session, MiB(2), 2);
  // A second opening would be a contradiction, and Journaled would not read the file.
  EXPECT_EQ(second_->Journaled().sessions().at(session).blocks.count(fresh.allocation), 1u);
  ASSERT_TRUE(second_->registry().Close(*client.peer(), session).ok());
  EXPECT_TRUE(second_->Journaled().sessions().empty());
}

TEST_F(RecoveryTest, SegmentsAttachmentsAndClaimsAreRestored) {
  const ClientProcess publisher;
  const ClientProcess loader;
  const SessionId session = first_->Open(publisher);
  const SessionId loading = first_->Open(loader);
  const Grant block = AllocateKept(publisher, session, 1);
  const AttachmentId attachment = Publish(publisher, session, {block.allocation}, 2);
  const SegmentKey key{publisher.peer()->uid(), kName};
  const SegmentKey claimed{publisher.peer()->uid(), "loading"};
  ASSERT_TRUE(
      first_->registry().AttachSegment(*loader.peer(), loading, 1, claimed, /*claim=*/true).ok());
  StartNextLife();

  EXPECT_EQ(report_.sessions, 2u);
  EXPECT_EQ(report_.segments, 1u);
  EXPECT_EQ(report_.blocks, 0u) << "the block has left the session";
  LeaseRegistry& registry = second_->registry();
  const std::vector<SegmentInfo> list = registry.ListSegments();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].key, key);
  EXPECT_EQ(list[0].attached, std::vector<SessionId>{session});
  EXPECT_EQ(list[0].size, MiB(4));
  EXPECT_EQ(list[0].allowed, std::vector<uid_t>{4321});
  EXPECT_EQ(list[0].digest, std::string(kDigestBytes, 'd'));
  EXPECT_TRUE(list[0].survives_daemon);
  EXPECT_EQ(list[1].key, claimed);
  EXPECT_EQ(list[1].loading, loading);

  const auto again = registry.AttachSegment(*publisher.peer(), session, 3, key, /*claim=*/false);
  ASSERT_TRUE(again.ok()) << again.status();
  const SegmentGrant& grant = std::get<SegmentGrant>(*again);
  EXPECT_EQ(grant.blocks.at(0).region, block.region);
  const SegmentTensor& tensor = grant.notes->tensors.at(0);
  EXPECT_EQ(tensor.name, "w");
  EXPECT_EQ(tensor.dtype, "F32");
  EXPECT_EQ(tensor.shape, (std::vector<uint64_t>{256, 4}));
  EXPECT_EQ(tensor.offset, Bytes(4096));
  EXPECT_EQ(tensor.size, Bytes(4096));
  EXPECT_TRUE(registry.DetachSegment(*publisher.peer(), session, attachment).ok());
  EXPECT_TRUE(registry.EndClaim(*loader.peer(), loading, claimed).ok());
}

TEST_F(RecoveryTest, ABlockWithoutItsDescriptorIsLostAndTheJournalIsTold) {
  const ClientProcess client;
  const SessionId session = first_->Open(client);
  const Grant kept = AllocateKept(client, session, 1);
  const Grant lost = first_->Allocate(client, session, MiB(4), 2);
  StartNextLife();

  EXPECT_EQ(report_.sessions, 1u);
  EXPECT_EQ(report_.blocks, 1u);
  EXPECT_EQ(report_.lost_regions, 1u);
  EXPECT_TRUE(absl::IsAborted(
      second_->registry().Free(*client.peer(), session, 3, lost.allocation, true).status()))
      << "as every id of a life before";
  const auto blocks = second_->Journaled().sessions().at(session).blocks;
  EXPECT_EQ(blocks.size(), 1u) << "no later life looks for it";
  EXPECT_EQ(blocks.count(kept.allocation), 1u);
}

TEST_F(RecoveryTest, ADescriptorThatNamesNoMemoryIsAsGoodAsNone) {
  const ClientProcess client;
  const SessionId session = first_->Open(client);
  const Grant grant = first_->Allocate(client, session, MiB(4), 1);
  Keep(grant.region, UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)));
  StartNextLife();
  EXPECT_EQ(report_.blocks, 0u);
  EXPECT_EQ(report_.lost_regions, 1u);
  EXPECT_EQ(store_->size(), 0u) << "the supervisor need not keep it";
  EXPECT_TRUE(second_->Journaled().sessions().at(session).blocks.empty());
}

// One call of the driver fails while kept memory is imported, or it and all later ones do.
TEST_F(RecoveryTest, NoFailureOfTheDriverGivesUpWhatWasKept) {
  const absl::StatusOr<cuda::emulated::Control> control =
      cuda::emulated::Control::Open(TestDevice().driver());
  if (!control.ok()) GTEST_SKIP() << "a real driver does not fail on demand";
  const ClientProcess client;
  const SessionId session = first_->Open(client);
  const Grant one = AllocateKept(client, session, 1);
  const Grant other = AllocateKept(client, session, 2);
  Publish(client, session, {other.allocation}, 3);
  const JournalState journaled = first_->Journaled();
  int refused = 0;
  const auto import = [&](bool expect_all) {
    const std::unique_ptr<FdStore> store = supervisor_.PassOn(kept_);
    const size_t stored = store->size();
    absl::StatusOr<KeptMemory> kept = KeptMemory::Import(TestDevice(), journaled, *store);
    control->Clear();
    EXPECT_EQ(store->size(), stored) << "the supervisor keeps everything for the next start";
    if (!kept.ok()) {
      EXPECT_TRUE(absl::IsInternal(kept.status())) << kept.status();
      EXPECT_FALSE(expect_all) << kept.status();
      ++refused;
      return;
    }
    for (const Grant& grant : {one, other}) {
      const std::optional<ExportedVmm> memory = kept->Take(grant.region);
      ASSERT_TRUE(memory) << "given up without proof";
      EXPECT_TRUE(TestDevice().ReleaseVmm(memory->memory).ok());
    }
    EXPECT_TRUE(kept->unused().empty());
  };
  for (const char* call : {"cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap",
                           "cuMemSetAccess", "cuMemCreate", "cuMemExportToShareableHandle"}) {
    for (const CUresult result : {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE,
                                  CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_UNKNOWN}) {
      for (uint64_t nth = 1; nth <= 4; ++nth) {
        control->Fail(call, nth, result);
        import(/*expect_all=*/false);
        control->FailFrom(call, nth, result);
        import(/*expect_all=*/false);
      }
    }
  }
  EXPECT_GT(refused, 0) << "no failure was met";
  import(/*expect_all=*/true);
  kept_.clear();
  first_.reset();
}

TEST_F(RecoveryTest, ASegmentWithoutOneOfItsDescriptorsIsLostAndItsNameIsFree) {
  const ClientProcess client;
  const SessionId session = first_->Open(client);
  const Grant kept = AllocateKept(client, session, 1);
  const Grant lost = first_->Allocate(client, session, MiB(4), 2);
  Publish(client, session, {kept.allocation, lost.allocation}, 3);
  StartNextLife();

  EXPECT_EQ(report_.segments, 0u);
  EXPECT_EQ(report_.lost_regions, 1u);
  EXPECT_TRUE(second_->registry().ListSegments().empty());
  EXPECT_TRUE(second_->Journaled().segments().empty());
  EXPECT_EQ(second_->heap().books().leased, Bytes(0)) << "the other block is of no use alone";
  const SegmentKey key{client.peer()->uid(), kName};
  const auto claim = second_->registry().AttachSegment(*client.peer(), session, 4, key, true);
  ASSERT_TRUE(claim.ok()) << claim.status();
  EXPECT_EQ(std::get<SegmentClaim>(*claim), SegmentClaim::kGranted);
}

TEST_F(RecoveryTest, DescriptorsThatNothingUsesAreClosed) {
  const ClientProcess client;
  AllocateKept(client, first_->Open(client), 1);
  UniqueFd memory(memfd_create("warm", MFD_CLOEXEC));
  ASSERT_TRUE(memory);
  Keep(/*region=*/12345, std::move(memory));
  StartNextLife();
  EXPECT_EQ(report_.closed_descriptors, 1u);
  EXPECT_EQ(report_.regions, 1u);
  EXPECT_EQ(store_->size(), 1u) << "here and at the supervisor";
}

TEST_F(RecoveryTest, DeadAndLivingProcessesAreToldApart) {
  const ClientProcess living;
  ClientProcess dead;
  AllocateKept(living, first_->Open(living), 1);
  AllocateKept(dead, first_->Open(dead), 1);
  const ProcessKey gone = dead.peer()->key();
  dead.Kill();
  StartNextLife();

  EXPECT_EQ(report_.sessions, 2u) << "that of the dead one, too, until it is reclaimed";
  ASSERT_EQ(report_.living.size(), 1u);
  EXPECT_EQ(report_.living[0]->key(), living.peer()->key());
  EXPECT_EQ(report_.dead, std::vector<ProcessKey>{gone});
  EXPECT_EQ(second_->registry().Reclaim(gone), 1u);
  EXPECT_EQ(second_->heap().books().quarantined, MiB(4));
  second_->fence().Poll();
  EXPECT_EQ(second_->heap().books().quarantined, Bytes(0)) << "a peer without a pidfd has exited";
  EXPECT_EQ(second_->Journaled().sessions().size(), 1u);
}

}  // namespace
}  // namespace tenure::server
