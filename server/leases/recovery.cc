#include "server/leases/recovery.h"

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "common/status_macros.h"
#include "server/leases/segment_record.h"

namespace tenure::server {
namespace {

// One recovery, step by step.
class Recovery {
 public:
  Recovery(const JournalState& state, KeptMemory& kept, FdStore& store, DeviceHeap& heap,
           LeaseRegistry& registry, LeaseJournal& journal)
      : state_(state),
        kept_(kept),
        store_(store),
        heap_(heap),
        registry_(registry),
        journal_(journal) {}

  absl::StatusOr<RecoveryReport> Run() {
    // First, because it may fail: nothing has been restored yet, and nothing given up.
    TENURE_RETURN_IF_ERROR(FindPeers());
    report_.previous_epoch = static_cast<Epoch>(state_.opening().epoch());
    // Sessions before segments: attachments and claims name them.
    for (const auto& [id, session] : state_.sessions()) RestoreSession(session);
    for (const auto& [place, segment] : state_.segments()) RestoreSegment(segment);
    for (const auto& [key, session] : state_.claims()) registry_.RestoreClaim(key, session);
    // Last: from here on, what has no owner is given up.
    for (const std::string& name : kept_.unused()) {
      ++report_.closed_descriptors;
      RemoveFromStore(name);
    }
    return std::move(report_);
  }

 private:
  using RegionWithBlocks = RestoredSession::RegionWithBlocks;

  void RestoreSession(const JournalState::Session& session) {
    const journal::SessionOpened& opened = session.opened;
    RestoredSession restored;
    restored.id = opened.session_id();
    restored.peer = peers_.at(opened.session_id());
    restored.name = opened.name();
    restored.open_request = opened.open_request_id();
    restored.requests = session.requests;
    restored.regions = RestoreBlocks(session, restored.id, restored.peer->tenant());
    ++report_.sessions;
    registry_.RestoreSession(std::move(restored));
  }

  // The regions of the session's blocks, each once, with the blocks in it.
  std::vector<RegionWithBlocks> RestoreBlocks(const JournalState::Session& session, SessionId id,
                                              Tenant tenant) {
    // nullopt: the region is lost. Remembered, so that it is counted and logged once, not for each
    // of its blocks.
    std::map<RegionId, std::optional<RegionWithBlocks>> regions;
    for (const auto& [allocation, block] : session.blocks) {
      const auto [place, is_new] = regions.try_emplace(block.region_id());
      std::optional<RegionWithBlocks>& region = place->second;
      if (is_new) {
        std::optional<Region> restored =
            RestoreRegion(block.region_id(), Bytes(block.region_bytes()), tenant);
        if (restored) region.emplace(RegionWithBlocks{*std::move(restored), {}, {}});
      }
      if (!region) {
        LogFailure(journal_.BlockFreed(id, allocation, /*request=*/0));
        continue;
      }
      region->allocations.push_back(allocation);
      region->blocks.push_back(
          SessionPool::RestoredBlock{Bytes(block.offset_bytes()), Bytes(block.size_bytes()),
                                     Bytes(block.requested_bytes()), block.direct()});
      ++report_.blocks;
    }
    std::vector<RegionWithBlocks> restored;
    for (auto& [region_id, region] : regions) {
      if (region) restored.push_back(*std::move(region));
    }
    return restored;
  }

  // Finds the process of each session. A session whose process has exited meanwhile gets a peer
  // without a process.
  // Errors: whether one lives cannot be told.
  absl::Status FindPeers() {
    for (const auto& [id, session] : state_.sessions()) {
      const journal::SessionOpened& opened = session.opened;
      const ProcessKey key{opened.pid(), opened.start_time()};
      absl::StatusOr<std::shared_ptr<const Peer>> peer =
          Peer::OfProcess(opened.pid(), opened.uid(), opened.gid());
      // The pid may be another process's by now; the start time tells.
      if (peer.ok() && (*peer)->key() == key) {
        report_.living.push_back(*peer);
        peers_.emplace(opened.session_id(), *std::move(peer));
        continue;
      }
      if (!peer.ok() && !absl::IsNotFound(peer.status())) return peer.status();
      report_.dead.push_back(key);
      peers_.emplace(opened.session_id(), Peer::Gone(key, opened.uid(), opened.gid()));
    }
    return absl::OkStatus();
  }

