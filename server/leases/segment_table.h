// Named, sealed groups of blocks that other sessions may attach: weights and the like.
#ifndef SERVER_LEASES_SEGMENT_TABLE_H_
#define SERVER_LEASES_SEGMENT_TABLE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/identity/segment_key.h"
#include "server/identity/slot_table.h"
#include "server/memory/region.h"

namespace tenure::server {

using AttachmentId = uint64_t;

// Where a tensor lies in its segment, as its publisher says. The daemon checks that it lies inside.
struct SegmentTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  uint32_t block = 0;  // index into the segment's blocks
  Bytes offset;
  Bytes size;
};

// What the publisher says about a segment.
struct SegmentNotes {
  std::vector<uid_t> allowed;  // who may attach beside the owner
  std::string digest;          // of the contents; 32 bytes
  std::vector<SegmentTensor> tensors;
};

// A region that a segment consists of, and how much of it counts.
struct SegmentBlock {
  Region region;
  Bytes size;
};

struct Segment {
  SegmentNotes notes;
  std::vector<SegmentBlock> blocks;
  BootTime published;
  uint64_t attachments = 0;
  bool journaled = false;  // the journal knows it: it outlives the daemon's process

  Bytes size() const;
  Bytes region_bytes() const;
  bool Admits(const SegmentKey& key, Tenant tenant) const;
};

// One session's use of one segment.
struct Attachment {
  SessionId session = 0;
  SegmentKey segment;
};

// The segments, who is attached to which, and which names are spoken for by sessions that load.
//
// A segment belongs to its tenant and outlives its publisher. Its regions are the one exception
// from "a region serves one session"; when it is over they go back to the driver, which isolates by
// itself, since nobody knows who still has them mapped.
//
// Invariants: 1. a name is published or claimed, never both; 2. Segment::attachments counts the
// attachments to it; 3. region_bytes() is the sum over the regions of all segments.
// Thread safety: thread-compatible; the lease registry has it under its lock.
// Errors: NOT_FOUND: no such segment, or none that this caller may see: the two are not told apart.
// ALREADY_EXISTS: the name is taken. FAILED_PRECONDITION: others use it.
class SegmentTable {
 public:
  // Names that one tenant may have at once.
  static constexpr size_t kMostPerTenant = 4096;

  explicit SegmentTable(Epoch epoch) : attachments_(epoch) {}

  // Whether this session may publish under the name.
  absl::Status CheckPublish(const SegmentKey& key, SessionId session) const;
  // The name was checked. Ends the session's claim of it.
  void Publish(const SegmentKey& key, Segment segment);
  // Ends the name; its blocks are the caller's.
  absl::StatusOr<std::vector<SegmentBlock>> Unpublish(const SegmentKey& key);

  // Null when there is none that the tenant may attach.
  const Segment* Find(const SegmentKey& key, Tenant tenant) const;

  // Speaks for a name that nobody has published. False: another session has.
  bool Claim(const SegmentKey& key, SessionId session);
  // False: the session has no claim of it.
  bool EndClaim(const SegmentKey& key, SessionId session);

  // nullopt: there are kMaxSlots attachments.
  std::optional<AttachmentId> Attach(const SegmentKey& key, SessionId session);
  void Restore(AttachmentId id, const SegmentKey& key, SessionId session);
  // Null when the session has no such attachment.
  const Attachment* FindAttachment(AttachmentId id, SessionId session) const;
  const Segment& SegmentOf(const Attachment& attachment) const {
    return segments_.at(attachment.segment);
  }
  void Detach(AttachmentId id);

  // What a session has.
  std::vector<AttachmentId> AttachmentsOf(SessionId session) const;
  std::vector<SegmentKey> ClaimsOf(SessionId session) const;
  // The daemon ends: the blocks of all segments.
  std::vector<SegmentBlock> TakeAll();

  // The attachments to a segment.
  std::vector<std::pair<AttachmentId, SessionId>> AttachedTo(const SegmentKey& key) const;
  const std::map<SegmentKey, Segment>& segments() const { return segments_; }
  uint64_t attachments() const { return attachments_.size(); }
  Bytes region_bytes() const { return region_bytes_; }
  const std::map<SegmentKey, SessionId>& claims() const { return claims_; }

  void CheckInvariants() const;

 private:
  std::map<SegmentKey, Segment> segments_;
  std::map<SegmentKey, SessionId> claims_;
  SlotTable<Attachment> attachments_;
  absl::flat_hash_map<SessionId, std::vector<AttachmentId>> by_session_;  // no empty lists
  Bytes region_bytes_;
  absl::flat_hash_map<uid_t, size_t> names_;  // published and claimed, by owner; no zeros

  void CountName(uid_t owner);
  void UncountName(uid_t owner);
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_SEGMENT_TABLE_H_
