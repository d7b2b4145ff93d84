#include "tests/simulation/world.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"

namespace tenure::testing {

using server::Grant;
using server::LeaseRegistry;
using server::Peer;
using server::RegionId;
using server::SessionId;

namespace {

constexpr server::Epoch kEpoch = 7;
constexpr size_t kMostProcesses = 6;
constexpr size_t kMostSessions = 3;
constexpr Bytes kTenantLimit = MiB(160);
// Beyond what any host gives to a process, so nobody of this name lives.
constexpr int kFirstPid = 1 << 23;
// cuda.h's CUDA_ERROR_LAUNCH_FAILED, after which a context is lost.
constexpr CUresult kLost = CUDA_ERROR_LAUNCH_FAILED;

template <typename T>
T Must(absl::StatusOr<T> value) {
  TENURE_CHECK(value.ok());
  return *std::move(value);
}

// The emulated driver's addresses are the host's, so a look costs no driver call that might fail.
volatile char* ByteAt(cuda::DevicePointer pointer) {
  return reinterpret_cast<volatile char*>(pointer);
}

}  // namespace

SimulatedDevice::SimulatedDevice()
    : driver_(Must(cuda::Driver::Load(Must(cuda::ResolveDriver("emulated"))))) {
  control_.emplace(Must(cuda::emulated::Control::Open(*driver_)));
  OpenAnew();
}

void SimulatedDevice::OpenAnew() {
  processes_.reset();
  device_.reset();
  device_ = Must(cuda::Device::Open(*driver_, "0"));
  processes_ =
      Must(cuda::ProcessList::Open(cuda::ProcessListLibraryFor(*driver_), device_->uuid()));
}

World::World(SimulatedDevice& simulated, uint64_t seed) : simulated_(simulated), random_(seed) {
  heap_ = std::make_unique<server::DeviceHeap>(
      simulated_.device(), health_,
      server::DeviceHeap::Options{kEpoch, MiB(Random(2) * 10), MiB(32 + Random(2) * 32),
                                  kTenantLimit});
  // Now and then a host where the list cannot be had.
  cuda::ProcessList* const list = Random(8) == 0 ? nullptr : &simulated_.processes();
  fence_ = std::make_unique<server::Fence>(*heap_, list, clock_);
  registry_ = std::make_unique<LeaseRegistry>(*heap_, *fence_, clock_,
                                              LeaseRegistry::Options{.epoch = kEpoch});
  server::OverdueWatch::Options options;
  options.is_connected = [this](const server::ProcessKey& key) {
    return std::any_of(processes_.begin(), processes_.end(), [&key](const Process& process) {
      return process.peer->key() == key && process.connected;
    });
  };
  overdue_ = std::make_unique<server::OverdueWatch>(*registry_, list, std::move(options));
  const cuda::MemoryInfo memory = Must(simulated_.device().GetMemoryInfo());
  other_at_start_ = memory.total - memory.free;
}

World::~World() {
  simulated_.control().Clear();
  for (const Process& process : processes_)
    simulated_.control().Pretend(process.peer->pid(), false);
  under_way_.clear();
  registry_->CloseAll();
}

std::string World::Run(int steps) {
  for (int i = 0; i < steps && broken_.empty() && !poisoned_; ++i) {
    Step();
    poisoned_ = !health_.Check().ok();
    CheckBooks();
  }
  if (broken_.empty()) End();
  return broken_;
}

void World::Broken(const std::string& rule) {
  if (broken_.empty()) broken_ = rule;
}

void World::Step() {
  if (processes_.empty() || (Random(10) == 0 && processes_.size() < kMostProcesses)) Spawn();
  const size_t index = Random(processes_.size());
  Process& process = processes_[index];
  switch (Random(24)) {
    case 0:
      return Kill(process);
    case 1:
    case 2:
      return Reap(process);
    case 3:
      return ForgetByDriver(process);
    case 4:
      return PassTime();
    case 5:
    case 6:
      return Prove();
    case 7:
      if (Random(8) == 0) FailDriver();
      return;
    case 8:
      if (under_way_.empty()) return;
      Attach(std::next(under_way_.begin(), static_cast<ptrdiff_t>(Random(under_way_.size()))));
      return;
    case 9:
    case 10:
      for (uint64_t i = Random(4); i > 0 && heap_->MaintainOnce(); --i) {
      }
      return;
    case 11:
      if (Random(4) == 0) heap_->Trim();
      return;
    default:
      break;
  }
  // The rest is what a living client does.
  if (!process.alive()) return;
  switch (Random(14)) {
    case 0:
      return OpenSession(process);
    case 1:
      return CloseSession(process);
    case 2:
      return KeepAlive(process);
    case 3:
      return RepeatAllocate(process);
    case 4:
      return RepeatFree(process);
    case 5:
      return Intrude(index);
    case 6:
      if (Random(6) == 0) Exec(process);
      return;
    case 7:
    case 8:
    case 9:
      return Free(process);
    default:
      return Allocate(index);
  }
}

void World::Spawn() {
  UniqueFd exit(eventfd(0, EFD_CLOEXEC));
  TENURE_CHECK(exit);
  Process process;
  const pid_t pid = kFirstPid + next_pid_++;
  process.peer = Peer::Imagined(std::move(exit), server::ProcessKey{pid, 1},
                                static_cast<uid_t>(1000 + Random(2)));
  simulated_.control().Pretend(pid, true);
  processes_.push_back(std::move(process));
  OpenSession(processes_.back());
}

World::Session* World::PickSession(Process& process) {
  return process.sessions.empty() ? nullptr : &process.sessions[Random(process.sessions.size())];
}

World::Session* World::FindSession(size_t process, SessionId id) {
  for (Session& session : processes_[process].sessions) {
    if (session.id == id) return &session;
  }
  return nullptr;
}

void World::OpenSession(Process& process) {
  if (process.sessions.size() >= kMostSessions || process.execed) return;
  Session session;
  session.open_request = next_request_++;
  session.id = Must(registry_->Open(process.peer, session.open_request, "simulated"));
  if (*registry_->Open(process.peer, session.open_request, "again") != session.id) {
    Broken("a repeated OpenSession opened another session");
  }
  process.sessions.push_back(std::move(session));
}

Bytes World::PickSize() {
  switch (Random(4)) {
    case 0:
      return Bytes(1 + Random(4096));
    case 1:
      return Bytes(1 + Random(MiB(1).value()));
    case 2:
      return Bytes(1 + Random(MiB(12).value()));
    default:
      return Random(8) == 0 ? MiB(100) : KiB(1 + Random(200));
  }
}

void World::CheckRefusal(const absl::Status& status, const Process& process) {
  if (!health_.Check().ok()) return;
  const bool allowed = absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
                       (absl::IsNotFound(status) && process.execed);
  if (!allowed) Broken(absl::StrCat("refused without a reason: ", status.ToString()));
}

void World::Allocate(size_t index) {
  Process& process = processes_[index];
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const uint64_t request = next_request_++;
  auto admitted = registry_->Admit(*process.peer, session->id, request);
  if (!admitted.ok()) return CheckRefusal(admitted.status(), process);
  if (!absl::IsUnavailable(registry_->Admit(*process.peer, session->id, request).status())) {
    Broken("the same request was admitted twice");
  }
  LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
  absl::StatusOr<server::Block> block = admission.pool().Allocate(server::BlockRequest{PickSize()});
  if (!block.ok()) return CheckRefusal(block.status(), process);
  under_way_.push_back(
      UnderWay{index, session->id, request, {std::move(admission), *std::move(block)}});
  // Most replies come before anything else happens.
  if (Random(4) != 0) Attach(std::prev(under_way_.end()));
}

void World::Attach(std::list<UnderWay>::iterator under_way) {
  UnderWay call = std::move(*under_way);
  under_way_.erase(under_way);
  const cuda::DevicePointer base = call.pending.block.region().base();
  std::vector<LeaseRegistry::Pending> pending;
  pending.push_back(std::move(call.pending));
  const absl::StatusOr<std::vector<Grant>> grants = registry_->Attach(std::move(pending));
  Session* const session = FindSession(call.process, call.session);
  const Process& process = processes_[call.process];
  if (!grants.ok()) {
    if (!absl::IsNotFound(grants.status()) || (session != nullptr && !process.execed)) {
      Broken(absl::StrCat("not attached: ", grants.status().ToString()));
    }
    return;
  }
  if (session == nullptr) return Broken("a block was granted to a session that is over");
  CheckGrant(call, grants->front(), base);
  session->blocks.push_back(Block{grants->front(), call.request});
}

void World::CheckGrant(const UnderWay& call, const Grant& grant, cuda::DevicePointer region_base) {
  const auto [found, is_new] = owners_.try_emplace(grant.region);
  Owner& owner = found->second;
  const Process& now = processes_[call.process];
  const bool changed_hands = !is_new && (owner.session != call.session || owner.given_back);
  if (changed_hands) {
    const Process& before = processes_[owner.process];
    const bool proven = before.exited && !before.listed;
    if (!proven && !owner.given_back) Broken("a region was given on without proof");
    if (owner.stays_in_tenant && before.peer->uid() != now.peer->uid()) {
      Broken("a region that a living session gave back went to another tenant");
    }
    for (const uint64_t offset : owner.soiled) {
      if (*ByteAt(region_base + offset) != 0)
        Broken("a region was given on with its last owner's bytes");
    }
    owner.soiled.clear();
  }
  owner.process = call.process;
  owner.session = call.session;
  owner.given_back = false;
  for (const Bytes offset : {grant.offset, grant.offset + grant.size - Bytes(1)}) {
    *ByteAt(region_base + offset.value()) = 'x';
    owner.soiled.push_back(offset.value());
  }
}

void World::NoteGivenBack(RegionId region) {
  Owner& owner = owners_[region];
  owner.given_back = true;
  owner.stays_in_tenant = true;
}

void World::RepeatAllocate(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr || session->blocks.empty()) return;
  const Block& block = session->blocks[Random(session->blocks.size())];
  const auto again = registry_->Admit(*process.peer, session->id, block.request);
  if (!again.ok()) {
    if (!process.execed) Broken("a repeated Allocate was refused");
    return;
  }
  const Grant* const grant = std::get_if<Grant>(&*again);
  if (grant == nullptr || grant->allocation != block.grant.allocation) {
    Broken("a repeated Allocate got another answer");
  }
}

