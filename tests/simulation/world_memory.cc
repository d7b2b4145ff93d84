// The steps of clients that concern memory, and the checks of what they get.

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "tests/simulation/world.h"

namespace tenure::testing {

using server::Grant;
using server::LeaseRegistry;
using server::Peer;
using server::RegionId;
using server::SessionId;

namespace {

constexpr uint64_t kMostInBatch = 5;

// The emulated driver's addresses are those of the host. So the bytes are read directly, without a
// driver call that might be made to fail.
volatile char* ByteAt(cuda::DevicePointer pointer) {
  return reinterpret_cast<volatile char*>(pointer);
}

}  // namespace

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

MemoryKind World::PickKind() { return Random(2) == 0 ? MemoryKind::kCudaIpc : MemoryKind::kVmmFd; }

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
  UnderWay call{index, session->id, {}, {}};
  const absl::Status added = AddToBatch(call, next_request_++, PickSize());
  if (!added.ok()) return CheckRefusal(added, process);
  under_way_.push_back(std::move(call));
  // Most allocations attach at once. The others stay between admission and attachment, and other
  // clients make steps meanwhile.
  if (Random(4) != 0) Attach(std::prev(under_way_.end()));
}

absl::Status World::AddToBatch(UnderWay& batch, uint64_t request, Bytes size) {
  const Process& process = processes_[batch.process];
  const Session& session = *FindSession(batch.process, batch.session);
  auto admitted = registry_->Admit(*process.peer, session.id, request);
  if (!admitted.ok()) return admitted.status();
  if (const Grant* const before = std::get_if<Grant>(&*admitted)) {
    const bool known =
        std::any_of(session.blocks.begin(), session.blocks.end(), [&](const Block& block) {
          return block.request == request && block.grant.allocation == before->allocation;
        });
    if (!known) Broken("a request of a batch got another's answer");
    return absl::OkStatus();
  }
  if (OverdueBy(session) > absl::ZeroDuration()) Broken("a silent client was granted something");
  if (!absl::IsUnavailable(registry_->Admit(*process.peer, session.id, request).status())) {
    Broken("the same request was admitted twice");
  }
  batch.requests.push_back(request);
  LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
  absl::StatusOr<server::Block> block =
      admission.pool().Allocate(server::BlockRequest{.size = size, .kind = PickKind()});
  if (!block.ok()) return block.status();
  batch.pending.push_back({std::move(admission), *std::move(block)});
  return absl::OkStatus();
}

uint64_t World::PickRequest(const Session& session) {
  if (Random(12) == 0 && !session.blocks.empty()) {
    return session.blocks[Random(session.blocks.size())].request;
  }
  if (Random(12) == 0) {
    for (const UnderWay& call : under_way_) {
      if (call.session == session.id) return call.requests.front();
    }
  }
  return next_request_++;
}

void World::AllocateBatch(size_t index) {
  Process& process = processes_[index];
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const Bytes held_before = HeldBy(session->id);
  UnderWay batch{index, session->id, {}, {}};
  absl::Status added;
  for (uint64_t left = 2 + Random(kMostInBatch - 1); left > 0 && added.ok(); --left) {
    added = AddToBatch(batch, PickRequest(*session), Random(10) == 0 ? MiB(100) : PickSize());
  }
  if (!added.ok()) {
    batch.pending.clear();
    CheckRolledBack(batch, held_before);
    // UNAVAILABLE: one of the requests is under way in another call.
    if (!absl::IsUnavailable(added)) CheckRefusal(added, process);
    return;
  }
  if (batch.pending.empty()) return;
  under_way_.push_back(std::move(batch));
  if (Random(2) != 0) Attach(std::prev(under_way_.end()));
}
Bytes World::HeldBy(SessionId id) const {
  for (const server::SessionInfo& info : registry_->ListSessions()) {
    if (info.id != id) continue;
    const server::SessionPoolStats stats = info.pool->stats();
    return stats.blocks.allocated_bytes + stats.closed_bytes;
  }
  return Bytes(0);
}

