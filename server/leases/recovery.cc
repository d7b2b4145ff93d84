#include "server/leases/recovery.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

namespace tenure::server {
namespace {

class Recovering {
 public:
  Recovering(const JournalState& state, FdStore& store, DeviceHeap& heap, LeaseRegistry& registry,
             LeaseJournal& journal)
      : state_(state),
        store_(store),
        heap_(heap),
        registry_(registry),
        journal_(journal),
        fds_(store.TakeStored()) {}

  RecoveryReport Run() {
    report_.previous_epoch = static_cast<Epoch>(state_.opening().epoch());
    for (const auto& [id, session] : state_.sessions()) TakeSession(session);
    for (const auto& [place, segment] : state_.segments()) TakeSegment(segment);
    for (const auto& [key, session] : state_.claims()) registry_.RestoreClaim(key, session);
    for (const auto& [name, fd] : fds_) {
      ++report_.closed_descriptors;
      Forget(name);
    }
    return std::move(report_);
  }

 private:
  void TakeSession(const JournalState::Session& session) {
    const journal::SessionOpened& opened = session.opened;
    RestoredSession restored;
    restored.id = opened.session_id();
    restored.peer = FindPeer(opened);
    restored.name = opened.name();
    restored.open_request = opened.open_request_id();
    restored.requests = session.requests;
    const Tenant tenant = restored.peer->tenant();
    std::map<RegionId, RestoredSession::RegionWithBlocks> regions;
    std::set<RegionId> lost;
    for (const auto& [allocation, block] : session.blocks) {
      auto region = regions.find(block.region_id());
      if (region == regions.end()) {
        std::optional<Region> restored_region;
        if (!lost.contains(block.region_id())) {
          restored_region = RestoreRegion(block.region_id(), Bytes(block.region_bytes()), tenant);
        }
        if (!restored_region) {
          lost.insert(block.region_id());
          // So that no later life looks for it again.
          Note(journal_.BlockFreed(restored.id, allocation, /*request=*/0));
          continue;
        }
        region =
            regions
                .emplace(block.region_id(),
                         RestoredSession::RegionWithBlocks{*std::move(restored_region), {}, {}})
                .first;
      }
      region->second.allocations.push_back(allocation);
      region->second.blocks.push_back(
          SessionPool::RestoredBlock{Bytes(block.offset_bytes()), Bytes(block.size_bytes()),
                                     Bytes(block.requested_bytes()), block.direct()});
      ++report_.blocks;
    }
    for (auto& [id, region] : regions) restored.regions.push_back(std::move(region));
    ++report_.sessions;
    registry_.Restore(std::move(restored));
  }

  // The process that opened the session, or what is known of it.
  std::shared_ptr<const Peer> FindPeer(const journal::SessionOpened& opened) {
    const ProcessKey key{opened.pid(), opened.start_time()};
    absl::StatusOr<std::shared_ptr<const Peer>> peer =
        Peer::OfProcess(opened.pid(), opened.uid(), opened.gid());
    if (peer.ok() && (*peer)->key() == key) {
      report_.living.push_back(*peer);
      return *peer;
    }
    report_.dead.push_back(key);
    return Peer::Gone(key, opened.uid(), opened.gid());
  }

  void TakeSegment(const JournalState::Segment& recorded) {
    // Its name is free and its memory was on its way to the driver.
    if (!recorded.published) return;
    const journal::Segment& from = recorded.segment;
    const SegmentKey key{from.uid(), from.name()};
    Segment segment;
    for (const journal::Segment::Block& block : from.blocks()) {
      std::optional<Region> region =
          RestoreRegion(block.region_id(), Bytes(block.region_bytes()), Tenant{from.uid()});
      if (!region) break;
      segment.blocks.push_back(SegmentBlock{*std::move(region), Bytes(block.size_bytes())});
    }
    if (segment.blocks.size() != static_cast<size_t>(from.blocks_size())) {
      return LoseSegment(key, recorded, std::move(segment));
    }
    segment.notes.allowed.assign(from.allowed_uids().begin(), from.allowed_uids().end());
    segment.notes.digest = from.digest();
    for (const journal::Segment::Tensor& tensor : from.tensors()) {
      segment.notes.tensors.push_back(SegmentTensor{tensor.name(),
                                                    tensor.dtype(),
                                                    {tensor.shape().begin(), tensor.shape().end()},
                                                    tensor.block(),
                                                    Bytes(tensor.offset_bytes()),
                                                    Bytes(tensor.size_bytes())});
    }
    registry_.Restore(key, std::move(segment));
    ++report_.segments;
    for (const auto& [id, attachment] : recorded.attachments) {
      registry_.Restore(id, key, attachment.session_id());
    }
  }

