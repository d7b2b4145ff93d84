// The table of published segments, of the sessions attached to them and of the claimed names.
#ifndef SERVER_LEASES_SEGMENT_TABLE_H_
#define SERVER_LEASES_SEGMENT_TABLE_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/bytes.h"
#include "server/identity/ids.h"
#include "server/identity/segment_key.h"
#include "server/identity/slot_table.h"
#include "server/leases/segment.h"

namespace tenure::server {

// The segments, the attachments of sessions to them, and the names that sessions have claimed
// because they are loading a segment.
//
// A segment belongs to its tenant and outlives its publisher. Its regions are the one exception to
// the rule that a region serves one session. When a segment ends, its regions go back to the
// driver: the daemon does not know which processes still map them, and the driver isolates them.
//
// Invariants
//  1. A name is published or claimed, never both.
//  2. Each attachment is in the set of its segment and in the holdings of its session.
//  3. region_bytes() is the sum over the regions of all segments.
// Thread safety: thread-compatible; the lease registry has it under its lock.
// Errors: NOT_FOUND: there is no such segment, or none that the caller may see; the two cases get
//     the same answer. ALREADY_EXISTS: the name is published. FAILED_PRECONDITION: other sessions
//     use it.
class SegmentTable {
 public:
  // The most names that one tenant may have at once, published and claimed together.
  static constexpr size_t kMostPerTenant = 4096;

  explicit SegmentTable(Epoch epoch) : attachments_(epoch) {}

  // Whether this session may publish under the name.
  absl::Status CheckPublish(const SegmentKey& key, SessionId session) const;
  // Ends the session's claim of the name. REQUIRES: CheckPublish accepted the name.
  void Publish(const SegmentKey& key, Segment segment);
  // Ends the name. The caller gets the blocks.
  absl::StatusOr<std::vector<SegmentBlock>> Unpublish(const SegmentKey& key);

  // Null when there is none that the tenant may attach.
  const Segment* Find(const SegmentKey& key, Tenant tenant) const;

  // Claims a name that is not published. False when another session has claimed it.
  bool Claim(const SegmentKey& key, SessionId session);
  // False when the session has no claim of it.
  bool EndClaim(const SegmentKey& key, SessionId session);

  // RESOURCE_EXHAUSTED when there are kMaxSlots attachments.
  absl::StatusOr<AttachmentId> Attach(const SegmentKey& key, SessionId session);
  // An attachment of an earlier life of the daemon, under the id that it had.
  void RestoreAttachment(AttachmentId id, const SegmentKey& key, SessionId session);
  // Null when the session has no such attachment.
  const Attachment* FindAttachment(AttachmentId id, SessionId session) const;
  const Segment& SegmentOf(const Attachment& attachment) const {
    return segments_.at(attachment.segment);
  }
  // REQUIRES: there is such an attachment.
  void Detach(AttachmentId id);

  // The attachments and claims of one session.
  struct Holdings {
    absl::btree_set<AttachmentId> attachments;
    absl::btree_set<SegmentKey> claims;
    bool empty() const { return attachments.empty() && claims.empty(); }
  };
  // Null when the session has neither.
  const Holdings* HoldingsOf(SessionId session) const;
  // Ends all segments and returns their blocks. REQUIRES: no session is attached or loading.
  std::vector<SegmentBlock> TakeAll();

  // REQUIRES: there is such an attachment.
  SessionId AttachedSession(AttachmentId id) const { return attachments_.Find(id)->session; }
  const std::map<SegmentKey, Segment>& segments() const { return segments_; }
  uint64_t attachments() const { return attachments_.size(); }
  Bytes region_bytes() const { return region_bytes_; }
  const std::map<SegmentKey, SessionId>& claims() const { return claims_; }

  // Restates the books from scratch and aborts when they do not balance.
  void CheckInvariants() const;

 private:
  void IndexAttachment(AttachmentId id, const SegmentKey& key, SessionId session);
  void EndClaimOf(std::map<SegmentKey, SessionId>::iterator claim);
  void DropIfEmpty(SessionId session);
  void CountName(uid_t owner);
  void UncountName(uid_t owner);

  std::map<SegmentKey, Segment> segments_;
  std::map<SegmentKey, SessionId> claims_;
  SlotTable<Attachment> attachments_;
  // No empty ones. Ordered sets, whose longest step does not grow with what a session holds.
  absl::flat_hash_map<SessionId, Holdings> by_session_;
  Bytes region_bytes_;
  absl::flat_hash_map<uid_t, size_t> names_;  // published and claimed, by owner; no zeros
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_SEGMENT_TABLE_H_