void World::CheckRolledBack(const UnderWay& batch, Bytes held_before) {
  if (HeldBy(batch.session) != held_before) Broken("a refused batch holds memory");
  for (const uint64_t request : batch.requests) {
    const auto again = registry_->Admit(*processes_[batch.process].peer, batch.session, request);
    if (absl::IsUnavailable(again.status())) Broken("a request of a refused batch is under way");
    if (again.ok() && std::holds_alternative<Grant>(*again)) {
      Broken("a request of a refused batch was granted");
    }
  }
}

void World::Attach(std::list<UnderWay>::iterator under_way) {
  UnderWay call = std::move(*under_way);
  under_way_.erase(under_way);
  std::vector<cuda::DevicePointer> bases;
  for (const LeaseRegistry::Pending& one : call.pending) {
    bases.push_back(one.block.region().base());
  }
  const absl::StatusOr<std::vector<Grant>> grants = registry_->Commit(std::move(call.pending));
  Session* const session = FindSession(call.process, call.session);
  const Process& process = processes_[call.process];
  if (!grants.ok()) {
    if (!absl::IsNotFound(grants.status()) || (session != nullptr && !process.execed)) {
      Broken(absl::StrCat("not attached: ", grants.status().ToString()));
    }
    return;
  }
  if (session == nullptr) return Broken("a block was granted to a session that has ended");
  if (grants->size() != bases.size()) return Broken("a part of a batch was granted");
  for (size_t i = 0; i < bases.size(); ++i) {
    CheckGrant(call.process, call.session, (*grants)[i], bases[i]);
    session->blocks.push_back(Block{(*grants)[i], call.requests[i]});
  }
  // As if the client had lost the answer: it sends the request again.
  if (Random(8) != 0) return;
  UnderWay again{call.process, call.session, {}, {}};
  for (const uint64_t request : call.requests) {
    if (!AddToBatch(again, request, KiB(1)).ok()) Broken("a repeated batch was refused");
  }
  if (!again.pending.empty()) Broken("a repeated batch was granted a second time");
}

void World::CheckGrant(size_t process, SessionId session, const Grant& grant,
                       cuda::DevicePointer region_base) {
  const auto [found, is_new] = owners_.try_emplace(grant.region);
  Owner& owner = found->second;
  const Process& now = processes_[process];
  const bool changed_hands = !is_new && (owner.session != session || owner.given_back);
  if (changed_hands) {
    const Process& before = processes_[owner.process];
    const bool proven = before.exited && !before.listed;
    if (!proven && !owner.given_back) Broken("a region was granted again without proof");
    if (owner.stays_in_tenant && before.peer->uid() != now.peer->uid()) {
      Broken("a region that a living session returned was granted to another tenant");
    }
    for (const uint64_t offset : owner.soiled) {
      if (*ByteAt(region_base + offset) != 0)
        Broken("a region was granted again with its last owner's bytes");
    }
    owner.soiled.clear();
  }
  owner.process = process;
  owner.session = session;
  owner.given_back = false;
  for (const Bytes offset : {grant.offset, grant.offset + grant.size - Bytes(1)}) {
    *ByteAt(region_base + offset.value()) = 'x';
    owner.soiled.push_back(offset.value());
  }
}

void World::NoteGivenBack(RegionId region, const Process& process, SessionId session) {
  // The region may be new here: if a batch was refused, none of its blocks was granted. The session
  // owns the region all the same.
  Owner& owner = owners_[region];
  owner.process = IndexOf(process);
  owner.session = session;
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
  if (grant.size == grant.region_size && unmapped)
    NoteGivenBack(grant.region, process, session->id);
  if (!absl::IsNotFound(
          registry_->Free(*process.peer, session->id, next_request_++, grant.allocation, true)
              .status())) {
    Broken("a block was freed twice");
  }
  const uint32_t released = *registry_->ReleaseRegions(*process.peer, session->id, *idle);
  if (released != idle->size()) Broken("an idle region was not taken back");
  for (const RegionId region : *idle) NoteGivenBack(region, process, session->id);
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
    Broken("a process used another process's session");
  }
  Session* const own = PickSession(processes_[index]);
  if (own == nullptr || theirs->blocks.empty()) return;
  const absl::Status freed =
      registry_->Free(peer, own->id, next_request_++, theirs->blocks[0].grant.allocation, true)
          .status();
  if (!absl::IsNotFound(freed)) Broken("another process's block was freed");
}

}  // namespace tenure::testing
