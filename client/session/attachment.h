// An attachment to a segment, as the session keeps it.
#ifndef CLIENT_SESSION_ATTACHMENT_H_
#define CLIENT_SESSION_ATTACHMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/segment_layout.h"

namespace tenure {

// A segment as this process holds it.
struct Attachment {
  uint64_t id = 0;
  std::string digest;
  bool survives_daemon = false;
  std::vector<SegmentBlock> blocks;
  std::vector<SegmentTensor> tensors;
  std::vector<uint64_t> regions;  // that are mapped for it, by block
};

// What the daemon says to who would load a segment that is not published.
enum class Claim { kOurs, kOthers };

}  // namespace tenure

#endif  // CLIENT_SESSION_ATTACHMENT_H_
