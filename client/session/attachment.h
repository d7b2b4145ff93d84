// A segment, as a session publishes it and attaches to it.
#ifndef CLIENT_SESSION_ATTACHMENT_H_
#define CLIENT_SESSION_ATTACHMENT_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "client/segment_layout.h"

namespace tenure {

// The description with which blocks are published.
struct Publication {
  std::string name;
  std::string digest;
  std::vector<uint32_t> allowed_uids;
  std::vector<SegmentTensor> tensors;
};

// One attachment to a segment, and the addresses of its blocks. A plain value: the Segment that
// holds it detaches.
struct Attachment {
  uint64_t id = 0;
  std::string digest;
  bool survives_daemon = false;
  std::vector<SegmentBlock> blocks;
  std::vector<SegmentTensor> tensors;
  // The region of each block that is mapped, in order of the blocks: fewer than blocks while they
  // are being mapped, none in a process that maps nothing.
  std::vector<uint64_t> regions;
};

// The answer to a caller that claims the loading of a segment that is not published.
enum class LoadClaim {
  kGranted,     // this caller, until EndLoading
  kHeldByOther  // another session, or another thread of this one
};
using AttachAnswer = std::variant<Attachment, LoadClaim>;

}  // namespace tenure

#endif  // CLIENT_SESSION_ATTACHMENT_H_
