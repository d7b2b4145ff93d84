#include "tests/fuzz/request_world.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/unique_fd.h"

namespace tenure::testing {

using server::AdminHandlers;
using server::AllocationInfo;
using server::AllocatorHandlers;
using server::Peer;
using server::SegmentHandlers;
using server::SessionId;
using server::StatsHandlers;

namespace {

constexpr server::Epoch kEpoch = 7;
// The users of the processes: root, which may administer, one user with two, and another with one.
constexpr std::array<uid_t, 4> kUsers = {0, 70'001, 70'001, 70'002};
// Beyond the largest pid of Linux (2^22), so no process has such a pid.
constexpr pid_t kFirstPid = 1 << 23;

server::DeviceHeap::Options HeapOptions(Choices& choices) {
  return {kEpoch, MiB(choices.Next() % 4 == 3 ? 4 : 0), MiB(24), MiB(40)};
}

server::LeaseRegistry::Options RegistryOptions() {
  server::LeaseRegistry::Options options;
  options.epoch = kEpoch;
  options.max_sessions = 12;
  options.max_tenant_sessions = 8;
  return options;
}

template <typename Caller>
Caller As(const std::shared_ptr<const Peer>& peer) {
  if constexpr (std::is_same_v<Caller, const Peer&>) {
    return *peer;
  } else {
    return peer;
  }
}

// The session that a request names. nullopt for OpenSession, and for a batch, whose parts name it.
template <typename Request>
std::optional<SessionId> SessionOf(const Request& request) {
  if constexpr (requires { request.session_id(); }) {
    return request.session_id();
  } else {
    return std::nullopt;
  }
}

}  // namespace

RequestWorld::RequestWorld(SimulatedDevice& simulated, Choices& choices)
    : simulated_(simulated),
      heap_(simulated.device(), health_, HeapOptions(choices)),
      journal_(nullptr, health_),
      quarantine_(server::Quarantine::Create(heap_, clock_, journal_)),
      // One in eight worlds is a host on which the list of processes cannot be read.
      fence_(*quarantine_, choices.Next() % 8 == 7 ? nullptr : &simulated.processes()),
      registry_(heap_, *quarantine_, journal_, clock_, RegistryOptions()),
      tickets_(clock_),
      overdue_(registry_, &simulated.processes(),
               {.is_connected = [this](const server::ProcessKey& key) { return Lives(key); }}),
      reaper_(Must(server::Reaper::Create(registry_, fence_, overdue_))),
      stats_(health_, heap_, registry_, /*store=*/nullptr, recovery_),
      connections_(clock_, {.descriptors = 1}),
      allocator_({registry_, *reaper_, tickets_, simulated.device().total(), "GPU-fuzzed",
                  "emulated", MiB(1), server::Isolation::kTenant, /*survives=*/false}),
      segments_(registry_),
      statistics_({connections_, registry_, *quarantine_, stats_, clock_, http_, "GPU-fuzzed",
                   "fuzzed", "emulated", "0"}),
      admin_({registry_, heap_, [this] { registry_.Drain(); }}),
      next_pid_(kFirstPid) {}

RequestWorld::~RequestWorld() {
  in_progress_.clear();
  registry_.CloseAll();
}

void RequestWorld::Step(Choices choices) {
  switch (choices.Next() % 32) {
    case 0:
      return Call(allocator_, &AllocatorHandlers::OpenSession, choices);
    case 1:
      return Call(allocator_, &AllocatorHandlers::KeepAlive, choices);
    case 2:
      return Call(allocator_, &AllocatorHandlers::CloseSession, choices);
    case 3:
    case 4:
    case 5:
      return Allocate(choices);
    case 6:
      return FinishOldest();
    case 7:
      return Call(allocator_, &AllocatorHandlers::AllocateBatch, choices);
    case 8:
    case 9:
      return Call(allocator_, &AllocatorHandlers::Free, choices);
    case 10:
      return Call(allocator_, &AllocatorHandlers::FreeBatch, choices);
    case 11:
      return Call(allocator_, &AllocatorHandlers::ReleaseRegions, choices);
    case 12:
      return Call(statistics_, &StatsHandlers::GetStats, choices);
    case 13:
      return Call(statistics_, &StatsHandlers::ListSessions, choices);
    case 14:
      return Call(statistics_, &StatsHandlers::ListAllocations, choices);
    case 15:
      return Call(admin_, &AdminHandlers::Trim, choices);
    case 16:
      return Call(admin_, &AdminHandlers::Revoke, choices);
    case 17:
      return Call(admin_, &AdminHandlers::Drain, choices);
    case 18:
      return DieOneStep(PickProcess(choices));
    case 19:
      fence_.Poll();
      return;
    case 20:
      return overdue_.Check();
    case 21:
      return PassTime(choices);
    case 22:
      return Call(allocator_, &AllocatorHandlers::RequestRegionFd, choices);
    case 23:
    case 24:
      return Call(segments_, &SegmentHandlers::Publish, choices);
    case 25:
    case 26:
      return Call(segments_, &SegmentHandlers::Attach, choices);
    case 27:
      return Call(segments_, &SegmentHandlers::Detach, choices);
    case 28:
      return Call(segments_, &SegmentHandlers::Unpublish, choices);
    case 29:
      return Call(statistics_, &StatsHandlers::ListSegments, choices);
    default:
      heap_.MaintainOnce();
  }
}

template <typename Handlers, typename Caller, typename Request, typename Response,
          typename... Prepaid>
void RequestWorld::Call(Handlers& handlers,
                        absl::Status (Handlers::*handler)(Caller, const Request&, Response&,
                                                          Prepaid&...),
                        Choices& choices) {
  const size_t caller = PickProcess(choices);
  Request request;
  Fill(request, known_, caller, choices);
  const std::optional<SessionId> session = SessionOf(request);
  // UnpublishSegment needs no session of the caller.
  constexpr bool kTakesBack = std::is_same_v<Request, v1::UnpublishSegmentRequest>;
  constexpr bool kOfSession = std::is_same_v<Handlers, AllocatorHandlers> ||
                              (std::is_same_v<Handlers, SegmentHandlers> && !kTakesBack);
  const bool own = !kOfSession || !session || Owns(caller, *session);
  Response response;
  std::tuple<Prepaid...> prepaid;
  const absl::Status status = std::apply(
      [&](auto&... reported) {
        return (handlers.*handler)(As<Caller>(processes_[caller].peer), request, response,
                                   reported...);
      },
      prepaid);
  CheckStatus(status);
  if (!status.ok()) {
    // What was refused has given nothing back.
    TENURE_CHECK((!std::get<Prepaid>(prepaid) && ...));
    return;
  }
  TENURE_CHECK(own);
  if constexpr (std::is_same_v<Handlers, AdminHandlers>)
    TENURE_CHECK(processes_[caller].peer->uid() == 0);
  Note(caller, request, response);
}

void RequestWorld::Allocate(Choices& choices) {
  const size_t caller = PickProcess(choices);
  const bool at_once = choices.Next() % 4 != 3;
  v1::AllocateRequest request;
  Fill(request, known_, caller, choices);
  const bool own = Owns(caller, request.session_id());
  v1::AllocateResponse response;
  auto growth = allocator_.Allocate(*processes_[caller].peer, request, response);
  CheckStatus(growth.status());
  if (!growth.ok()) return;
  TENURE_CHECK(own);
  if (!growth->has_value()) return Note(caller, request, response);
  Growing call{caller, request, **std::move(growth)};
  if (at_once) return Finish(std::move(call));
  in_progress_.push_back(std::move(call));
}

void RequestWorld::FinishOldest() {
  if (in_progress_.empty()) return;
  Growing call = std::move(in_progress_.front());
  in_progress_.pop_front();
  Finish(std::move(call));
}

void RequestWorld::Finish(Growing call) {
  v1::AllocateResponse response;
  const absl::Status status = allocator_.Grow(std::move(call.growth), response);
  CheckStatus(status);
  if (status.ok()) Note(call.caller, call.request, response);
}

size_t RequestWorld::PickProcess(Choices& choices) {
  const size_t index = choices.Next() % processes_.size();
  if (processes_[index].peer == nullptr) Spawn(index);
  return index;
}

// Moves a process on by one stage: it exits; the daemon reclaims it; the driver drops it from its
// list; another process is started in its place.
void RequestWorld::DieOneStep(size_t index) {
  Process& process = processes_[index];
  if (!process.exited) {
    const uint64_t one = 1;
    TENURE_CHECK(write(process.peer->pidfd(), &one, sizeof one) == sizeof one);
    process.exited = true;
  } else if (!process.reaped) {
    registry_.Reclaim(process.peer->key());
    process.reaped = true;
  } else if (process.listed) {
    simulated_.control().Pretend(process.peer->pid(), false);
    process.listed = false;
  } else {
    Spawn(index);
  }
}

void RequestWorld::Spawn(size_t index) {
  UniqueFd exit(eventfd(0, EFD_CLOEXEC));
  TENURE_CHECK(exit);
  Process& process = processes_[index];
  process = Process();
  process.peer = Peer::Imagined(std::move(exit), {next_pid_++, 1}, kUsers[index]);
  simulated_.control().Pretend(process.peer->pid(), true);
  v1::OpenSessionRequest request;
  request.set_request_id(1);
  v1::OpenSessionResponse response;
  const absl::Status opened = allocator_.OpenSession(process.peer, request, response);
  CheckStatus(opened);
  if (opened.ok()) Note(index, request, response);
}

void RequestWorld::PassTime(Choices& choices) {
  constexpr std::array<int64_t, 4> kSeconds = {1, 5, 11, 100'000};
  const absl::Duration time = absl::Seconds(kSeconds[choices.Next() % kSeconds.size()]);
  // The longest one is a pause of the daemon. In the others it looks after its sessions.
  constexpr absl::Duration kLook = server::LeaseRegistry::kLongestLook;
  for (absl::Duration left = time; time < absl::Minutes(1) && left > kLook; left -= kLook) {
    clock_.Advance(kLook);
    registry_.SuspendOverdue();
  }
  clock_.Advance(time < absl::Minutes(1) ? kLook : time);
  registry_.SuspendOverdue();
}

bool RequestWorld::Lives(const server::ProcessKey& key) const {
  return std::any_of(processes_.begin(), processes_.end(), [&](const Process& process) {
    return process.peer != nullptr && process.peer->key() == key && !process.exited;
  });
}

bool RequestWorld::Owns(size_t process, SessionId session) const {
  const std::shared_ptr<const server::Lease> lease = registry_.FindLease(session);
  return lease != nullptr && lease->peer() == processes_[process].peer;
}

void RequestWorld::CheckStatus(const absl::Status& status) const {
  TENURE_CHECK(health_.Check().ok());
  TENURE_CHECK(status.ok() || absl::IsInvalidArgument(status) ||
               absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
               absl::IsNotFound(status) || absl::IsPermissionDenied(status) ||
               absl::IsAborted(status) || absl::IsUnavailable(status) ||
               absl::IsAlreadyExists(status));
}

void RequestWorld::Note(size_t caller, const v1::OpenSessionRequest&,
                        const v1::OpenSessionResponse& response) {
  TENURE_CHECK(Owns(caller, response.session_id()));
  known_[caller].sessions.push_back(response.session_id());
}

void RequestWorld::Note(size_t caller, const v1::AllocateRequest& request,
                        const v1::AllocateResponse& response) {
  NoteToken(caller, request.session_id(), response.token());
  v1::AllocateResponse again;
  const auto growth = allocator_.Allocate(*processes_[caller].peer, request, again);
  TENURE_CHECK(growth.ok() && !growth->has_value());
  TENURE_CHECK(again.token().allocation_id() == response.token().allocation_id());
}

void RequestWorld::Note(size_t caller, const v1::AllocateBatchRequest& request,
                        const v1::AllocateBatchResponse& response) {
  TENURE_CHECK(response.tokens_size() == request.requests_size());
  for (const v1::Token& token : response.tokens())
    NoteToken(caller, request.requests(0).session_id(), token);
}

void RequestWorld::NoteToken(size_t caller, SessionId session, const v1::Token& token) {
  TENURE_CHECK(Owns(caller, session));
  const auto [listed, next] = registry_.ListAllocations(0, server::kMaxSlots, session, {});
  const auto same = [&](const AllocationInfo& info) {
    return info.id == token.allocation_id() && info.region == token.region_id() &&
           info.offset.value() == token.offset_bytes() && info.size.value() == token.size_bytes();
  };
  TENURE_CHECK(std::count_if(listed.begin(), listed.end(), same) == 1);
  TENURE_CHECK(token.size_bytes() <= token.region_size_bytes() &&
               token.offset_bytes() <= token.region_size_bytes() - token.size_bytes());
  known_[caller].allocations.push_back(token.allocation_id());
  known_[caller].regions.push_back(token.region_id());
  CheckAllocations();
}

void RequestWorld::Note(size_t caller, const v1::RequestRegionFdRequest& request,
                        const v1::RequestRegionFdResponse& response) {
  for (const Process& other : processes_) {
    if (other.peer == nullptr || other.peer == processes_[caller].peer) continue;
    TENURE_CHECK(!tickets_.Redeem(response.ticket(), *other.peer).ok());
  }
  const auto claim = tickets_.Redeem(response.ticket(), *processes_[caller].peer);
  TENURE_CHECK(claim.ok() && claim->session == request.session_id());
  TENURE_CHECK(registry_.Export(*processes_[caller].peer, *claim).ok());
  TENURE_CHECK(!tickets_.Redeem(response.ticket(), *processes_[caller].peer).ok());
}

void RequestWorld::Note(size_t caller, const v1::PublishSegmentRequest&,
                        const v1::PublishSegmentResponse& response) {
  known_[caller].attachments.push_back(response.attachment_id());
}

void RequestWorld::Note(size_t caller, const v1::AttachSegmentRequest&,
                        const v1::AttachSegmentResponse& response) {
  if (response.state() != v1::AttachSegmentResponse::STATE_ATTACHED) return;
  known_[caller].attachments.push_back(response.attachment_id());
  for (const v1::SegmentTensor& tensor : response.tensors()) {
    TENURE_CHECK(tensor.block() < static_cast<uint32_t>(response.blocks_size()));
    const uint64_t block = response.blocks(static_cast<int>(tensor.block())).size_bytes();
    TENURE_CHECK(tensor.offset_bytes() <= block &&
                 tensor.size_bytes() <= block - tensor.offset_bytes());
  }
}

void RequestWorld::Note(size_t caller, const v1::ListAllocationsRequest&,
                        const v1::ListAllocationsResponse& response) {
  if (processes_[caller].peer->uid() == 0) return;
  for (const v1::Allocation& allocation : response.allocations()) {
    const auto lease = registry_.FindLease(allocation.session_id());
    TENURE_CHECK(lease->peer()->uid() == processes_[caller].peer->uid());
  }
}

void RequestWorld::CheckAllocations() const {
  auto [all, next] = registry_.ListAllocations(0, server::kMaxSlots, 0, {});
  std::sort(all.begin(), all.end(), [](const AllocationInfo& a, const AllocationInfo& b) {
    return std::pair(a.region, a.offset) < std::pair(b.region, b.offset);
  });
  for (size_t i = 1; i < all.size(); ++i) {
    if (all[i].region != all[i - 1].region) continue;
    TENURE_CHECK(all[i].session == all[i - 1].session);
    TENURE_CHECK(all[i].offset >= all[i - 1].offset + all[i - 1].size);
  }
}

void RequestWorld::CheckBooks() {
  heap_.CheckInvariants();
  registry_.CheckInvariants();
  CheckAllocations();
  static const Bytes other_at_first = Must(heap_.TakeSnapshot()).other();
  TENURE_CHECK(Must(heap_.TakeSnapshot()).other() == other_at_first);
}

void RequestWorld::End() {
  CheckBooks();
  while (!in_progress_.empty()) FinishOldest();
  for (size_t i = 0; i < processes_.size(); ++i) {
    while (!processes_[i].over()) DieOneStep(i);
  }
  fence_.Poll();
  for (const server::SegmentInfo& segment : registry_.ListSegments()) {
    TENURE_CHECK(segment.attached.empty() && segment.loading == 0);
    TENURE_CHECK(registry_.Unpublish(segment.key, /*force=*/false).ok());
  }
  while (heap_.MaintainOnce()) {
  }
  fence_.Poll();
  TENURE_CHECK(quarantine_->List().empty());
  TENURE_CHECK(heap_.books().leased == Bytes(0) && heap_.books().quarantined == Bytes(0));
  heap_.Trim();
  TENURE_CHECK(heap_.books().reserved() == Bytes(0));
  CheckBooks();
}

}  // namespace tenure::testing
