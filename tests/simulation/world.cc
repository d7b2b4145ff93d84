#include "tests/simulation/world.h"

#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure::testing {

using server::LeaseRegistry;
using server::Peer;

namespace {

constexpr server::Epoch kEpoch = 7;
constexpr size_t kMostProcesses = 6;
constexpr Bytes kTenantLimit = MiB(160);
// cuda.h's CUDA_ERROR_LAUNCH_FAILED, after which a context is lost.
constexpr CUresult kLost = CUDA_ERROR_LAUNCH_FAILED;

}  // namespace

World::World(SimulatedDevice& simulated, uint64_t seed) : simulated_(simulated), random_(seed) {
  heap_ = std::make_unique<server::DeviceHeap>(
      simulated_.device(), health_,
      server::DeviceHeap::Options{kEpoch, MiB(Random(2) * 10), MiB(32 + Random(2) * 32),
                                  kTenantLimit, PickKind()});
  // One in eight worlds is a host on which the list of processes cannot be read.
  cuda::ProcessList* const list = Random(8) == 0 ? nullptr : &simulated_.processes();
  quarantine_ = server::Quarantine::Create(*heap_, clock_, journal_);
  fence_ = std::make_unique<server::Fence>(*quarantine_, list);
  registry_ = std::make_unique<LeaseRegistry>(*heap_, *quarantine_, journal_, clock_,
                                              LeaseRegistry::Options{.epoch = kEpoch});
  kill_hung_ = Random(3) == 0;
  grace_ = absl::Seconds(5 + Random(2) * 60);
  server::OverdueWatch::Options options;
  options.kill_hung = kill_hung_;
  options.grace = grace_;
  options.is_connected = [this](const server::ProcessKey& key) { return Of(key).connected; };
  options.is_stopped = [this](const Peer& peer) { return Of(peer.key()).stopped; };
  options.kill = [this](const Peer& peer) { return KillSilent(peer); };
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
  switch (Random(28)) {
    case 0:
      return Kill(process);
    case 1:
    case 2:
      return Reap(process);
    case 3:
      return ForgetByDriver(process);
    case 4:
      return Random(4) == 0 ? Pause() : PassTime();
    case 5:
    case 6:
    case 7:
      return Prove();
    case 8:
      if (Random(8) == 0) FailDriver();
      return;
    case 9:
    case 10:
      if (under_way_.empty()) return;
      return Attach(
          std::next(under_way_.begin(), static_cast<ptrdiff_t>(Random(under_way_.size()))));
    case 11:
    case 12:
      for (uint64_t i = Random(4); i > 0 && heap_->MaintainOnce(); --i) {
      }
      return;
    case 13:
      if (Random(4) == 0) heap_->Trim();
      return;
    case 14:
      if (process.stopped || Random(3) == 0) StopOrContinue(process);
      return;
    default:
      if (process.runs()) Act(index);
  }
}

void World::Act(size_t index) {
  Process& process = processes_[index];
  if (!process.execed) process.connected = true;
  switch (Random(20)) {
    case 0:
      return OpenSession(process);
    case 1:
      return CloseSession(process);
    case 2:
    case 3:
    case 4:
    case 5:
      return KeepAlive(process);
    case 6:
      return RepeatAllocate(process);
    case 7:
      return RepeatFree(process);
    case 8:
      return Intrude(index);
    case 9:
      if (Random(6) == 0) Exec(process);
      return;
    case 10:
    case 11:
    case 12:
      return Free(process);
    case 13:
    case 14:
      return AllocateBatch(index);
    case 15:
      return Disconnect(process);
    default:
      return Allocate(index);
  }
}

void World::FailDriver() {
  struct Fault {
    const char* symbol;
    CUresult result;
  };
  constexpr CUresult kNvmlUnknownError = static_cast<CUresult>(999);
  constexpr std::array<Fault, 14> kFaults = {
      {{"cuMemAlloc_v2", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemAlloc_v2", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemAlloc_v2", kLost},
       {"cuMemFree_v2", kLost},
       {"cuMemsetD8Async", kLost},
       {"cuStreamSynchronize", kLost},
       {"cuIpcGetMemHandle", kLost},
       {"cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY},
       {"cuMemCreate", kLost},
       {"cuMemMap", kLost},
       {"cuMemExportToShareableHandle", kLost},
       {"cuMemRelease", kLost},
       {"nvmlDeviceGetComputeRunningProcesses_v3", kNvmlUnknownError}}};
  const Fault& fault = kFaults[Random(kFaults.size())];
  simulated_.control().Fail(fault.symbol, 1 + Random(4), fault.result);
}

void World::CheckBooks() {
  heap_->CheckInvariants();
  registry_->CheckInvariants();
  CheckHeld();
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
    if (heap_->TakeFromDriver(MiB(2), server::Tenant{1000}, PickKind()).ok()) {
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
  if (!quarantine_->List().empty()) Broken("a region never leaves quarantine");
  const server::Books books = heap_->books();
  if (books.leased != Bytes(0) || books.quarantined != Bytes(0)) Broken("memory has leaked");
  heap_->Trim();
  CheckBooks();
  if (heap_->books().reserved() != Bytes(0)) Broken("idle memory stays with the daemon");
}

}  // namespace tenure::testing
