// The state that the journal's records describe: all that was live when the daemon's last life
// ended.
#ifndef SERVER_JOURNAL_JOURNAL_STATE_H_
#define SERVER_JOURNAL_JOURNAL_STATE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "server/identity/ids.h"
#include "server/identity/request_window.h"
#include "server/identity/segment_key.h"
#include "server/journal/journal_frame.h"
#include "server/journal/journal_regions.h"

namespace tenure::server {

// The journal's format: raised when an older daemon must not read what this one writes.
inline constexpr uint32_t kJournalFormat = 1;

// The place of a block.
JournalRegions::Range RangeOf(const journal::BlockGranted& block);

// The sessions, blocks, answered requests, claims, segments and attachments that are live after
// some records.
//
// Invariants:
//   1. A refused record changes nothing: the state is always that after a number of whole records.
//   2. Applying the records of ForEachRecord to an empty state gives an equal state.
//   3. Blocks lie in their regions as JournalRegions demands.
// Thread safety: thread-compatible.
// Errors: Apply returns DATA_LOSS for a record that contradicts the state, which no daemon writes,
//     and UNIMPLEMENTED for an opening of a newer format. The message begins with a verb whose
//     subject is the record.
class JournalState {
 public:
  struct Session {
    journal::SessionOpened opened;
    std::map<AllocationId, journal::BlockGranted> blocks;
    RequestWindow requests;
    std::set<SegmentKey> claims;
    std::map<uint64_t, uint64_t> attachments;  // attachment id: place in segments()
  };
  struct Segment {
    journal::Segment segment;
    bool published = true;  // false: its name is free, but sessions are still attached
    std::map<uint64_t, journal::SegmentAttached> attachments;
  };

  absl::Status Apply(const journal::Record& record);

  bool is_open() const { return opening_.format() != 0; }
  // Of the last life. Meaningful when is_open().
  const journal::Opening& opening() const { return opening_; }
  const std::map<SessionId, Session>& sessions() const { return sessions_; }
  // In the order of their publishing.
  const std::map<uint64_t, Segment>& segments() const { return segments_; }
  const std::map<SegmentKey, SessionId>& claims() const { return claims_; }

  // Calls `visit(record)` for the fewest records that lead to this state, until it returns an
  // error, which is returned then.
  absl::Status ForEachRecord(absl::FunctionRef<absl::Status(const journal::Record&)> visit) const;

 private:
  absl::Status On(const journal::Opening& change);
  absl::Status On(const journal::SessionOpened& change);
  absl::Status On(const journal::SessionEnded& change);
  absl::Status On(const journal::BlockGranted& change);
  absl::Status On(const journal::BlockFreed& change);
  absl::Status On(const journal::RequestsRemembered& change);
  absl::Status On(const journal::SegmentClaimed& change);
  absl::Status On(const journal::SegmentClaimEnded& change);
  absl::Status On(const journal::SegmentPublished& change);
  absl::Status On(const journal::SegmentUnpublished& change);
  absl::Status On(const journal::SegmentAttached& change);
  absl::Status On(const journal::SegmentDetached& change);

  // `how` begins with a verb whose subject is the record.
  static absl::Status Contradicts(absl::string_view how) { return absl::DataLossError(how); }
  // Whether the session holds the blocks that this record publishes, each alone in its region.
  absl::Status CheckOrigin(const journal::SegmentPublished& change, const Session& session) const;
  // To a published segment, under an id that is not in use.
  void Attach(Session& session, const journal::SegmentAttached& attached);
  void Detach(uint64_t place, uint64_t attachment);
  // Ends a segment that has neither a name nor an attachment.
  void EndIfUnused(uint64_t place);
  Session* Find(SessionId id);

  journal::Opening opening_;
  std::map<SessionId, Session> sessions_;
  std::map<AllocationId, SessionId> allocations_;
  JournalRegions regions_;
  std::map<SegmentKey, SessionId> claims_;
  std::map<uint64_t, Segment> segments_;
  std::map<SegmentKey, uint64_t> published_;  // place in segments_
  std::set<uint64_t> attachments_;
  uint64_t next_place_ = 1;
};

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_STATE_H_