void World::Free(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr || session->blocks.empty()) return;
  const size_t index = Random(session->blocks.size());
  const Grant grant = session->blocks[index].grant;
  const bool unmapped = Random(4) != 0;
  const uint64_t request = next_request_++;
  const absl::StatusOr<std::vector<RegionId>> idle =
      registry_->Free(*process.peer, session->id, request, grant.allocation, unmapped);
  if (!idle.ok()) return CheckRefusal(idle.status(), process);
  session->blocks.erase(session->blocks.begin() + static_cast<ptrdiff_t>(index));
  session->last_free = {request, grant.allocation};
  if (grant.size == grant.region_size && unmapped) NoteGivenBack(grant.region);
  if (!absl::IsNotFound(
          registry_->Free(*process.peer, session->id, next_request_++, grant.allocation, true)
              .status())) {
    Broken("a block was freed twice");
  }
  const uint32_t released = *registry_->ReleaseRegions(*process.peer, session->id, *idle);
  if (released != idle->size()) Broken("an idle region was not taken back");
  for (const RegionId region : *idle) NoteGivenBack(region);
}

void World::RepeatFree(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr || !session->last_free) return;
  const auto [request, allocation] = *session->last_free;
  const absl::Status again =
      registry_->Free(*process.peer, session->id, request, allocation, true).status();
  if (!again.ok() && !process.execed) Broken("a repeated Free was refused");
}