  // Half a segment is none. The journal is told, so that the name can be used again.
  void LoseSegment(const SegmentKey& key, const JournalState::Segment& recorded, Segment segment) {
    spdlog::error("segment '{}' of uid:{} is lost: the descriptor of a block was not kept",
                  key.name, key.owner);
    for (SegmentBlock& block : segment.blocks) {
      heap_.Return(std::move(block.region), /*unmapped=*/false);
    }
    for (const auto& [id, attachment] : recorded.attachments) {
      Note(journal_.SegmentDetached(attachment.session_id(), id));
    }
    Note(journal_.SegmentUnpublished(key));
  }

  std::optional<Region> RestoreRegion(RegionId id, Bytes size, Tenant tenant) {
    const auto kept = fds_.find(DeviceHeap::StoreName(id));
    absl::Status failure = absl::NotFoundError("the supervisor did not keep it");
    if (kept != fds_.end()) {
      const std::string name = kept->first;
      UniqueFd fd = std::move(kept->second);
      fds_.erase(kept);
      absl::StatusOr<Region> region = heap_.RestoreRegion(id, size, std::move(fd), tenant);
      if (region.ok()) {
        ++report_.regions;
        report_.bytes += size;
        return *std::move(region);
      }
      failure = region.status();
      Forget(name);
    }
    ++report_.lost_regions;
    spdlog::error("region {} of {} is lost: {}", id, tenant.ToString(),
                  std::string(failure.message()));
    return std::nullopt;
  }

  // A record that cannot be written has failed the health, which the caller looks at.
  static void Note(const absl::Status& written) {
    if (!written.ok()) spdlog::error("{}", std::string(written.message()));
  }

  void Forget(const std::string& name) {
    if (absl::Status removed = store_.Remove(name); !removed.ok()) {
      spdlog::warn("the supervisor keeps {} for nobody: {}", name, std::string(removed.message()));
    }
  }

  const JournalState& state_;
  FdStore& store_;
  DeviceHeap& heap_;
  LeaseRegistry& registry_;
  LeaseJournal& journal_;
  std::map<std::string, UniqueFd> fds_;
  RecoveryReport report_;
};

}  // namespace

std::string RecoveryReport::ToString() const {
  return absl::StrCat(sessions, " sessions (", dead.size(), " of them of dead processes) with ",
                      blocks, " blocks, ", segments, " segments, ", FormatBytes(bytes), " in ",
                      regions, " regions; lost ", lost_regions, " regions; closed ",
                      closed_descriptors, " descriptors that nobody needs");
}

std::set<Epoch> EpochsIn(const JournalState& state) {
  std::set<Epoch> epochs = {static_cast<Epoch>(state.opening().epoch())};
  for (const auto& [id, session] : state.sessions()) {
    epochs.insert(EpochOf(id));
    for (const auto& [allocation, block] : session.blocks) {
      epochs.insert(EpochOf(allocation));
      epochs.insert(EpochOf(block.region_id()));
    }
  }
  for (const auto& [place, segment] : state.segments()) {
    for (const auto& [id, attachment] : segment.attachments) epochs.insert(EpochOf(id));
    for (const journal::Segment::Block& block : segment.segment.blocks()) {
      epochs.insert(EpochOf(block.region_id()));
    }
  }
  return epochs;
}

RecoveryReport Recover(const JournalState& state, FdStore& store, DeviceHeap& heap,
                       LeaseRegistry& registry, LeaseJournal& journal) {
  return Recovering(state, store, heap, registry, journal).Run();
}

}  // namespace tenure::server
