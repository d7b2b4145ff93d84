// Segments as values: named, sealed groups of blocks that other sessions may attach.
#ifndef SERVER_LEASES_SEGMENT_H_
#define SERVER_LEASES_SEGMENT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/identity/segment_key.h"
#include "server/memory/region.h"

namespace tenure::server {

using AttachmentId = uint64_t;

// Where a tensor lies in its segment, as the publisher says. The daemon checks that it lies inside
// its block.
struct SegmentTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  uint32_t block = 0;  // index into the segment's blocks
  Bytes offset;
  Bytes size;
};

// The description that the publisher gives of a segment.
struct SegmentNotes {
  std::vector<uid_t> allowed;  // users that may attach beside the owner
  std::string digest;          // of the contents: kDigestBytes bytes (common/limits.h), or empty
  std::vector<SegmentTensor> tensors;
};

// A region of a segment, and how many of its bytes belong to the segment, from the base on.
struct SegmentBlock {
  Region region;
  Bytes size;
};

// A published segment. All its blocks are of one memory kind.
struct Segment {
  // Shared with the answers to attaching sessions: it has up to 3 MB, and is never copied.
  std::shared_ptr<const SegmentNotes> notes;
  std::vector<SegmentBlock> blocks;
  BootTime published;
  absl::btree_set<AttachmentId> attachments;

  // The sum over the blocks, and over the regions in which they lie.
  Bytes size() const;
  Bytes region_bytes() const;
  // REQUIRES: there is a block.
  MemoryKind kind() const { return blocks.front().region.kind(); }
};

// Whether this tenant may attach the segment with this key: its owner may, and the users in
// `allowed`.
bool MayAttach(Tenant tenant, const SegmentKey& key, const std::vector<uid_t>& allowed);

// One session's use of one segment.
struct Attachment {
  SessionId session = 0;
  SegmentKey segment;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_SEGMENT_H_