void World::Intrude(size_t index) {
  const size_t other = Random(processes_.size());
  if (other == index) return;
  const Session* const theirs = PickSession(processes_[other]);
  if (theirs == nullptr) return;
  const Peer& peer = *processes_[index].peer;
  if (!absl::IsNotFound(registry_->KeepAlive(peer, theirs->id)) ||
      !absl::IsNotFound(registry_->Admit(peer, theirs->id, 1).status()) ||
      !absl::IsNotFound(registry_->Close(peer, theirs->id))) {
    Broken("another process's session was let in");
  }
  Session* const own = PickSession(processes_[index]);
  if (own == nullptr || theirs->blocks.empty()) return;
  const absl::Status freed =
      registry_->Free(peer, own->id, next_request_++, theirs->blocks[0].grant.allocation, true)
          .status();
  if (!absl::IsNotFound(freed)) Broken("another process's block was freed");
}

void World::CloseSession(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const SessionId id = session->id;
  const absl::Status closed = registry_->Close(*process.peer, id);
  if (!closed.ok() && !process.execed) Broken("a session could not be closed");
  if (closed.ok()) {
    for (auto& [region, owner] : owners_) {
      if (owner.session == id && !owner.given_back) NoteGivenBack(region);
    }
  }
  process.sessions.erase(process.sessions.begin() + (session - process.sessions.data()));
}