  void RestoreSegment(const JournalState::Segment& recorded) {
    // An unpublished segment has no name any more, and its memory was on its way to the driver. Its
    // descriptors, if they are still kept, are closed with the others that have no owner.
    if (!recorded.published) return;
    const journal::Segment& from = recorded.segment;
    const SegmentKey key{from.uid(), from.name()};
    Segment segment;
    for (const journal::Segment::Block& block : from.blocks()) {
      std::optional<Region> region =
          RestoreRegion(block.region_id(), Bytes(block.region_bytes()), Tenant{from.uid()});
      if (!region) return DropSegment(key, recorded, std::move(segment));
      segment.blocks.push_back(SegmentBlock{*std::move(region), Bytes(block.size_bytes())});
    }
    segment.notes = std::make_shared<const SegmentNotes>(NotesFromJournal(from));
    registry_.RestoreSegment(key, std::move(segment));
    ++report_.segments;
    for (const auto& [id, attachment] : recorded.attachments) {
      registry_.RestoreAttachment(id, key, attachment.session_id());
    }
  }

  // A segment is of no use without all of its blocks. The records free its name for a new one.
  void DropSegment(const SegmentKey& key, const JournalState::Segment& recorded, Segment segment) {
    spdlog::error("segment '{}' of uid:{} is lost: the descriptor of a block was not kept",
                  key.name, key.owner);
    for (SegmentBlock& block : segment.blocks) {
      heap_.Return(std::move(block.region), /*unmapped=*/false);
    }
    for (const auto& [id, attachment] : recorded.attachments) {
      LogFailure(journal_.SegmentDetached(attachment.session_id(), id));
    }
    LogFailure(journal_.SegmentUnpublished(key));
  }

  // nullopt when the region is lost.
  std::optional<Region> RestoreRegion(RegionId id, Bytes size, Tenant tenant) {
    std::optional<ExportedVmm> memory = kept_.Take(id);
    if (!memory) {
      ++report_.lost_regions;
      spdlog::error("region {} of {} is lost: {}", id, tenant.ToString(),
                    kept_.unused().contains(DeviceHeap::StoreName(id))
                        ? "its descriptor names no memory any more"
                        : "the supervisor did not keep its descriptor");
      return std::nullopt;
    }
    ++report_.regions;
    report_.bytes += size;
    return heap_.RestoreRegion(id, *std::move(memory), tenant);
  }

  // A record that cannot be written has failed the health, which the caller checks afterwards.
  static void LogFailure(const absl::Status& written) {
    if (!written.ok()) spdlog::error("{}", std::string(written.message()));
  }

  void RemoveFromStore(const std::string& name) {
    if (absl::Status removed = store_.Remove(name); !removed.ok()) {
      spdlog::warn("the supervisor still keeps {}, which nothing uses: {}", name,
                   std::string(removed.message()));
    }
  }

  const JournalState& state_;
  KeptMemory& kept_;
  FdStore& store_;
  DeviceHeap& heap_;
  LeaseRegistry& registry_;
  LeaseJournal& journal_;
  std::map<SessionId, std::shared_ptr<const Peer>> peers_;
  RecoveryReport report_;
};

}  // namespace

std::string RecoveryReport::ToString() const {
  return absl::StrCat(sessions, " sessions (", dead.size(), " of them of dead processes) with ",
                      blocks, " blocks, ", segments, " segments, ", FormatBytes(bytes), " in ",
                      regions, " regions; lost ", lost_regions, " regions; closed ",
                      closed_descriptors, " descriptors that nothing uses");
}

absl::StatusOr<RecoveryReport> Restore(const JournalState& state, KeptMemory kept, FdStore& store,
                                       DeviceHeap& heap, LeaseRegistry& registry,
                                       LeaseJournal& journal) {
  return Recovery(state, kept, store, heap, registry, journal).Run();
}

}  // namespace tenure::server