void World::KeepAlive(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const absl::Status renewed = registry_->KeepAlive(*process.peer, session->id);
  if (!renewed.ok() && !process.execed) Broken("a keep-alive was refused");
}

void World::Kill(Process& process) {
  if (process.exited) return;
  const uint64_t one = 1;
  TENURE_CHECK(write(process.peer->pidfd(), &one, sizeof one) == sizeof one);
  process.exited = true;
  process.connected = false;
}

void World::Reap(Process& process) {
  if (!process.exited || process.reaped) return;
  registry_->Reclaim(process.peer->key());
  process.reaped = true;
  process.sessions.clear();
}

void World::ForgetByDriver(Process& process) {
  if (!process.exited || !process.listed) return;
  process.listed = false;
  simulated_.control().Pretend(process.peer->pid(), false);
}

void World::Exec(Process& process) {
  process.execed = true;
  process.connected = false;
  process.listed = false;
  simulated_.control().Pretend(process.peer->pid(), false);
}

void World::Prove() {
  fence_->Poll();
  overdue_->Look();
}

void World::PassTime() {
  constexpr std::array<int64_t, 4> kSeconds = {1, 5, 11, 100'000};
  clock_.Advance(absl::Seconds(kSeconds[Random(kSeconds.size())]));
}

void World::FailDriver() {
  struct Fault {
    const char* symbol;
    CUresult result;
  };
  constexpr CUresult kNvmlUnknownError = static_cast<CUresult>(999);
  constexpr std::array<Fault, 8> kFaults = {
      {{"cuMemAlloc_v2", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemAlloc_v2", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemAlloc_v2", kLost},
       {"cuMemFree_v2", kLost},
       {"cuMemsetD8Async", kLost},
       {"cuStreamSynchronize", kLost},
       {"cuIpcGetMemHandle", kLost},
       {"nvmlDeviceGetComputeRunningProcesses_v3", kNvmlUnknownError}}};
  const Fault& fault = kFaults[Random(kFaults.size())];
  simulated_.control().Fail(fault.symbol, 1 + Random(4), fault.result);
}

void World::CheckBooks() {
  heap_->CheckInvariants();
  registry_->CheckInvariants();
  if (poisoned_) return;
  const server::DeviceHeap::Snapshot now = Must(heap_->TakeSnapshot());
  if (now.other() != other_at_start_) {
    Broken(absl::StrCat("the books differ from the driver's by ", now.other().value(), " - ",
                        other_at_start_.value(), " bytes"));
  }
}

void World::End() {
  simulated_.control().Clear();
  if (poisoned_) {
    if (heap_->TakeFromDriver(MiB(2), server::Tenant{1000}).ok()) {
      Broken("memory was granted after the driver had failed");
    }
    return;
  }
  while (!under_way_.empty() && broken_.empty()) Attach(under_way_.begin());
  for (Process& process : processes_) {
    Kill(process);
    Reap(process);
    ForgetByDriver(process);
  }
  fence_->Poll();
  while (heap_->MaintainOnce()) {
  }
  fence_->Poll();
  if (!fence_->List().empty()) Broken("something stays in quarantine for ever");
  const server::Books books = heap_->books();
  if (books.leased != Bytes(0) || books.quarantined != Bytes(0)) Broken("memory has leaked");
  heap_->Trim();
  CheckBooks();
  if (heap_->books().reserved() != Bytes(0)) Broken("idle memory stays with the daemon");
}

}  // namespace tenure::testing
